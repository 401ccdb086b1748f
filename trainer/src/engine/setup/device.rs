//! The device of a rank: one GPU of its host, or the CPU.
//!
//! One binary serves both: it links libtorch's CPU part only, and opens the CUDA part at start if it is in the same
//! folder. Opening it registers the CUDA backend.

use collectives::installed::loaded_file;
use std::path::{Path, PathBuf};
use tch::Device;

/// Values of `train.device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one.
    Auto,
    /// A GPU or nothing.
    Cuda,
    /// The CPU.
    Cpu,
}

/// Why the requested device is not available.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The job has GPUs, but libtorch cannot use them.
    #[error(
        "this job was allotted GPUs ({allotted}), but CUDA cannot be used: {reason}\nhint: set `train.device=cpu` to train on the CPU anyway"
    )]
    Unusable {
        /// The variable that names the GPUs.
        allotted: String,
        /// The reason.
        reason: String,
    },
    /// CUDA was requested but cannot be used.
    #[error(
        "train.device=cuda, but CUDA cannot be used: {reason}\nhint: install the CUDA set with `LIFT_CUDA=1 make setup`, or set `train.device=cpu`"
    )]
    NoCuda {
        /// The reason.
        reason: String,
    },
}

/// Opens libtorch's CUDA part if it is in the folder of the CPU part. Call it first in `main`, before any use of
/// libtorch. The error is the reason for [`choose`].
pub fn open_cuda() -> Result<(), String> {
    let Some(path) = cuda_part() else {
        return Err("libtorch here has no CUDA part (libtorch_cuda.so)".to_owned());
    };
    open_for_ever(&path)
}

/// libtorch's CUDA part, if it is in the folder of the CPU part.
pub fn cuda_part() -> Option<PathBuf> {
    let path = loaded_file("libtorch_cpu.so")?.parent()?.join("libtorch_cuda.so");
    path.exists().then_some(path)
}

/// The device of this rank. `local_rank` selects one of the GPUs of the host.
pub fn choose(
    wish: DeviceChoice,
    local_rank: usize,
    cuda: &Result<(), String>,
) -> Result<Device, DeviceError> {
    if wish == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let reason = match cuda {
        Ok(()) if tch::Cuda::is_available() => {
            let count = tch::Cuda::device_count().max(1) as usize;
            return Ok(Device::Cuda(local_rank % count));
        }
        Ok(()) => "libtorch's CUDA part finds no usable driver or GPU".to_owned(),
        Err(reason) => reason.clone(),
    };
    match (wish, allotted_gpus(|name| std::env::var(name).ok())) {
        (DeviceChoice::Cuda, _) => Err(DeviceError::NoCuda { reason }),
        (_, Some(allotted)) => Err(DeviceError::Unusable { allotted, reason }),
        _ => Ok(Device::Cpu),
    }
}

/// The variable that shows that a scheduler allotted GPUs to this job.
fn allotted_gpus(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"].into_iter().find_map(
        |name| {
            let value = get(name)?;
            let none = matches!(value.trim(), "" | "-1" | "NoDevFiles" | "none" | "void")
                || (name == "SLURM_GPUS_ON_NODE" && value.trim() == "0");
            (!none).then(|| format!("{name}={value}"))
        },
    )
}

fn open_for_ever(path: &Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    use std::error::Error;
    // SAFETY: libtorch's own library; its initialisers register the CUDA backend and nothing else.
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // Closing it would leave dangling registrations.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => {
            // The reason of the loader.
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("libtorch_cuda.so does not load ({reason})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_allotted_when_a_scheduler_says_so() {
        let with = |name: &'static str, value: &'static str| {
            allotted_gpus(move |n| (n == name).then(|| value.to_owned()))
        };
        assert_eq!(with("SLURM_STEP_GPUS", "0,1").as_deref(), Some("SLURM_STEP_GPUS=0,1"));
        assert_eq!(with("SLURM_GPUS_ON_NODE", "0"), None);
        assert_eq!(with("CUDA_VISIBLE_DEVICES", ""), None);
        assert_eq!(with("HOME", "/root"), None);
    }
}

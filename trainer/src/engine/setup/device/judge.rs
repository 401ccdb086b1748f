//! The decision between GPU and CPU, from facts alone, and the reason if no GPU can be used.

use super::DeviceChoice;
use super::facts::{GpuFacts, RuntimeFacts, RuntimeRefusal};
use super::library::CudaLibrary;
use serde::{Deserialize, Serialize};

/// Where a rank computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Judgement {
    /// On one of so many GPUs.
    Gpu { devices: usize },
    /// On the CPU; `surprising` if the host seems to have a GPU.
    Cpu { why: NoGpu, surprising: bool },
}

/// Why no GPU can be used, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NoGpu {
    pub(super) reason: String,
    pub(super) hint: String,
}

/// Why the requested device is not available.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The job has GPUs, but none can be used.
    #[error("this job was allotted GPUs ({allotted}), but CUDA cannot be used: {reason}\nhint: {hint}")]
    Allotted {
        /// The variable that names the GPUs.
        allotted: String,
        /// The reason.
        reason: String,
        /// The remedy.
        hint: String,
    },
    /// A GPU was requested, but none can be used.
    #[error("train.device=cuda, but CUDA cannot be used: {reason}\nhint: {hint}")]
    NoGpu {
        /// The reason.
        reason: String,
        /// The remedy.
        hint: String,
    },
    /// Some ranks have a GPU, and others do not.
    #[error("rank {gpu} computes on a GPU, but rank {cpu} on `{host}` cannot: {reason}\nhint: {hint}")]
    Mixed {
        /// The first rank with a GPU.
        gpu: usize,
        /// The first rank without one.
        cpu: usize,
        /// Host of the rank without a GPU.
        host: String,
        /// The reason.
        reason: String,
        /// The remedy.
        hint: String,
    },
}

/// What ends every hint.
const OR_CPU: &str = "or set train.device=cpu";

/// Decides where this rank computes.
pub(super) fn judge(choice: DeviceChoice, facts: &GpuFacts) -> Result<Judgement, DeviceError> {
    if choice != DeviceChoice::Cpu && facts.usable > 0 {
        return Ok(Judgement::Gpu { devices: facts.usable });
    }
    let why = NoGpu::of(choice, facts);
    match (choice, &facts.allotted) {
        (DeviceChoice::Cuda, _) => Err(DeviceError::NoGpu { reason: why.reason, hint: why.hint }),
        (DeviceChoice::Auto, Some(allotted)) => {
            Err(DeviceError::Allotted { allotted: allotted.clone(), reason: why.reason, hint: why.hint })
        }
        _ => {
            let surprising = choice == DeviceChoice::Auto && facts.suggest_a_gpu();
            Ok(Judgement::Cpu { why, surprising })
        }
    }
}

impl NoGpu {
    fn new(reason: impl Into<String>, hint: &str) -> Self {
        Self { reason: reason.into(), hint: format!("{hint}, {OR_CPU}") }
    }

    pub(super) fn of(choice: DeviceChoice, facts: &GpuFacts) -> Self {
        if choice == DeviceChoice::Cpu {
            return Self::new("it has train.device=cpu", "give all ranks the same configuration");
        }
        let mut why = Self::cause(facts);
        if !facts.signs.is_empty() {
            why.reason = format!("{} (found: {})", why.reason, facts.signs.join(", "));
        }
        why
    }

    /// The first obstacle on the way from the user to the GPU.
    fn cause(facts: &GpuFacts) -> Self {
        if facts.hidden {
            return Self::new("CUDA_VISIBLE_DEVICES hides every GPU", "unset CUDA_VISIBLE_DEVICES");
        }
        if let Some(CudaLibrary::Absent(path)) = &facts.library {
            let versions = facts.runtime.as_ref().map(|found| format!("; {}", found.versions()));
            let reason = format!(
                "this libtorch is built for the CPU only: `{}` does not exist{}",
                path.display(),
                versions.unwrap_or_default()
            );
            return Self::new(
                reason,
                "install a CUDA build of torch 2.11 with pip, or run `LIFT_CUDA=1 make setup` in the sources",
            );
        }
        match &facts.runtime {
            Some(runtime) if runtime.devices.is_err() || facts.library == Some(CudaLibrary::Opened) => {
                runtime.why(facts.usable)
            }
            _ => match &facts.library {
                Some(CudaLibrary::Broken(reason)) => Self::new(
                    format!("libtorch_cuda.so does not load: {reason}"),
                    "install torch 2.11 with the CUDA packages it requires, or run `LIFT_CUDA=1 make setup` in the sources",
                ),
                _ => Self::new("the CUDA runtime (libcudart.so) was not found", "install the CUDA runtime"),
            },
        }
    }
}

impl RuntimeFacts {
    /// Both versions.
    fn versions(&self) -> String {
        let driver = self.driver.map_or_else(
            || "no driver was found".to_owned(),
            |version| format!("the driver supports CUDA {version}"),
        );
        let runtime = self.version.map(|version| format!(", the runtime is CUDA {version}"));
        driver + &runtime.unwrap_or_default()
    }

    fn why(&self, usable: usize) -> NoGpu {
        let versions = self.versions();
        match &self.devices {
            Err(refusal) => {
                NoGpu::new(format!("cudaGetDeviceCount: {refusal}; {versions}"), &self.remedy(refusal.code))
            }
            Ok(0) => NoGpu::new(format!("CUDA finds no GPU; {versions}"), LOOK),
            Ok(devices) => NoGpu::new(
                format!("CUDA counts {devices} devices, but libtorch can use {usable}; {versions}"),
                "compare the versions of libtorch and of the driver",
            ),
        }
    }

    /// What helps against an error of the runtime, by `cudaError_t`.
    fn remedy(&self, code: i32) -> String {
        let text = match (code, self.driver, self.version) {
            (35, None, _) => "install NVIDIA's driver, or start the container with its GPUs (`--gpus all`)",
            (35, Some(driver), Some(runtime)) => {
                return format!(
                    "update NVIDIA's driver to one for CUDA {runtime}, install a libtorch for CUDA {driver}"
                );
            }
            (46, ..) => "end the program that has reserved the GPU (`nvidia-smi` shows it)",
            (802, ..) => "start the fabric manager (`systemctl start nvidia-fabricmanager`)",
            (803, ..) => {
                "restart the machine, or the container: the driver's library and its kernel module have different \
                 versions"
            }
            (804, ..) => {
                "update NVIDIA's driver, or remove CUDA's compatibility libraries (cuda-compat) from the path"
            }
            _ => LOOK,
        };
        text.to_owned()
    }
}

const LOOK: &str = "look at the GPUs with `nvidia-smi -L`; a container needs `--gpus all`";

impl std::fmt::Display for RuntimeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{} ({})", self.message, self.name)
        }
    }
}

#[cfg(test)]
mod tests;

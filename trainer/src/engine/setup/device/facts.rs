//! What a host says about its GPUs: files of the driver, variables of schedulers and containers, CUDA, libtorch.

use super::DeviceChoice;
use super::library::{self, CudaLibrary};
use collectives::gpu::{CudaError, CudaRuntime, CudaVersion};
use protocol::gpus::{ALLOTMENTS, CUDA_VISIBLE, VISIBLE, driver_version, names_none, promise};
use std::path::Path;

/// Facts about the GPUs of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GpuFacts {
    /// The variable by which a scheduler allots GPUs to this job, with its value.
    pub(super) allotted: Option<String>,
    /// Signs of a GPU: files of the driver, variables that make GPUs visible.
    pub(super) signs: Vec<String>,
    /// Whether `CUDA_VISIBLE_DEVICES` hides every GPU.
    pub(super) hidden: bool,
    /// State of libtorch's CUDA part; `None` if it was not asked.
    pub(super) library: Option<CudaLibrary>,
    /// The answer of the CUDA runtime; `None` if it was not asked or was not found.
    pub(super) runtime: Option<RuntimeFacts>,
    /// GPUs that libtorch can use.
    pub(super) usable: usize,
}

/// Answers of the CUDA runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuntimeFacts {
    pub(super) version: Option<CudaVersion>,
    /// The newest version that the driver supports; `None` without a driver.
    pub(super) driver: Option<CudaVersion>,
    /// Number of devices, or why there is none.
    pub(super) devices: Result<usize, RuntimeRefusal>,
}

/// An error of the CUDA runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuntimeRefusal {
    /// `cudaError_t`.
    pub(super) code: i32,
    pub(super) name: String,
    pub(super) message: String,
}

impl GpuFacts {
    /// Gathers the facts that the choice needs; the CPU needs none. Opens libtorch's CUDA part.
    pub(super) fn gather(choice: DeviceChoice) -> Self {
        let mut facts = Self::of_host(Path::new("/"), |name| std::env::var(name).ok());
        if choice == DeviceChoice::Cpu {
            return facts;
        }
        let library = library::open();
        let is_opened = library == CudaLibrary::Opened;
        facts.library = Some(library);
        if is_opened || choice == DeviceChoice::Cuda || facts.suggest_a_gpu() {
            facts.runtime = RuntimeFacts::ask();
        }
        // libtorch warns of such a driver in its own words.
        let is_refused = facts.runtime.as_ref().is_some_and(RuntimeFacts::is_refused_by_driver);
        if is_opened && !is_refused && tch::Cuda::is_available() {
            facts.usable = usize::try_from(tch::Cuda::device_count()).unwrap_or_default();
        }
        facts
    }

    /// What files below `root` and variables tell.
    fn of_host(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| promise(name, &variable);
        let mut signs = Vec::new();
        if root.join("dev/nvidia0").exists() {
            signs.push("/dev/nvidia0".to_owned());
        }
        if let Ok(version) = std::fs::read_to_string(root.join("proc/driver/nvidia/version")) {
            let number = driver_version(&version).map(|number| format!(" {number}")).unwrap_or_default();
            signs.push(format!("NVIDIA's driver{number}"));
        }
        let gpus = std::fs::read_dir(root.join("proc/driver/nvidia/gpus")).map_or(0, Iterator::count);
        if gpus > 0 {
            signs.push(format!("{gpus} in /proc/driver/nvidia/gpus"));
        }
        signs.extend(VISIBLE.into_iter().filter_map(set));
        Self {
            allotted: ALLOTMENTS.into_iter().find_map(set),
            signs,
            hidden: variable(CUDA_VISIBLE).is_some_and(|value| names_none(&value)),
            library: None,
            runtime: None,
            usable: 0,
        }
    }

    /// Whether the host seems to have a GPU that this process may use.
    pub(super) fn suggest_a_gpu(&self) -> bool {
        !self.hidden && (self.allotted.is_some() || !self.signs.is_empty())
    }
}

impl RuntimeFacts {
    fn ask() -> Option<Self> {
        let runtime = CudaRuntime::open().ok()?;
        let devices = runtime.device_count().map_err(RuntimeRefusal::of);
        Some(Self {
            version: runtime.version().ok(),
            driver: runtime.driver_version().ok().flatten(),
            devices,
        })
    }

    /// Whether there is a driver with which this runtime does not work.
    fn is_refused_by_driver(&self) -> bool {
        self.driver.is_some() && self.devices.is_err()
    }
}

impl RuntimeRefusal {
    fn of(error: CudaError) -> Self {
        match error {
            CudaError::Cuda { code, name, message, .. } => Self { code, name, message },
            other => Self { code: -1, name: String::new(), message: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(root: &Path, variables: &[(&str, &str)]) -> GpuFacts {
        GpuFacts::of_host(root, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn files_of_the_driver_are_signs_of_a_gpu() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(facts(root.path(), &[]).signs, [""; 0]);
        for folder in ["dev", "proc/driver/nvidia/gpus/0000:01:00.0", "proc/driver/nvidia/gpus/0000:02:00.0"]
        {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("dev/nvidia0"), "").unwrap();
        let version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 13.2\n";
        std::fs::write(root.path().join("proc/driver/nvidia/version"), version).unwrap();
        let found = facts(root.path(), &[("CUDA_VISIBLE_DEVICES", "0,1")]);
        let expected = [
            "/dev/nvidia0",
            "NVIDIA's driver 580.65.06",
            "2 in /proc/driver/nvidia/gpus",
            "CUDA_VISIBLE_DEVICES=0,1",
        ];
        assert_eq!(found.signs, expected);
        assert!(found.suggest_a_gpu());
        let hidden = facts(root.path(), &[("CUDA_VISIBLE_DEVICES", "")]);
        assert!(hidden.hidden && !hidden.suggest_a_gpu());
    }

    #[test]
    fn gpus_are_allotted_when_a_scheduler_says_so() {
        let nowhere = Path::new("/nonexistent");
        let with = |name, value| facts(nowhere, &[(name, value)]);
        assert_eq!(with("SLURM_STEP_GPUS", "0,1").allotted.as_deref(), Some("SLURM_STEP_GPUS=0,1"));
        assert_eq!(with("SLURM_GPUS_ON_NODE", "0").allotted, None);
        assert_eq!(with("NVIDIA_VISIBLE_DEVICES", "all").signs, ["NVIDIA_VISIBLE_DEVICES=all"]);
        for (name, value) in
            [("NVIDIA_VISIBLE_DEVICES", "void"), ("CUDA_VISIBLE_DEVICES", ""), ("HOME", "/root")]
        {
            assert!(!with(name, value).suggest_a_gpu(), "{name}");
        }
    }
}

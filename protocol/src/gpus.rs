//! What files and variables tell about the GPUs of a machine, without CUDA: for the launcher and the trainer alike.

use std::path::{Path, PathBuf};

/// Variables with which a scheduler allots GPUs to a job.
pub const ALLOTMENTS: [&str; 3] = ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", GPUS_ON_NODE];
/// Variables that make GPUs visible to a container or a program.
pub const VISIBLE: [&str; 2] = ["NVIDIA_VISIBLE_DEVICES", CUDA_VISIBLE];
/// The variable by which CUDA selects devices.
pub const CUDA_VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
/// The only one of these variables with a number of GPUs, where 0 is none and not the first GPU.
const GPUS_ON_NODE: &str = "SLURM_GPUS_ON_NODE";

/// Whether a list of devices means none.
pub fn names_none(devices: &str) -> bool {
    ["", "-1", "NoDevFiles", "none", "void", "no_gpu"].contains(&devices.trim())
}

/// `NAME=VALUE` of one of these variables, if it promises a GPU.
pub fn promise(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let value = variable(name)?;
    let is_none = names_none(&value) || (name == GPUS_ON_NODE && value.trim() == "0");
    (!is_none).then(|| format!("{name}={value}"))
}

/// The files `nvidia0`, `nvidia1`, ... in `folder`, which is `/dev`.
pub fn device_files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(move |entry| is_gpu(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
}

/// The version in `/proc/driver/nvidia/version`:
/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ...`.
pub fn driver_version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    text.lines().next()?.split_whitespace().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_promises_gpus_or_none() {
        let with = |name: &str, value: &str| promise(name, |_| Some(value.to_owned()));
        assert_eq!(with(CUDA_VISIBLE, "0").as_deref(), Some("CUDA_VISIBLE_DEVICES=0"));
        assert_eq!(with(ALLOTMENTS[1], "0,1").as_deref(), Some("SLURM_STEP_GPUS=0,1"));
        for (name, value) in
            [(CUDA_VISIBLE, ""), (CUDA_VISIBLE, "-1"), (VISIBLE[0], "void"), (GPUS_ON_NODE, "0")]
        {
            assert_eq!(with(name, value), None, "{name}={value}");
        }
        assert_eq!(promise(CUDA_VISIBLE, |_| None), None);
    }

    #[test]
    fn device_files_of_gpus_have_a_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia1", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia", "null"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(device_files(folder.path()).count(), 3);
        assert_eq!(device_files(Path::new("/nonexistent")).count(), 0);
    }

    #[test]
    fn the_kernel_module_names_its_version() {
        let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 09:55:41 UTC 2025\nGCC version: 13.3.0\n";
        assert_eq!(driver_version(text), Some("580.95.05"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n";
        assert_eq!(driver_version(open), Some("570.86.10"));
        assert_eq!(driver_version(""), None);
    }
}

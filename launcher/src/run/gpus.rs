//! GPUs of this machine, as far as files and variables tell: the launcher does not load CUDA.

use nix::unistd::{AccessFlags, access};
use protocol::arguments::TrainerArguments;
use protocol::gpus::{CUDA_VISIBLE, device_files};
use std::path::{Path, PathBuf};

/// Commands of the trainer that run over ranks.
const OVER_RANKS: [&str; 6] = ["train", "eval", "predict", "calibrate", "demo", "bench"];

/// Ranks for the GPUs of this machine, one for each, if the command computes on GPUs; else 1. `gpus` are the devices that the
/// user named.
pub(super) fn ranks(gpus: Option<&str>, arguments: &TrainerArguments) -> usize {
    if !computes_on_gpus(arguments) {
        return 1;
    }
    let visible = std::env::var(CUDA_VISIBLE).ok();
    count(gpus.or(visible.as_deref()), usable_devices()).max(1)
}

fn computes_on_gpus(arguments: &TrainerArguments) -> bool {
    let over_ranks = arguments.verb().is_none_or(|verb| OVER_RANKS.iter().any(|known| verb == *known));
    let is_cpu = |word: &std::ffi::OsString| {
        let word = word.to_string_lossy();
        word.split_once("train.device=").is_some_and(|(_, value)| value.trim_matches('"') == "cpu")
    };
    over_ranks && !arguments.list().iter().any(is_cpu)
}

/// Devices that a process sees: CUDA stops at the first name in the list that is no device.
fn count(visible: Option<&str>, files: usize) -> usize {
    let Some(list) = visible else { return files };
    let mut seen = Vec::new();
    for name in list.split(',').map(str::trim) {
        let is_index = name.parse::<usize>().is_ok_and(|index| index < files);
        if !(is_index || name.starts_with("GPU-") || name.starts_with("MIG-")) || seen.contains(&name) {
            break;
        }
        seen.push(name);
        if name.starts_with("MIG-") {
            // CUDA shows a process one MIG slice only.
            break;
        }
    }
    seen.len().min(files)
}

/// Device files that this process may open: a container or a cgroup of a scheduler allows some of them.
fn usable_devices() -> usize {
    let may_open = |path: &PathBuf| access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
    device_files(Path::new("/dev")).filter(may_open).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_gpus(line: &str) -> bool {
        computes_on_gpus(&TrainerArguments::new(line.split_whitespace().map(Into::into).collect()))
    }

    #[test]
    fn commands_over_ranks_use_gpus_unless_they_are_for_the_cpu() {
        for line in ["", "train -d demo", "eval --run x", "-d demo --set train.device=cuda", "bench step"] {
            assert!(on_gpus(line), "{line}");
        }
        for line in
            ["check -d demo", "list", "train --set train.device=cpu", "train --set=train.device=\"cpu\""]
        {
            assert!(!on_gpus(line), "{line}");
        }
    }

    #[test]
    fn visible_devices_are_counted_as_cuda_counts_them() {
        for (visible, files, expected) in [
            (None, 8, 8),
            (None, 0, 0),
            (Some("0,2,3"), 8, 3),
            (Some("0,9,1"), 8, 1),
            (Some("0,0"), 8, 1),
            (Some(""), 8, 0),
            (Some("-1"), 8, 0),
            (Some("NoDevFiles"), 8, 0),
            (Some("GPU-1,GPU-2"), 8, 2),
            (Some("MIG-1,MIG-2"), 1, 1),
            (Some("0,1"), 0, 0),
        ] {
            assert_eq!(count(visible, files), expected, "{visible:?} of {files}");
        }
    }
}

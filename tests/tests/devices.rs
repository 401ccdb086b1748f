//! GPU or CPU: which commands open the CUDA part of libtorch, and what is said of a GPU that cannot be used.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{binary, run, stderr, succeed, trainer};

/// Whether this machine has a GPU, on which these tests prove nothing.
fn has_gpu(test: &str) -> bool {
    let found = Path::new("/proc/driver/nvidia/version").exists();
    if found {
        eprintln!("skipped: {test} (this machine has a GPU)");
    }
    found
}

/// Libraries that a command opens, by the loader's own report.
fn opened(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = trainer(1);
    command.args(arguments).current_dir(folder.path()).env("LD_DEBUG", "files");
    stderr(&succeed(&mut command))
}

/// The folder of libtorch, from the report of a command.
fn folder_of_libtorch(report: &str) -> PathBuf {
    let line =
        report.lines().find(|line| line.contains("calling init: ") && line.ends_with("/libtorch_cpu.so"));
    let path = line.unwrap().split("calling init: ").nth(1).unwrap();
    Path::new(path).canonicalize().unwrap().parent().unwrap().to_owned()
}

#[test]
fn commands_that_need_no_gpu_do_not_open_the_cuda_part_of_libtorch() {
    let demo = ["-d", "demo", "-m", "demo"];
    let cpu = ["train", "-q", "--set", "train.epochs=0", "--set", "train.device=cpu"];
    let check = [&["check"][..], &demo].concat();
    let order = [&["order", "--count", "1"][..], &demo].concat();
    for command in [&["--version"][..], &["--help"], &["list"], &check, &order, &cpu] {
        let report = opened(command);
        assert!(report.contains("libtorch_cpu.so"), "the loader reports nothing for {command:?}");
        assert!(!report.contains("libtorch_cuda.so"), "{command:?} opens the CUDA part of libtorch");
    }
    let report = opened(&["train", "-q", "--set", "train.epochs=0"]);
    if !folder_of_libtorch(&report).join("libtorch_cuda.so").exists() {
        eprintln!("skipped: a part of commands_that_need_no_gpu (this libtorch is built for the CPU only)");
        return;
    }
    assert!(report.contains("libtorch_cuda.so"), "a run that may use a GPU does not open the CUDA part");
}

/// A run of no epoch in a container that was given GPUs, with a driver for CUDA 12.4 and a runtime of CUDA 13.0.
fn beside_an_old_driver(ranks: usize, device: &str) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "--set", "train.epochs=0", "--set"]).arg(format!("train.device={device}"));
    command.env("NVIDIA_VISIBLE_DEVICES", "all").env_remove("CUDA_VISIBLE_DEVICES");
    command.env("NCCL_RS_CUDART", binary("libnccl_stand_in.so")).env("NCCL_STAND_IN_DRIVER", "12040");
    command
}

const VERSIONS: &str =
    "the driver supports CUDA 12.4, the runtime is CUDA 13.0 (found: NVIDIA_VISIBLE_DEVICES=all)";

#[test]
fn a_gpu_that_cannot_be_used_is_reported_once_and_the_cpu_computes() {
    if has_gpu("a_gpu_that_cannot_be_used_is_reported_once_and_the_cpu_computes") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = beside_an_old_driver(2, "auto");
    let said = stderr(&succeed(command.arg("--output").arg(folder.path().join("run"))));
    let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning: the GPU of ")).collect();
    assert!(warnings.len() == 1 && warnings[0].ends_with(VERSIONS), "{said}");
    let hints =
        said.lines().filter(|line| line.starts_with("hint: ") && line.ends_with("or set train.device=cpu"));
    assert_eq!(hints.count(), 1, "{said}");
    let silent =
        beside_an_old_driver(1, "cpu").arg("--output").arg(folder.path().join("cpu")).output().unwrap();
    assert!(silent.status.success() && !stderr(&silent).contains("GPU"), "{}", stderr(&silent));
}

#[test]
fn a_gpu_that_is_required_but_cannot_be_used_is_wrong_input_with_the_same_reason() {
    if has_gpu("a_gpu_that_is_required_but_cannot_be_used_is_wrong_input_with_the_same_reason") {
        return;
    }
    let output = run(&mut beside_an_old_driver(2, "cuda"));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].ends_with(VERSIONS), "{said}");
    assert!(errors[0].starts_with("error: train.device=cuda, but CUDA cannot be used: "), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
}

//! Choices of a run on a GPU that are made by measurement at its start, on the stand-in for libtorch's CUDA part: the kernel of
//! attention. The stand-in makes operations slow that a test names, so both outcomes of a measurement are seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use tests::cuda::on_stand_in;
use tests::stripes::data_beside;
use tests::{losses, run, stderr, succeed, trainer, within};

/// A run of a few steps on the stand-in.
fn training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-m", "demo", "-d"]).arg(data_beside(output));
    for setting in ["train.threads=1", "train.batch_size=16", "train.max_steps=3", "head.init=random"] {
        command.args(["--set", setting]);
    }
    on_stand_in(&mut command).args(["--set", "train.device=cuda"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

/// The value of an option that a run has recorded.
fn recorded(run: &Path, key: &str) -> String {
    let config: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    config["train"][key].as_str().unwrap().to_owned()
}

fn refusal(command: &mut Command) -> String {
    let output = run(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// Operations of a kernel of attention, slow.
fn slow(kernels: &[&str]) -> String {
    kernels
        .iter()
        .map(|kernel| format!("{kernel}_attention,{kernel}_attention_backward"))
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn the_fastest_kernel_of_attention_is_chosen_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for (ranks, fastest, others) in [
        (1, "flash", ["efficient", "cudnn"]),
        (1, "efficient", ["flash", "cudnn"]),
        (2, "cudnn", ["flash", "efficient"]),
    ] {
        let path = folder.path().join(fastest);
        let mut command = training(ranks, &path, &["train.precision=bf16"]);
        let said = stderr(&succeed(command.env("CUDA_STAND_IN_SLOW", slow(&others))));
        assert!(said.contains(&format!("note: train.attention: {fastest}, because for ")), "{said}");
        for kernel in ["flash", "efficient", "cudnn"] {
            assert!(said.contains(&format!("{kernel} takes ")), "{said}");
        }
        assert_eq!(recorded(&path, "attention"), fastest);
    }
}

#[test]
fn fp32_has_one_fused_kernel_and_fp64_none() {
    let folder = tempfile::tempdir().unwrap();
    for (precision, expected) in [("fp32", "efficient"), ("fp64", "auto")] {
        let path = folder.path().join(precision);
        let said = stderr(&succeed(&mut training(1, &path, &[&format!("train.precision={precision}")])));
        assert_eq!(recorded(&path, "attention"), expected, "{said}");
        let reason = "flash is refused (Expected query, key and value to all be of dtype: {Half, BFloat16}. Got Query dtype: float";
        assert_eq!(said.contains(reason), precision == "fp32", "{said}");
    }
}

/// A measurement at resume would choose another kernel: its own is slow there.
#[test]
fn law_7_a_run_resumes_with_the_kernel_that_it_chose() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    let settings = ["train.precision=bf16", "checkpoint.every_steps=1", "checkpoint.keep=9"];
    succeed(training(1, &whole, &settings).env("CUDA_STAND_IN_SLOW", slow(&["flash", "cudnn"])));
    let mut command = training(1, &resumed, &settings);
    command.arg("--resume").arg(whole.join("checkpoints/00000002"));
    let said = stderr(&succeed(command.env("CUDA_STAND_IN_SLOW", slow(&["efficient"]))));
    assert!(!said.contains("train.attention"), "{said}");
    assert_eq!(
        (recorded(&whole, "attention"), recorded(&resumed, "attention")),
        ("efficient".into(), "efficient".into())
    );
    // The stand-in adds in any order under `fast`.
    within(&losses(&resumed), &losses(&whole), 1e-2);
    let mut eval = trainer(1);
    on_stand_in(&mut eval).args(["eval", "--run"]).arg(&whole);
    succeed(&mut eval);
    // On the CPU the run has no kernel to prefer.
    let mut eval = trainer(1);
    let said = stderr(&succeed(eval.args(["eval", "--set", "train.device=cpu", "--run"]).arg(&whole)));
    assert!(said.contains("note: train.attention: the run trains with efficient; here libtorch chooses, because this rank computes on the CPU"), "{said}");
}

#[test]
fn under_determinism_nothing_is_measured_and_named_kernels_repeat_their_bits() {
    let folder = tempfile::tempdir().unwrap();
    let final_bytes = |name: &str| std::fs::read(folder.path().join(name).join("final.safetensors")).unwrap();
    let mut first = Vec::new();
    for kernel in ["auto", "flash", "efficient", "math"] {
        let attention = format!("train.attention={kernel}");
        let settings = ["train.precision=bf16", "train.determinism=same_world", &attention];
        for time in [1, 2] {
            let name = format!("{kernel}-{time}");
            let said = stderr(&succeed(&mut training(1, &folder.path().join(&name), &settings)));
            assert!(!said.contains("train.attention"), "{said}");
        }
        assert!(final_bytes(&format!("{kernel}-1")) == final_bytes(&format!("{kernel}-2")), "{kernel}");
        assert_eq!(recorded(&folder.path().join(format!("{kernel}-1")), "attention"), kernel);
        let own = losses(&folder.path().join(format!("{kernel}-1")));
        if first.is_empty() {
            first = own;
        } else {
            within(&own, &first, 1e-2);
        }
    }
}

#[test]
fn a_kernel_that_cannot_be_had_is_refused_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let said = refusal(&mut training(1, &path, &["train.attention=flash"]));
    assert!(
        said.contains(
            "error: libtorch does not compute `train.attention = \"flash\"` here, for 16 images of "
        ) && said.contains(
            "Expected query, key and value to all be of dtype: {Half, BFloat16}. Got Query dtype: float"
        ),
        "{said}"
    );
    let cudnn = ["train.attention=cudnn", "train.precision=bf16", "train.determinism=same_world"];
    let said = refusal(&mut training(1, &path, &cudnn));
    assert!(said.contains("`train.attention = \"cudnn\"` has no deterministic backward pass"), "{said}");
    let said = refusal(&mut training(1, &path, &["train.attention=math", "train.device=cpu"]));
    assert!(said.contains("`train.attention = \"math\"` needs a GPU"), "{said}");
    assert!(!path.exists());
}

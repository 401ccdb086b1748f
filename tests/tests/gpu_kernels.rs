//! The unchanged trainer with kernels of its own for norms and residual additions, on a GPU that stand-ins play: the kernels' very
//! sources run on the CPU. `tests/nvrtc-stand-in/README.md` says what this proves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use tests::cuda::{count, on_stand_in, reports, with_emulated_kernels};
use tests::stripes::{data_beside, final_bytes, short_run};
use tests::{losses, run, stderr, succeed, trainer, within};

const COMPILED: &str = "train.gpu_kernels=compiled";

/// A run of a few steps on the stand-in.
fn training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    data_beside(output);
    let own = ["train.device=cuda", "head.init=random", "train.epochs=9", "train.determinism=same_world"];
    let all = [&own[..], settings].concat();
    let mut command = short_run(ranks, output, &all);
    with_emulated_kernels(on_stand_in(&mut command));
    command
}

/// Losses with the kernels, and with libtorch's operations.
fn both(ranks: usize, settings: &[&str]) -> [Vec<f64>; 2] {
    let folder = tempfile::tempdir().unwrap();
    ["compiled", "libtorch"].map(|kernels| {
        let (path, option) = (folder.path().join(kernels), format!("train.gpu_kernels={kernels}"));
        succeed(&mut training(ranks, &path, &[settings, &["train.max_steps=4", &option]].concat()));
        losses(&path)
    })
}

fn same_losses(ranks: usize, settings: &[&str], relative: f64) {
    let [compiled, libtorch] = both(ranks, settings);
    println!("{settings:?} on {ranks} ranks: {compiled:?}");
    within(&compiled, &libtorch, relative);
    assert!(compiled[3] < compiled[0], "nothing was learnt: {compiled:?}");
}

#[test]
fn in_every_precision_the_losses_are_those_of_libtorch() {
    for (precision, relative) in [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 3e-3)] {
        same_losses(1, &[&format!("train.precision={precision}")], relative);
    }
    same_losses(1, &["train.precision=bf16", "train.residual=bf16"], 2e-2);
}

#[test]
fn ranks_micro_batches_shards_and_recomputation_change_nothing() {
    same_losses(2, &[], 1e-5);
    same_losses(2, &["backbone.placement=sharded", "train.micro_batch_size=3"], 1e-5);
    same_losses(1, &["train.micro_batch_size=5"], 1e-5);
    same_losses(1, &["train.recompute=true"], 1e-5);
}

#[test]
fn tuners_at_the_norms_and_elsewhere_have_the_losses_of_libtorch() {
    for tuners in [
        r#"["lora", "ia3", "vpt_deep", "ssf_attn"]"#,
        r#"["lora_mlp", "masked", "bias", "adapter"]"#,
        r#"["ssf_ln", "layer_norm", "adaptformer"]"#,
        r#"["full"]"#,
    ] {
        same_losses(1, &[&format!("tuner.kinds={tuners}")], 1e-5);
    }
}

#[test]
fn law_7_a_repeated_and_a_resumed_run_have_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings = [
        COMPILED,
        "train.precision=bf16",
        "train.determinism=same_world",
        "train.max_steps=4",
        "checkpoint.every_steps=2",
        "checkpoint.keep=9",
    ];
    for name in ["first", "second"] {
        succeed(&mut training(1, &path(name), &settings));
    }
    assert_eq!(losses(&path("first")), losses(&path("second")));
    assert!(final_bytes(&path("first")) == final_bytes(&path("second")));
    let from = path("first").join("checkpoints/00000002");
    succeed(training(1, &path("resumed"), &settings).arg("--resume").arg(from));
    assert!(final_bytes(&path("first")) == final_bytes(&path("resumed")));
    // The blocks are computed twice, with the same bits.
    let recomputed = [&settings[..], &["train.recompute=true"]].concat();
    succeed(&mut training(1, &path("recomputed"), &recomputed));
    assert!(final_bytes(&path("first")) == final_bytes(&path("recomputed")));
}

#[test]
fn a_step_has_fewer_operations_and_no_more_waits() {
    let folder = tempfile::tempdir().unwrap();
    let step = |kernels: &str| {
        let [one, two] = ["train.max_steps=1", "train.max_steps=2"].map(|steps| {
            let report = folder.path().join(format!("report-{kernels}-{steps}"));
            std::fs::create_dir(&report).unwrap();
            let option = format!("train.gpu_kernels={kernels}");
            let settings = [&option, steps, "train.precision=bf16", "eval.batch_size=64"];
            let mut command = training(1, &folder.path().join(format!("{kernels}-{steps}")), &settings);
            succeed(command.env("CUDA_STAND_IN_REPORT", &report));
            reports(&report).remove(0)
        });
        println!("{kernels}: {}", two["operations"]);
        let more = |group: &str| count(&two, group) - count(&one, group);
        (more("operations"), more("waits"))
    };
    let (compiled, libtorch) = (step("compiled"), step("libtorch"));
    println!("operations and waits of a step: {compiled:?} with kernels, {libtorch:?} without");
    assert!(compiled.0 < libtorch.0, "{compiled:?} {libtorch:?}");
    assert!(compiled.1 <= libtorch.1, "{compiled:?} {libtorch:?}");
}

#[test]
fn what_was_compiled_is_a_note_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = trainer(1);
    command.args(["train", "-m", "demo", "-d"]).arg(data_beside(&output)).arg("--output").arg(output);
    for setting in [COMPILED, "train.device=cuda", "train.max_steps=1", "head.init=random"] {
        command.args(["--set", setting]);
    }
    let said = stderr(&succeed(with_emulated_kernels(on_stand_in(&mut command))));
    for part in [
        "note: train.gpu_kernels: compiled by ",
        "for sm_90, rows of ",
        " Float, products in Float, ",
        "norm ",
        "(libtorch ",
        // The emulator is slower than libtorch on a CPU.
        "they are slower here",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

/// What a refused run says.
fn refused(folder: &Path, settings: &[&str], variable: (&str, &str)) -> String {
    let mut command = training(1, &folder.join("refused"), settings);
    let output = run(command.env(variable.0, variable.1));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn kernels_that_do_not_compile_or_differ_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |kind| refused(folder.path(), &[COMPILED], ("NVRTC_STAND_IN_FAULT", kind));
    let said = fault("compile");
    assert!(said.contains("does not compile `lift.cu` for sm_90: "), "{said}");
    assert!(said.contains("#error a fault that a test has planted"), "{said}");
    let said = fault("wrong");
    for part in [
        "the output of the kernel `layer_norm_cast` is ",
        " where that of libtorch is ",
        " apart\nhint: set train.gpu_kernels=libtorch",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn a_missing_compiler_and_a_cpu_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &[COMPILED], ("LIFT_NVRTC", "/etc/hosts"));
    assert!(said.contains("LIFT_NVRTC names /etc/hosts, which does not load as NVRTC"), "{said}");
    let said = refused(folder.path(), &[COMPILED], ("LIFT_NVRTC", ""));
    assert!(said.contains("NVRTC was not found; looked for libnvrtc.so.13 by the loader"), "{said}");
    assert!(said.contains("hint: install the wheel nvidia-cuda-nvrtc"), "{said}");
    let said = refused(folder.path(), &[COMPILED, "train.device=cpu"], ("CXX", "c++"));
    assert!(said.contains("needs a GPU, and this rank computes on the CPU"), "{said}");
}

//! Choices of a run on a GPU that are made by measurement at its start, on the stand-in for libtorch's CUDA part: the kernel of
//! attention, and products in fp8. The stand-in makes operations slow that a test names, so both outcomes of a measurement are seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
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

/// The first checkpoint of a run; later ones may be skipped while it is written.
fn checkpoint(run: &Path) -> PathBuf {
    tests::checkpoints(run).first().unwrap().0.clone()
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
    command.arg("--resume").arg(checkpoint(&whole));
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

const FP8: &str = "train.frozen_products=fp8";
const BF16: &str = "train.precision=bf16";

/// Both runs start from the same values, and each step differs by the rounding of fp8.
#[test]
fn frozen_layers_in_fp8_train_as_in_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let report = path("report");
    std::fs::create_dir(&report).unwrap();
    // Sums in any order would add differences of their own.
    let settings = [BF16, "train.determinism=same_world", "train.max_steps=9", "train.epochs=4"];
    succeed(&mut training(1, &path("bf16"), &settings));
    let mut command = training(1, &path("fp8"), &[&settings[..], &[FP8]].concat());
    let said = stderr(&succeed(command.env("CUDA_STAND_IN_REPORT", &report)));
    assert!(
        said.contains("train.frozen_products: fp8; in fp8 (BFloat16) the four products of a block take "),
        "{said}"
    );
    let found = tests::cuda::reports(&report);
    assert!(found[0]["operations"]["_scaled_mm"].as_u64().unwrap() > 50, "{}", found[0]["operations"]);
    println!("{said}\n{:?}\n{:?}", losses(&path("fp8")), losses(&path("bf16")));
    // The gradients are away by several percent, and nine steps add that up.
    within(&losses(&path("fp8")), &losses(&path("bf16")), 0.06);
    assert_ne!(losses(&path("fp8")), losses(&path("bf16")), "fp8 rounds");
    // The weights of the run are those of the file.
    let fingerprint = |name: &str| tests::json(&path(name).join("result.json"))["frozen_fingerprint"].clone();
    assert_eq!(fingerprint("fp8"), fingerprint("bf16"));
    // An export takes those, and compares in double precision.
    let mut export = trainer(1);
    export
        .args(["export", "--format", "safetensors", "--run"])
        .arg(path("fp8"))
        .arg("--output")
        .arg(path("exported.safetensors"));
    succeed(&mut export);
}

#[test]
fn law_7_a_run_in_fp8_repeats_its_bits_and_resumes_on_one_and_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let bits = |name: &str| std::fs::read(folder.path().join(name).join("final.safetensors")).unwrap();
    for ranks in [1, 2] {
        let settings =
            [FP8, BF16, "train.determinism=same_world", "checkpoint.every_steps=1", "checkpoint.keep=9"];
        let name = |part: &str| format!("{part}-{ranks}");
        for part in ["whole", "again"] {
            succeed(&mut training(ranks, &folder.path().join(name(part)), &settings));
        }
        assert!(bits(&name("whole")) == bits(&name("again")), "{ranks} ranks");
        let mut command = training(ranks, &folder.path().join(name("resumed")), &settings);
        let from = checkpoint(&folder.path().join(name("whole")));
        succeed(command.arg("--resume").arg(from));
        assert!(bits(&name("whole")) == bits(&name("resumed")), "{ranks} ranks");
    }
    within(&losses(&folder.path().join("whole-1")), &losses(&folder.path().join("whole-2")), 1e-2);
    // An evaluation computes as the run does, and on a CPU says that it does not.
    let mut eval = trainer(1);
    on_stand_in(&mut eval).args(["eval", "--json", "--run"]).arg(folder.path().join("whole-1"));
    let found: serde_json::Value = serde_json::from_slice(&succeed(&mut eval).stdout).unwrap();
    let result = tests::json(&folder.path().join("whole-1/result.json"));
    assert_eq!(found["accuracy"], result["accuracy"]);
    let mut eval = trainer(1);
    eval.args(["eval", "--set", "train.device=cpu", "--run"]).arg(folder.path().join("whole-1"));
    let said = stderr(&succeed(&mut eval));
    assert!(
        said.contains(
            "note: train.frozen_products: compute, because `train.frozen_products = \"fp8\"` needs a GPU"
        ),
        "{said}"
    );
}

#[test]
fn every_kind_of_tuner_trains_beside_layers_in_fp8() {
    let folder = tempfile::tempdir().unwrap();
    for (name, tuners) in [
        ("added", r#"tuner.kinds=["lora", "ia3", "vpt_deep", "ssf_attn"]"#),
        ("in_place", r#"tuner.kinds=["lora_mlp", "masked", "bias", "adapter"]"#),
    ] {
        let path = |way: &str| folder.path().join(format!("{name}-{way}"));
        succeed(&mut training(1, &path("bf16"), &[BF16, tuners]));
        succeed(&mut training(1, &path("fp8"), &[BF16, FP8, tuners, "train.recompute=true"]));
        within(&losses(&path("fp8")), &losses(&path("bf16")), 0.03);
    }
}

#[test]
fn auto_takes_fp8_where_it_is_faster_and_a_run_resumes_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let auto = "train.frozen_products=auto";
    let settings = [auto, BF16, "checkpoint.every_steps=1", "checkpoint.keep=9"];
    for (ranks, slow, expected) in [(1, "addmm", "fp8"), (2, "addmm", "fp8"), (1, "_scaled_mm", "compute")] {
        let path = folder.path().join(format!("{expected}-{ranks}"));
        let mut command = training(ranks, &path, &settings);
        let said = stderr(&succeed(command.env("CUDA_STAND_IN_SLOW", slow)));
        println!("{said}");
        assert!(
            said.contains(&format!("note: train.frozen_products: {expected}; in fp8 (BFloat16)")),
            "{said}"
        );
        assert_eq!(recorded(&path, "frozen_products"), expected);
        let resumed = folder.path().join(format!("resumed-{expected}-{ranks}"));
        let mut command = training(ranks, &resumed, &settings);
        command.arg("--resume").arg(checkpoint(&path));
        // A measurement would find the opposite.
        let other = if slow == "addmm" { "_scaled_mm" } else { "addmm" };
        succeed(command.env("CUDA_STAND_IN_SLOW", other));
        assert_eq!(recorded(&resumed, "frozen_products"), expected);
    }
}

#[test]
fn fp8_that_cannot_be_had_is_refused_and_auto_says_why_it_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let said = refusal(training(1, &path, &[FP8, BF16]).env("CUDA_STAND_IN_CAPABILITY", "8.0"));
    let reason = "libtorch refuses a product: ";
    let words = "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9";
    assert!(said.contains(reason) && said.contains(words), "{said}");
    let said = refusal(&mut training(2, &path, &[FP8, BF16, "backbone.placement=sharded"]));
    assert!(said.contains("needs whole blocks on every rank, and the backbone is sharded"), "{said}");
    let said = refusal(&mut training(1, &path, &[FP8]));
    assert!(said.contains("needs `train.precision` to be bf16 or fp16, found fp32"), "{said}");
    let said = refusal(&mut training(1, &path, &[FP8, BF16, "train.device=cpu"]));
    assert!(said.contains("and this rank computes on the CPU"), "{said}");
    let said = refusal(&mut training(1, &path, &[FP8, BF16, "tuner.kinds=full", "tuner.partial=3"]));
    assert!(said.contains("every layer of the blocks is trained"), "{said}");
    assert!(!path.exists());
    for (name, ranks, setting) in
        [("old", 1, "train.max_steps=1"), ("sharded", 2, "backbone.placement=sharded")]
    {
        let path = folder.path().join(name);
        let mut command = training(ranks, &path, &["train.frozen_products=auto", BF16, setting]);
        let said = stderr(&succeed(
            command.env("CUDA_STAND_IN_CAPABILITY", if name == "old" { "8.6" } else { "9.0" }),
        ));
        assert!(said.contains("note: train.frozen_products: compute, because "), "{said}");
        assert_eq!(recorded(&path, "frozen_products"), "compute");
    }
}

//! The unchanged trainer on a GPU, which the stand-in for libtorch's CUDA part plays: what it computes, how it repeats it, how
//! often the host waits, and what it says when memory runs out. `tests/cuda-stand-in/README.md` says what this proves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tests::cuda::{count, on_stand_in, reports};
use tests::launched::repository;
use tests::stripes::data_beside;
use tests::{json, losses, run, stderr, succeed, trainer, within};

/// A run of a few steps on the small data set.
fn training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "-m", "demo", "-d"]).arg(data_beside(output));
    command.args(["--set", "train.threads=1"]);
    let untrained = settings.contains(&"train.epochs=0");
    for setting in ["train.batch_size=16", "train.max_steps=3"].into_iter().filter(|_| !untrained) {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

/// The same on the stand-in.
fn gpu_training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = training(ranks, output, settings);
    on_stand_in(&mut command).args(["--set", "train.device=cuda"]);
    command
}

/// Runs on the stand-in and on the CPU, and compares losses and counts.
fn as_on_the_cpu(folder: &Path, name: &str, ranks: usize, settings: &[&str]) {
    let path = |device: &str| folder.join(format!("{name}-{device}"));
    succeed(&mut gpu_training(ranks, &path("gpu"), settings));
    succeed(&mut training(1, &path("cpu"), settings));
    println!("{name} on {ranks} ranks: {:?}", losses(&path("gpu")));
    within(&losses(&path("gpu")), &losses(&path("cpu")), 1e-5);
    let result = |device: &str| json(&path(device).join("result.json"));
    assert_eq!(result("gpu")["device"], "cuda (stand-in)");
    assert_eq!(result("gpu")["trainable_parameters"], result("cpu")["trainable_parameters"], "{name}");
    // A run without training has the features of texts among its frozen tensors; the CPU has kernels of its own for them.
    if !losses(&path("cpu")).is_empty() {
        assert_eq!(result("gpu")["frozen_fingerprint"], result("cpu")["frozen_fingerprint"], "{name}");
    }
}

fn final_bytes(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("final.safetensors")).unwrap()
}

#[test]
fn one_rank_trains_on_the_stand_in_as_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    as_on_the_cpu(folder.path(), "lift", 1, &[]);
}

/// Names of a group of `lift-trainer list`.
fn listed(group: &str) -> Vec<String> {
    let output = succeed(trainer(1).args(["list", group, "--json"]));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    all[group].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Every tuner, loss, head and head initialisation at least once: each run takes the next of each list. Under both levels of
/// determinism, since an operation may have no deterministic form.
#[test]
fn every_tuner_loss_head_and_initialisation_computes_on_one_device() {
    let folder = tempfile::tempdir().unwrap();
    let [tuners, losses, mut heads, inits] = ["tuners", "losses", "heads", "inits"].map(listed);
    // It trains nothing.
    heads.retain(|head| head != "zero_shot");
    let runs = [&tuners, &losses, &heads, &inits].map(Vec::len).into_iter().max().unwrap();
    for number in 0..runs {
        let next = |names: &[String]| names[number % names.len()].clone();
        let (tuner, loss, head, init) = (next(&tuners), next(&losses), next(&heads), next(&inits));
        let settings = [
            format!("tuner.kinds={tuner}"),
            format!("loss.kind={loss}"),
            format!("head.kind={head}"),
            format!("head.init={init}"),
            format!("train.determinism={}", ["same_world", "any_world"][number % 2]),
            "train.max_steps=2".to_owned(),
            "train.micro_batch_size=9".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        as_on_the_cpu(folder.path(), &format!("{tuner}-{loss}-{head}-{init}"), 1, &settings);
    }
}

#[test]
fn zero_shot_classification_is_that_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["head.kind=zero_shot", "tuner.kinds=none", "train.epochs=0", "eval.crops=five"];
    as_on_the_cpu(folder.path(), "zero_shot", 1, &settings);
}

#[test]
fn other_settings_compute_on_one_device() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("official", &["train.accumulation=official", "train.micro_batch_size=8"][..]),
        ("sampler", &["loss.prior=sampler", "data.sampler=class_balanced"]),
        ("partial", &["tuner.partial=1"]),
        ("crops", &["eval.crops=ten", "eval.batch_size=7"]),
        ("checked", &["eval.crops=random", "eval.random_crops=2", "distributed.check_every_steps=1"]),
    ] {
        as_on_the_cpu(folder.path(), name, 1, settings);
    }
    for (name, ranks, settings) in [
        ("wire", 2, &["distributed.wire=bf16", "head.placement=replicated"][..]),
        ("residual", 2, &["train.precision=bf16", "train.residual=bf16"]),
        ("not_finite", 1, &["train.learning_rate=1e20", "train.non_finite=skip", "train.max_non_finite=9"]),
    ] {
        succeed(&mut gpu_training(ranks, &folder.path().join(name), settings));
    }
}

/// Class token and registers of DINOv2; pooling by attention of SigLIP.
#[test]
fn other_towers_compute_on_one_device() {
    let folder = tempfile::tempdir().unwrap();
    for (preset, fixture) in [("dinov2_vit_s14", "timm_dinov2_reg4"), ("siglip_vit_b16", "hf_siglip_vision")]
    {
        let weights = repository().join("tests/fixtures/towers").join(fixture);
        let path = |device: &str| folder.path().join(format!("{fixture}-{device}"));
        for device in ["cuda", "cpu"] {
            let mut command = trainer(1);
            command.args(["train", "-q", "-m", preset, "-d"]).arg(data_beside(&path(device)));
            command.arg("--set").arg(format!("model.weights={}", weights.display()));
            for setting in [
                "model.width=16",
                "model.layers=2",
                "model.patch=4",
                "model.resolution=16",
                "train.threads=1",
            ] {
                command.args(["--set", setting]);
            }
            command.args(["--set", "train.max_steps=2", "--set", &format!("train.device={device}")]);
            succeed(on_stand_in(&mut command).arg("--output").arg(path(device)));
        }
        within(&losses(&path("cuda")), &losses(&path("cpu")), 1e-5);
    }
}

#[test]
fn two_ranks_train_over_the_stand_in_for_nccl_in_every_placement() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("replicated", &["head.placement=replicated"][..]),
        ("sharded_backbone", &["backbone.placement=sharded"]),
        ("sharded_head", &["head.placement=sharded"]),
        ("both", &["head.placement=sharded", "backbone.placement=sharded", "train.micro_batch_size=3"]),
    ] {
        as_on_the_cpu(folder.path(), name, 2, settings);
    }
}

#[test]
fn law_1_any_world_gives_the_same_bits_on_one_and_two_ranks_of_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    for loss in ["logit_adjusted", "lade"] {
        let settings = ["train.determinism=any_world".to_owned(), format!("loss.kind={loss}")];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let path = |ranks: usize| folder.path().join(format!("{loss}-{ranks}"));
        for ranks in [1, 2] {
            succeed(&mut gpu_training(ranks, &path(ranks), &settings));
        }
        assert_eq!(losses(&path(1)), losses(&path(2)), "{loss}");
        assert!(final_bytes(&path(1)) == final_bytes(&path(2)), "weights under {loss}");
    }
}

/// The stand-in changes last bits at random where a GPU adds in any order, so `fast` is the control.
#[test]
fn law_7_a_repeated_run_has_the_same_bits_under_same_world_and_not_under_fast() {
    let folder = tempfile::tempdir().unwrap();
    let twice = |determinism: &str| {
        let path = |number: usize| folder.path().join(format!("{determinism}-{number}"));
        for number in [1, 2] {
            let settings = [format!("train.determinism={determinism}"), "head.init=class_mean".to_owned()];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            succeed(&mut gpu_training(1, &path(number), &settings));
        }
        final_bytes(&path(1)) == final_bytes(&path(2))
    };
    assert!(!twice("fast"), "the stand-in adds in any order");
    assert!(twice("same_world"));
    assert!(twice("any_world"));
}

#[test]
fn a_workspace_of_the_user_that_is_not_repeatable_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = gpu_training(1, &folder.path().join("run"), &["train.determinism=same_world"]);
    let output = run(command.env("CUBLAS_WORKSPACE_CONFIG", ":0:0"));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("needs `CUBLAS_WORKSPACE_CONFIG` to be `:4096:8` or `:16:8`, found `:0:0`"),
        "{said}"
    );
}

#[test]
fn law_7_a_run_resumes_on_the_stand_in_and_is_evaluated_there() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    let settings = ["train.determinism=same_world", "checkpoint.every_steps=1", "checkpoint.keep=9"];
    succeed(&mut gpu_training(2, &whole, &settings));
    let from = whole.join("checkpoints/00000002");
    succeed(gpu_training(2, &resumed, &settings).arg("--resume").arg(from));
    assert_eq!(losses(&resumed), losses(&whole));
    assert!(final_bytes(&resumed) == final_bytes(&whole));
    let mut eval = trainer(1);
    on_stand_in(&mut eval).args(["eval", "--json", "--run"]).arg(&whole);
    let found: Value = serde_json::from_slice(&succeed(&mut eval).stdout).unwrap();
    assert_eq!(found["accuracy"], json(&whole.join("result.json"))["accuracy"]);
}

/// The stand-in rounds where TF32 is allowed, as the tensor cores do.
#[test]
fn fp32_is_fp32_and_tf32_is_a_word_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for precision in ["fp32", "tf32", "bf16", "fp16", "fp64"] {
        succeed(&mut gpu_training(1, &path(precision), &[&format!("train.precision={precision}")]));
    }
    succeed(&mut training(1, &path("cpu"), &[]));
    within(&losses(&path("fp32")), &losses(&path("cpu")), 1e-5);
    within(&losses(&path("fp64")), &losses(&path("cpu")), 1e-5);
    for coarse in ["tf32", "bf16", "fp16"] {
        within(&losses(&path(coarse)), &losses(&path("cpu")), 0.05);
        let apart =
            losses(&path(coarse)).iter().zip(losses(&path("cpu"))).any(|(a, b)| (a - b).abs() > 1e-5 * b);
        assert!(apart, "{coarse} rounds");
    }
}

/// The factor on the loss of fp16 is part of a run's state: a resumed run goes on with it.
#[test]
fn fp16_resumes_with_its_factor_on_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let half = "train.precision=fp16";
    let (steps, kept) =
        (["train.max_steps=6", "train.epochs=4"], ["checkpoint.every_steps=3", "checkpoint.keep=9"]);
    let more = [&[half, "train.determinism=same_world"][..], &steps, &kept].concat();
    succeed(&mut gpu_training(1, &path("whole"), &more));
    let checkpoints = tests::checkpoints(&path("whole"));
    let (first, steps) = checkpoints.first().unwrap();
    assert_eq!(*steps, 3);
    let state = std::fs::read_dir(first).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()));
    assert!(state.flatten().any(|text| text.contains("loss_scale")), "{first:?}");
    succeed(gpu_training(1, &path("resumed"), &more).arg("--resume").arg(first));
    assert_eq!(losses(&path("resumed")), losses(&path("whole")));
    assert!(final_bytes(&path("resumed")) == final_bytes(&path("whole")));
}

#[test]
fn tf32_and_fp16_are_refused_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    for (precision, remedy) in [("tf32", "fp32"), ("fp16", "auto")] {
        let settings = [&format!("train.precision={precision}"), "train.device=cpu"];
        let output = run(&mut training(1, &folder.path().join("run"), &settings));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let expected = format!(
            "error: `train.precision = \"{precision}\"` needs a GPU, and this rank computes on the CPU\nhint: set train.precision={remedy}"
        );
        assert!(said.contains(&expected), "{said}");
    }
}

/// The reports of a run of so many steps.
fn reported(folder: &Path, ranks: usize, steps: u64, settings: &[&str]) -> Vec<Value> {
    let report = folder.join(format!("report-{ranks}-{steps}"));
    std::fs::create_dir_all(&report).unwrap();
    let limit = format!("train.max_steps={steps}");
    let settings = [settings, &["train.epochs=4", &limit]].concat();
    let mut command = gpu_training(ranks, &folder.join(format!("run-{ranks}-{steps}")), &settings);
    succeed(command.env("CUDA_STAND_IN_REPORT", &report));
    let found = reports(&report);
    assert_eq!(found.len(), ranks);
    found
}

#[test]
fn the_host_waits_only_for_copies_and_memory_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    // Both end within an epoch of three steps.
    let (one, two) = (reported(folder.path(), 1, 1, &[]), reported(folder.path(), 1, 2, &[]));
    let (one, two) = (&one[0], &two[0]);
    let more = |group: &str| count(two, group) - count(one, group);
    println!("a step: {} operations, {} waits: {}", more("operations"), more("waits"), two["waits"]);
    assert_eq!(one["waits"]["item"], two["waits"]["item"], "no step reads a number");
    assert!(more("waits") <= 1, "one row of results: {} {}", one["waits"], two["waits"]);
    let result = json(&folder.path().join("run-1-2/result.json"));
    let (peak, held) =
        (&result["gpu_memory"]["peak_allocated_bytes"], &result["gpu_memory"]["peak_reserved_bytes"]);
    assert_eq!(*peak, two["memory"]["peak_allocated"]);
    assert_eq!(*held, two["memory"]["peak_reserved"]);
}

#[test]
fn the_bench_reports_the_memory_of_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = trainer(1);
    command.args([
        "bench",
        "step",
        "--json",
        "--steps",
        "1",
        "--rounds",
        "1",
        "--snapshots",
        "0",
        "-m",
        "demo",
        "-d",
    ]);
    command.arg(data_beside(&folder.path().join("run")));
    command.args(["--set", "train.batch_size=8", "--set", "head.init=random"]);
    let cpu: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    let gpu: Value = serde_json::from_slice(&succeed(on_stand_in(&mut command)).stdout).unwrap();
    assert!(cpu["gpu_memory"].is_null());
    assert!(gpu["gpu_memory"]["peak_allocated_bytes"].as_u64().unwrap() > 0);
    assert_eq!(gpu["device"], "cuda (stand-in)");
}

/// What a run says that ran out of memory: one error with a remedy, and nothing of libtorch's C++.
fn out_of_memory(command: &mut Command, run_folder: &Path) -> String {
    let output = run(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let status = json(&run_folder.join("status.json"));
    let log = std::fs::read_to_string(run_folder.join("logs/rank-0.log")).unwrap_or_default();
    for text in [said.clone(), status.to_string(), log] {
        for frame in ["frame #", "Exception raised", "c10::", "panicked"] {
            assert!(!text.contains(frame), "{text}");
        }
    }
    assert_eq!(status["phase"], "failed", "{status}");
    assert!(status.to_string().contains("out of GPU memory"), "{status}");
    said
}

#[test]
fn a_failed_allocation_of_any_rank_is_an_error_with_rank_sizes_and_remedies() {
    let folder = tempfile::tempdir().unwrap();
    for (ranks, allocation) in [(1, "3000"), (2, "3000")] {
        let path = folder.path().join(format!("{ranks}-{allocation}"));
        let mut command = gpu_training(ranks, &path, &["train.max_steps=50", "train.epochs=50"]);
        let said = out_of_memory(command.env("CUDA_STAND_IN_FAIL_ALLOCATION", allocation), &path);
        for part in
            ["out of GPU memory: ", " requested, ", " free, after step ", "hint: ", "train.precision=bf16"]
        {
            assert!(said.contains(part), "{part:?} in {said}");
        }
        println!("{said}");
        assert!(
            ranks == 1 || said.contains("error: rank 0: out of") || said.contains("rank 1: error: out of"),
            "{said}"
        );
    }
}

/// The number that an error proposes for a key.
fn proposed(said: &str, key: &str) -> u64 {
    let (_, rest) =
        said.split_once(&format!("set {key}=")).unwrap_or_else(|| panic!("{key} is proposed: {said}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn peak(run: &Path) -> u64 {
    json(&run.join("result.json"))["gpu_memory"]["peak_allocated_bytes"].as_u64().unwrap()
}

#[test]
fn the_micro_batch_that_is_proposed_when_memory_runs_out_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings =
        ["train.batch_size=41", "train.micro_batch_size=41", "eval.batch_size=2", "head.init=random"];
    succeed(&mut gpu_training(1, &path("free"), &settings));
    succeed(&mut gpu_training(1, &path("small"), &[&settings[..], &["train.micro_batch_size=1"]].concat()));
    // Half of what the whole batch needs more than one image does.
    let memory = u64::midpoint(peak(&path("free")), peak(&path("small")));
    let limited = |name: &str, micro: &str| {
        let mut command = gpu_training(1, &path(name), &[&settings[..], &[micro]].concat());
        command.env("CUDA_STAND_IN_MEMORY", memory.to_string());
        command
    };
    let said = out_of_memory(&mut limited("full", "train.micro_batch_size=41"), &path("full"));
    let fits = proposed(&said, "train.micro_batch_size");
    println!("{memory} bytes: {fits} of 41 images; {said}");
    assert!(fits >= 4, "{said}");
    succeed(&mut limited("fitting", &format!("train.micro_batch_size={fits}")));
    // What `auto` finds before the first step fits too, and fills a good part of the memory.
    let messages = stderr(&succeed(&mut limited("auto", "train.micro_batch_size=auto")));
    let config: toml::Table =
        std::fs::read_to_string(path("auto").join("config.toml")).unwrap().parse().unwrap();
    let found = config["train"]["micro_batch_size"].as_integer().unwrap();
    println!("auto: {found} of 41 images; {messages}");
    assert!((4..41).contains(&found), "{found}");
    assert!(peak(&path("auto")) > memory / 3, "{} of {memory} bytes", peak(&path("auto")));
}

#[test]
fn the_batch_that_is_proposed_when_an_evaluation_runs_out_of_memory_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let with = |name: &str, batch: &str| {
        let settings = [
            "train.micro_batch_size=1",
            "train.batch_size=1",
            "train.max_steps=1",
            "head.init=random",
            batch,
        ];
        gpu_training(1, &path(name), &settings)
    };
    for (name, batch) in [("free", "eval.batch_size=24"), ("small", "eval.batch_size=1")] {
        succeed(&mut with(name, batch));
    }
    let memory = u64::midpoint(peak(&path("free")), peak(&path("small")));
    let limited = |name: &str, batch: &str| {
        let mut command = with(name, batch);
        command.env("CUDA_STAND_IN_MEMORY", memory.to_string());
        command
    };
    let said = out_of_memory(&mut limited("full", "eval.batch_size=24"), &path("full"));
    let fits = proposed(&said, "eval.batch_size");
    succeed(&mut limited("fitting", &format!("eval.batch_size={fits}")));
}

#[test]
fn memory_that_ends_while_the_model_is_loaded_names_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut command = gpu_training(1, &path, &[]);
    let output = run(command.env("CUDA_STAND_IN_FAIL_ALLOCATION", "20"));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("hint: set train.precision=bf16 (now fp32), or shard the backbone"), "{said}");
    assert!(!said.contains("batch_size"), "{said}");
}

/// The built-in backbone is stored in 16 bits. Two runs that differ only in what the weights become send the same bytes,
/// where a conversion on the host would send twice as many.
#[test]
fn weights_are_sent_as_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let sent = |precision: &str| {
        let report = folder.path().join(precision);
        std::fs::create_dir(&report).unwrap();
        let settings = [&format!("train.precision={precision}"), "train.max_steps=1", "head.init=random"];
        let mut command = gpu_training(1, &folder.path().join(format!("run-{precision}")), &settings);
        succeed(command.env("CUDA_STAND_IN_REPORT", &report));
        reports(&report)[0]["copies"]["host_to_device"]["bytes"].as_u64().unwrap()
    };
    let stored = std::fs::metadata(repository().join("assets/demo_clip_patch8.safetensors")).unwrap().len();
    let (single, double) = (sent("fp32"), sent("fp64"));
    println!("{stored} bytes stored; sent: fp32 {single}, fp64 {double}");
    assert!(double < single + stored / 2, "fp32 {single}, fp64 {double}");
}

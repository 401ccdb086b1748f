//! `train.cuda_graphs` on the stand-in for libtorch's CUDA part. A capture computes nothing there, as on a GPU, and leaves NaN;
//! so a run with the bits of a run without graphs used no result of a capture, and no number that a capture should not keep.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::cuda::{count, on_stand_in, reports, with_emulated_kernels};
use tests::stripes::{final_bytes, short_run};
use tests::{json, losses, run, stderr, succeed, trainer};

const GRAPHS: &str = "train.cuda_graphs=true";

/// A run on the stand-in: epochs of three steps, of which the last is smaller.
fn training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut all = vec!["train.batch_size=16", "train.epochs=3", "train.device=cuda"];
    if !settings.iter().any(|setting| setting.starts_with("train.determinism")) {
        all.push("train.determinism=same_world");
    }
    all.extend(settings);
    let mut command = short_run(ranks, output, &all);
    with_emulated_kernels(on_stand_in(&mut command));
    command
}

/// What the stand-in counted of the first of the ranks.
fn report_of(command: &mut Command, run: &Path) -> Value {
    let folder = run.with_extension("report");
    std::fs::create_dir_all(&folder).unwrap();
    succeed(command.env("CUDA_STAND_IN_REPORT", &folder));
    reports(&folder).swap_remove(0)
}

fn number(report: &Value, name: &str) -> u64 {
    report["graphs"][name].as_u64().unwrap()
}

/// Runs with and without graphs, and compares every bit. Returns the report of the run with graphs.
fn same_with_graphs(folder: &Path, name: &str, ranks: usize, settings: &[&str]) -> Value {
    let path = |way: &str| folder.join(format!("{name}-{way}"));
    let (graphs, plain) = (path("graphs"), path("plain"));
    let mut command = training(ranks, &graphs, &[settings, &[GRAPHS]].concat());
    let report = report_of(&mut command, &graphs);
    succeed(&mut training(ranks, &plain, settings));
    println!("{name} on {ranks} ranks: {}", report["graphs"]);
    assert_eq!(losses(&graphs), losses(&plain), "{name}");
    assert!(final_bytes(&graphs) == final_bytes(&plain), "trained tensors of {name}");
    let accuracy = |run: &PathBuf| json(&run.join("result.json"))["accuracy"].clone();
    assert_eq!(accuracy(&graphs), accuracy(&plain), "{name}");
    assert!(number(&report, "captures") > 0 && number(&report, "replays") > 0, "{name}: {report}");
    report
}

#[test]
fn law_1_graphs_change_no_bit_at_any_level_number_of_ranks_and_size_of_micro_batches() {
    let folder = tempfile::tempdir().unwrap();
    for determinism in ["same_world", "any_world"] {
        for ranks in [1, 2] {
            for micro in ["16", "5"] {
                let (level, size) =
                    (format!("train.determinism={determinism}"), format!("train.micro_batch_size={micro}"));
                let name = format!("{determinism}-{ranks}-{micro}");
                same_with_graphs(folder.path(), &name, ranks, &[&level, &size, "eval.every_epochs=1"]);
            }
        }
    }
    let bits = |name: &str| final_bytes(&folder.path().join(format!("any_world-{name}-graphs")));
    assert!(bits("1-16") == bits("2-16"), "any world with graphs");
}

/// Full batches of 16, last ones of 9, over three epochs: the first pass of a size has no graph.
#[test]
fn each_size_is_captured_once_and_replayed_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let report = same_with_graphs(folder.path(), "sizes", 1, &[]);
    assert_eq!((number(&report, "captures"), number(&report, "replays")), (2, 5 + 2), "{report}");
    // Micro-batches of 5: 5, 5, 5, 1 of a full batch, 5, 4 of a last one.
    let report = same_with_graphs(folder.path(), "micro", 1, &["train.micro_batch_size=5"]);
    assert_eq!((number(&report, "captures"), number(&report, "replays")), (3, 20 + 5 + 2), "{report}");
}

#[test]
fn a_step_with_a_graph_starts_few_operations_and_no_more_waits() {
    let folder = tempfile::tempdir().unwrap();
    let of = |steps: u64, more: &[&str]| {
        let path = folder.path().join(format!("{steps}-{}", more.len()));
        let limit = format!("train.max_steps={steps}");
        let settings = [&["train.batch_size=8", "train.epochs=9", &limit][..], more].concat();
        report_of(&mut training(1, &path, &settings), &path)
    };
    // They end within an epoch of six steps.
    let [(four, five), (four_plain, five_plain)] =
        [&[GRAPHS][..], &[]].map(|more| (of(4, more), of(5, more)));
    let step = |five: &Value, four: &Value, group: &str| count(five, group) - count(four, group);
    let (with, without) = (step(&five, &four, "operations"), step(&five_plain, &four_plain, "operations"));
    println!("operations of a step: {with} with graphs, {without} without");
    assert!(with <= 40 && without > 4 * with, "{with} with graphs, {without} without");
    assert_eq!(step(&five, &four, "waits"), step(&five_plain, &four_plain, "waits"));
    assert_eq!(number(&five, "captures"), number(&four, "captures"));
    assert_eq!(number(&five, "replays"), number(&four, "replays") + 1);
}

/// Names of a group of `lift-trainer list`.
fn listed(group: &str) -> Vec<String> {
    let output = succeed(trainer(1).args(["list", group, "--json"]));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    all[group].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Every tuner, loss and head at least once: each run takes the next of each list.
#[test]
fn every_tuner_loss_and_head_is_captured() {
    let folder = tempfile::tempdir().unwrap();
    let [tuners, mut losses, mut heads] = ["tuners", "losses", "heads"].map(listed);
    // One trains nothing, and the other is refused.
    heads.retain(|head| head != "zero_shot");
    losses.retain(|loss| loss != "lade");
    for number in 0..[&tuners, &losses, &heads].map(Vec::len).into_iter().max().unwrap() {
        let next = |names: &[String]| names[number % names.len()].clone();
        let (tuner, loss, head) = (next(&tuners), next(&losses), next(&heads));
        let settings = [
            format!("tuner.kinds={tuner}"),
            format!("loss.kind={loss}"),
            format!("head.kind={head}"),
            format!("train.determinism={}", ["same_world", "any_world"][number % 2]),
            "train.max_steps=5".to_owned(),
            "train.micro_batch_size=9".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        same_with_graphs(folder.path(), &format!("{tuner}-{loss}-{head}"), 1, &settings);
    }
}

#[test]
fn other_settings_are_captured() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("recompute", &["train.recompute=true"][..]),
        ("schedule", &["train.schedule=cosine_per_step", "train.learning_rate=0.1"]),
        ("official", &["train.accumulation=official", "train.micro_batch_size=8"]),
        ("lade", &["train.accumulation=official", "train.micro_batch_size=8", "loss.kind=lade"]),
        ("bf16", &["train.precision=bf16"]),
        ("fp16", &["train.precision=fp16"]),
        ("tf32", &["train.precision=tf32"]),
        ("fp64", &["train.precision=fp64"]),
        ("none", &["tuner.kinds=none"]),
        ("partial", &["tuner.partial=1"]),
        ("plain", &["train.kernels=plain"]),
    ] {
        same_with_graphs(folder.path(), name, 1, settings);
    }
    same_with_graphs(folder.path(), "wire", 2, &["distributed.wire=bf16", "head.placement=replicated"]);
}

/// With everything else that a GPU has: a residual stream in 16 bits, kernels of our own, products in fp8, a kernel of attention.
#[test]
fn all_options_of_a_gpu_work_together() {
    let folder = tempfile::tempdir().unwrap();
    let all = [
        "train.precision=bf16",
        "train.residual=bf16",
        "train.gpu_kernels=compiled",
        "train.frozen_products=fp8",
        "train.attention=flash",
    ];
    for ranks in [1, 2] {
        let report = same_with_graphs(folder.path(), &format!("all-{ranks}"), ranks, &all);
        assert!(report["operations"]["kernel layer_norm_cast"].as_u64().unwrap() > 0, "{report}");
    }
}

/// The factor on the loss is halved after an overflow: a graph that had kept it would scale by the wrong one.
#[test]
fn a_factor_on_the_loss_that_changes_has_its_effect() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.precision=fp16", "head.scale=3000", "train.learning_rate=1e-6"];
    let kept = ["checkpoint.every_steps=1", "checkpoint.keep=99"];
    same_with_graphs(folder.path(), "overflow", 1, &[&settings[..], &kept].concat());
    let of_step = |(path, _): (PathBuf, u64)| {
        let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
        let text = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
        let factor = text.split_once("\"loss_scale\":{\"factor\":").unwrap().1.split(',').next().unwrap();
        factor.parse::<f64>().unwrap()
    };
    let factors: Vec<f64> =
        tests::checkpoints(&folder.path().join("overflow-graphs")).into_iter().map(of_step).collect();
    println!("{factors:?}");
    assert!(factors.first() > factors.last(), "{factors:?}");
}

/// The prior of this sampler changes from epoch to epoch, and with it the loss in the graph.
#[test]
fn a_loss_that_changes_with_the_epoch_is_captured_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["data.sampler=progressive", "loss.kind=logit_adjusted", "loss.prior=sampler"];
    let changing = same_with_graphs(folder.path(), "progressive", 1, &settings);
    let settings = ["data.sampler=class_balanced", "loss.kind=logit_adjusted", "loss.prior=sampler"];
    let constant = same_with_graphs(folder.path(), "balanced", 1, &settings);
    assert!(number(&changing, "captures") > number(&constant, "captures"), "{changing} {constant}");
}

#[test]
fn law_7_a_run_resumes_with_and_without_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let kept = ["checkpoint.every_steps=2", "checkpoint.keep=9"];
    succeed(&mut training(1, &path("whole"), &kept));
    for (before, after) in [(true, true), (true, false), (false, true)] {
        let graphs = |on: bool| format!("train.cuda_graphs={on}");
        let (first, resumed) = (path(&format!("first-{before}-{after}")), path(&format!("{before}-{after}")));
        succeed(&mut training(1, &first, &[&kept[..], &[&graphs(before)]].concat()));
        let mut command = training(1, &resumed, &[&kept[..], &[&graphs(after)]].concat());
        succeed(command.arg("--resume").arg(first.join("checkpoints/00000004")));
        assert_eq!(losses(&resumed), losses(&path("whole")), "{before}, then {after}");
        assert!(final_bytes(&resumed) == final_bytes(&path("whole")), "{before}, then {after}");
    }
}

/// What fits without graphs may not fit beside the memory that they keep.
#[test]
fn an_automatic_micro_batch_leaves_room_for_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let found = |name: &str, more: &[&str]| {
        let settings = ["train.batch_size=41", "train.micro_batch_size=auto", "train.max_steps=1"];
        let more = [&settings[..], &["head.init=random", "eval.batch_size=2"], more].concat();
        let path = folder.path().join(name);
        succeed(training(1, &path, &more).env("CUDA_STAND_IN_MEMORY", (24 << 20).to_string()));
        let config: toml::Table = std::fs::read_to_string(path.join("config.toml")).unwrap().parse().unwrap();
        config["train"]["micro_batch_size"].as_integer().unwrap()
    };
    let (with, without) = (found("with", &[GRAPHS]), found("without", &[]));
    println!("{with} images with graphs, {without} without");
    assert!(with < without, "{with} images with graphs, {without} without");
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, ranks, settings, expected) in [
        (
            "cpu",
            1,
            &["train.device=cpu"][..],
            "`train.cuda_graphs = true` needs a GPU, and this rank computes on the CPU\nhint: set train.cuda_graphs=false",
        ),
        (
            "backbone",
            2,
            &["backbone.placement=sharded"],
            "`train.cuda_graphs = true` needs the whole backbone on every rank, and its blocks are sharded\nhint: set backbone.placement=replicated, or train.cuda_graphs=false",
        ),
        (
            "head",
            2,
            &["head.placement=sharded"],
            "`train.cuda_graphs = true` needs all classes on every rank, and they are sharded\nhint: set head.placement=replicated, or train.cuda_graphs=false",
        ),
        (
            "lade",
            1,
            &["loss.kind=lade"],
            "`train.cuda_graphs = true` needs a loss that is a sum over samples, and `loss.kind = \"lade\"` is a function of the whole batch\nhint: set train.cuda_graphs=false",
        ),
    ] {
        let output = run(&mut training(ranks, &folder.path().join(name), &[settings, &[GRAPHS]].concat()));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("error: {expected}")), "{said}");
    }
}

/// A trained run is evaluated where there are no graphs.
#[test]
fn a_run_with_graphs_is_evaluated_on_a_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(1, &path, &[GRAPHS]));
    let mut eval = trainer(1);
    eval.args(["eval", "--json", "--set", "train.device=cpu", "--run"]).arg(&path);
    let found: Value = serde_json::from_slice(&succeed(&mut eval).stdout).unwrap();
    assert_eq!(found["accuracy"], json(&path.join("result.json"))["accuracy"]);
}

//! Sharded backbones and classifiers: equal losses with a fraction of the memory or of the sent bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::launched::{ranks, signal};
use tests::stripes::data_beside;
use tests::synthetic::{SyntheticTower, data_set};
use tests::{losses, metrics, steps_done, succeed, trainer, within};

fn twenty_steps(ranks: usize, output: &Path, settings: &[&str]) {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "-m", "demo", "--set", "train.threads=1", "-d"]).arg(data_beside(output));
    command.args(["--set", "train.max_steps=20", "--set", "train.batch_size=21"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    succeed(command.arg("--output").arg(output));
}

#[test]
fn a_sharded_backbone_has_the_losses_of_a_replicated_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    twenty_steps(4, &path("replicated"), &["backbone.placement=replicated"]);
    twenty_steps(1, &path("one"), &["backbone.placement=sharded"]);
    within(&losses(&path("one")), &losses(&path("replicated")), 1e-6);
    for (name, settings) in [
        ("sharded", vec!["backbone.placement=sharded"]),
        ("node", vec!["backbone.placement=node_sharded", "train.micro_batch_size=2"]),
        ("partial", vec!["backbone.placement=sharded", "tuner.partial=2"]),
    ] {
        twenty_steps(4, &path(name), &settings);
        if name == "partial" {
            twenty_steps(1, &path("partial_alone"), &["tuner.partial=2"]);
            within(&losses(&path(name)), &losses(&path("partial_alone")), 1e-6);
        } else {
            within(&losses(&path(name)), &losses(&path("replicated")), 1e-6);
        }
    }
}

#[test]
fn a_sharded_classifier_has_the_losses_of_a_replicated_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    twenty_steps(1, &path("alone"), &[]);
    for (name, ranks, settings) in [
        ("sharded", 4, vec!["head.placement=sharded"]),
        ("uneven", 3, vec!["head.placement=sharded", "train.micro_batch_size=6"]),
        ("both", 2, vec!["head.placement=sharded", "backbone.placement=sharded"]),
    ] {
        twenty_steps(ranks, &path(name), &settings);
        within(&losses(&path(name)), &losses(&path("alone")), 1e-6);
        let result = |name: &str| tests::json(&path(name).join("result.json"));
        for figure in ["correct", "trainable_parameters", "frozen_fingerprint"] {
            assert_eq!(result(name)[figure], result("alone")[figure], "{figure} of {name}");
        }
    }
}

#[test]
fn a_sharded_classifier_of_100_000_classes_sends_a_tenth_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let labels = (0..1000).map(|i| (i * 997) % 100_000).chain([99_999]);
    let data = data_set(folder.path(), labels).unwrap();
    let path = |name: &str| folder.path().join(name);
    for placement in ["replicated", "sharded"] {
        let mut command = trainer(4);
        command.args(["train", "-q", "-m", "demo", "--set", "train.threads=1", "-d"]).arg(&data);
        command.args(["--set", "train.max_steps=5", "--set", "head.init=random"]);
        command.args(["--set", "tuner.adapter_dim=2"]);
        command.arg("--set").arg(format!("head.placement={placement}"));
        succeed(command.arg("--output").arg(path(placement)));
    }
    within(&losses(&path("sharded")), &losses(&path("replicated")), 1e-6);
    let bytes = |name: &str| metrics(&path(name), "step")[2]["bytes"].as_u64().unwrap();
    let (sharded, replicated) = (bytes("sharded"), bytes("replicated"));
    println!("bytes a step: sharded {sharded}, replicated {replicated}");
    assert!(sharded * 10 <= replicated, "sharded {sharded}, replicated {replicated}");
}

/// ViT-L/14 for images of 28 pixels, with this number of blocks.
fn vit_l14(blocks: usize) -> SyntheticTower {
    SyntheticTower { width: 1024, patch: 14, side: 2, blocks }
}

/// Anonymous memory of each rank of a run in bytes, after three steps.
fn anonymous_after_three_steps(world: usize, weights: &Path, output: &Path, placement: &str) -> Vec<u64> {
    let mut command = trainer(world);
    command.args(["train", "-q", "-d", "demo", "-m", "in21k_vit_b16", "--method", "classifier"]);
    command.args(["--set", "train.threads=1", "--set", "model.resolution=28", "--set", "model.patch=14"]);
    command.args(["--set", "train.batch_size=4"]);
    command.args(["--set", "head.init=random", "--set", "eval.batch_size=4", "--set", "train.epochs=1000"]);
    command.args(["--set", "data.workers=1", "--set", "head.placement=replicated"]);
    command.arg("--set").arg(format!("model.weights={}", weights.display()));
    command.arg("--set").arg(format!("backbone.placement={placement}"));
    command.arg("--output").arg(output).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while steps_done(output) < 3 {
        assert!(start.elapsed() < Duration::from_mins(4), "three steps within four minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run continues");
        std::thread::sleep(Duration::from_millis(50));
    }
    let running = ranks(output);
    let memory = running.values().map(|pid| anonymous(pid)).collect();
    for pid in running.values() {
        signal("KILL", pid);
    }
    let _ = child.wait();
    memory
}

/// Anonymous memory of a process, plus the weight files that it maps.
fn anonymous(pid: &str) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut total, mut weights) = (0, false);
    for line in smaps.lines() {
        if line.split_whitespace().next().is_some_and(|range| range.contains('-') && !range.ends_with(':')) {
            weights = line.ends_with(".safetensors");
        }
        let kilobytes = |name: &str| -> Option<u64> {
            line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        total += kilobytes("Anonymous:").filter(|_| !weights).unwrap_or(0);
        total += kilobytes("Rss:").filter(|_| weights).unwrap_or(0);
    }
    total * 1024
}

#[test]
fn a_quarter_of_the_backbone_is_resident_on_each_of_four_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = 24;
    let (whole, none) = (folder.path().join("large.safetensors"), folder.path().join("none.safetensors"));
    vit_l14(blocks).write(&whole).unwrap();
    // A tower needs at least one block, so the baseline has one, which is subtracted.
    vit_l14(1).write(&none).unwrap();
    let block = 4 * (12 * 1024 * 1024 + 13 * 1024) as u64;
    let with = anonymous_after_three_steps(4, &whole, &folder.path().join("with"), "sharded");
    let without = anonymous_after_three_steps(4, &none, &folder.path().join("without"), "replicated");
    let limit = (blocks as u64 * block / 4 + 2 * block) * 11 / 10;
    assert_eq!((with.len(), without.len()), (4, 4), "four ranks were measured");
    let base = without.iter().min().unwrap().saturating_sub(block);
    for bytes in with {
        let resident = bytes - base;
        println!("{:.1} MB of frozen blocks, at most {:.1} MB", resident as f64 / 1e6, limit as f64 / 1e6);
        assert!(resident <= limit, "{resident} bytes of frozen blocks, at most {limit}");
    }
}

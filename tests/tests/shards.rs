//! Backbones and classifiers that ranks hold in parts: the same losses, a fraction of the memory or of the bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::launched::{ranks, signal};
use tests::{losses, metrics, succeed, trainer, within};

fn twenty_steps(ranks: usize, output: &Path, settings: &[&str]) {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "-d", "demo", "-m", "demo", "--set", "train.threads=1"]);
    command.args(["--set", "train.max_steps=20", "--set", "train.batch_size=61"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    succeed(command.arg("--output").arg(output));
}

#[test]
fn a_sharded_backbone_gives_the_losses_of_a_replicated_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    twenty_steps(4, &path("replicated"), &["backbone.placement=replicated"]);
    twenty_steps(1, &path("one"), &["backbone.placement=sharded"]);
    within(&losses(&path("one")), &losses(&path("replicated")), 1e-6);
    for (name, settings) in [
        ("sharded", vec!["backbone.placement=sharded"]),
        ("node", vec!["backbone.placement=node_sharded", "train.micro_batch_size=5"]),
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
fn a_sharded_classifier_gives_the_losses_of_a_replicated_one() {
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

/// 100,000 classes of which some have a picture, as lists.
fn many_classes(root: &Path) -> PathBuf {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/odd/pngsuite_basi0g01.png");
    std::fs::copy(&picture, root.join("a.png")).unwrap();
    let lines = (0..1000).map(|i| format!("a.png {}", (i * 997) % 100_000));
    let lines: Vec<String> = lines.chain(["a.png 99999\n".to_owned()]).collect();
    std::fs::write(root.join("train.txt"), lines.join("\n")).unwrap();
    std::fs::write(root.join("test.txt"), "a.png 3\na.png 99999\n").unwrap();
    let own = root.join("own.toml");
    let text =
        "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\n";
    std::fs::write(&own, text).unwrap();
    own
}

#[test]
fn a_sharded_classifier_of_100_000_classes_sends_a_tenth_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = many_classes(folder.path());
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

/// A ViT-L/14 of random numbers for small images, in timm's layout, with so many blocks.
fn large_vit(path: &Path, blocks: usize) {
    let width = 1024usize;
    let mut names: Vec<(String, Vec<usize>)> = vec![
        ("patch_embed.proj.weight".into(), vec![width, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![width]),
        ("cls_token".into(), vec![1, 1, width]),
        ("pos_embed".into(), vec![1, 5, width]),
        ("norm.weight".into(), vec![width]),
        ("norm.bias".into(), vec![width]),
    ];
    for block in 0..blocks {
        let mut add =
            |name: &str, shape: &[usize]| names.push((format!("blocks.{block}.{name}"), shape.to_vec()));
        for norm in ["norm1", "norm2"] {
            add(&format!("{norm}.weight"), &[width]);
            add(&format!("{norm}.bias"), &[width]);
        }
        for (name, out, input) in [
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ] {
            add(&format!("{name}.weight"), &[out, input]);
            add(&format!("{name}.bias"), &[out]);
        }
    }
    let largest = names.iter().map(|(_, shape)| shape.iter().product::<usize>()).max().unwrap();
    let numbers: Vec<u8> = (0..largest as u32)
        .flat_map(|i| {
            ((f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) - 0.5) as f32 * 0.05)
                .to_le_bytes()
        })
        .collect();
    let views = names.iter().map(|(name, shape)| {
        let bytes = &numbers[..4 * shape.iter().product::<usize>()];
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Anonymous memory of each rank of a run, in bytes, once it has made three steps.
fn anonymous_after_three_steps(world: usize, weights: &Path, output: &Path, placement: &str) -> Vec<u64> {
    let mut command = trainer(world);
    command.args(["train", "-q", "-d", "demo", "-m", "in21k_vit_b16", "--method", "classifier"]);
    command.args(["--set", "train.threads=1", "--set", "model.resolution=28", "--set", "train.batch_size=4"]);
    command.args(["--set", "head.init=random", "--set", "eval.batch_size=4", "--set", "train.epochs=1000"]);
    command.args(["--set", "data.workers=1", "--set", "head.placement=replicated"]);
    command.arg("--set").arg(format!("model.weights={}", weights.display()));
    command.arg("--set").arg(format!("backbone.placement={placement}"));
    command.arg("--output").arg(output).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while losses_so_far(output) < 3 {
        assert!(start.elapsed() < Duration::from_mins(4), "three steps are made");
        assert!(child.try_wait().unwrap().is_none(), "the run goes on");
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

fn losses_so_far(output: &Path) -> usize {
    let text = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"kind\":\"step\"")).count()
}

/// What a process holds itself, and weight files that it maps.
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
    large_vit(&whole, blocks);
    // A tower needs a block: the run with one is compared with, and that block counted out.
    large_vit(&none, 1);
    let block = 4 * (12 * 1024 * 1024 + 13 * 1024) as u64;
    let with = anonymous_after_three_steps(4, &whole, &folder.path().join("with"), "sharded");
    let without = anonymous_after_three_steps(4, &none, &folder.path().join("without"), "replicated");
    let limit = (blocks as u64 * block / 4 + 2 * block) * 11 / 10;
    assert_eq!((with.len(), without.len()), (4, 4), "four ranks were looked at");
    let base = without.iter().min().unwrap().saturating_sub(block);
    for bytes in with {
        let resident = bytes - base;
        println!("{:.1} MB of frozen blocks, at most {:.1} MB", resident as f64 / 1e6, limit as f64 / 1e6);
        assert!(resident <= limit, "{resident} bytes of frozen blocks, at most {limit}");
    }
}

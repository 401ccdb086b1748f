//! The laws of docs/architecture.md over real ranks. Each test carries the number of its law.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use tests::{json, losses, metrics, succeed, trainer, within};

/// A short run of the embedded demo whose last batch is smaller than the others.
fn demo_run(ranks: usize, output: &Path, extra: &[&str]) {
    let mut command = trainer(ranks);
    command.args(["train", "-d", "demo", "-m", "demo", "--set", "train.batch_size=96"]);
    command.args(["--set", "train.threads=1", "--set", "train.epochs=2"]);
    command.args(extra).arg("--output").arg(output);
    succeed(&mut command);
}

#[test]
fn law_1_losses_do_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = |ranks: usize| folder.path().join(format!("{ranks}"));
    for ranks in [1, 2, 3] {
        demo_run(ranks, &run(ranks), &[]);
    }
    let alone = losses(&run(1));
    assert!(alone.len() >= 20, "{} steps", alone.len());
    let samples: Vec<u64> =
        metrics(&run(1), "step").iter().map(|row| row["samples"].as_u64().unwrap()).collect();
    assert!(samples.contains(&96) && samples.iter().any(|&n| n < 96), "the last batch is short: {samples:?}");
    within(&losses(&run(2)), &alone, 1e-5);
    within(&losses(&run(3)), &alone, 1e-5);
}

#[test]
fn law_1_losses_do_not_depend_on_micro_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    demo_run(1, &whole, &["--set", "train.max_steps=20"]);
    demo_run(2, &parts, &["--set", "train.max_steps=20", "--set", "train.micro_batch_size=7"]);
    within(&losses(&parts), &losses(&whole), 1e-5);
}

#[test]
fn law_1_and_4_a_rank_without_a_sample_takes_part() {
    let folder = tempfile::tempdir().unwrap();
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    // The rest of the epoch is one or two samples, so that some of three ranks have none in the last step.
    let total = train_samples(&folder.path().join("probe"));
    let batch =
        (40..80).find(|batch| matches!(total % batch, 1 | 2)).expect("some batch leaves one or two samples");
    let rest = total % batch;
    let batch = format!("train.batch_size={batch}");
    let extra = ["--set", &batch, "--method", "classifier", "--set", "train.epochs=1"];
    demo_run(1, &one, &extra);
    demo_run(3, &three, &extra);
    assert_eq!(metrics(&three, "step").last().unwrap()["samples"], rest);
    within(&losses(&three), &losses(&one), 1e-5);
}

fn train_samples(probe: &Path) -> u64 {
    demo_run(1, probe, &["--method", "classifier", "--set", "train.max_steps=1"]);
    let per_class = json(&probe.join("result.json"))["per_class"].as_array().unwrap().clone();
    per_class.iter().map(|class| class["train_count"].as_u64().unwrap()).sum()
}

#[test]
fn law_2_evaluation_is_the_same_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for (ranks, batch) in [(1, 64), (2, 50), (3, 17)] {
        let run = folder.path().join(format!("{ranks}"));
        let batch = format!("eval.batch_size={batch}");
        demo_run(ranks, &run, &["--set", "train.epochs=0", "--set", &batch]);
        results.push(json(&run.join("result.json")));
    }
    for name in ["correct", "total", "accuracy", "many", "medium", "few", "macro_f1", "per_class"] {
        assert_eq!(results[0][name], results[1][name], "{name} on two ranks");
        assert_eq!(results[0][name], results[2][name], "{name} on three ranks");
    }
    assert_ne!(results[0]["total"], Value::from(0));
}

#[test]
fn law_3_the_order_is_trained_once_and_does_not_depend_on_ranks() {
    let lines = |world: u64, from: u64, count: u64| -> Vec<Value> {
        let mut command = trainer(1);
        command.args(["order", "-d", "demo", "-m", "demo", "--epoch", "1"]);
        for (flag, value) in [("--from", from), ("--count", count), ("--world", world)] {
            command.arg(flag).arg(value.to_string());
        }
        let output = succeed(&mut command);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let samples = |rows: &[Value]| rows.iter().map(|row| row["sample"].as_u64().unwrap()).collect::<Vec<_>>();
    let all = lines(1, 0, u64::from(u32::MAX));
    let mut sorted = samples(&all);
    sorted.sort_unstable();
    assert!(sorted.iter().enumerate().all(|(i, &sample)| i as u64 == sample), "each image once in the epoch");
    assert_eq!(samples(&lines(5, 0, u64::from(u32::MAX))), samples(&all), "the world does not matter");
    assert_eq!(samples(&lines(3, 100, 50)), samples(&all)[100..150], "any position is reached directly");
}

#[test]
fn law_5_frozen_weights_never_travel_nor_change() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    demo_run(1, &before, &["--set", "train.epochs=0"]);
    demo_run(2, &after, &["--set", "train.max_steps=5"]);
    let frozen = |run: &Path| json(&run.join("result.json"))["frozen_fingerprint"].clone();
    assert!(frozen(&before).is_string());
    assert_eq!(frozen(&before), frozen(&after));
}

#[test]
fn law_6_the_same_seed_gives_the_same_run_and_another_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let seed = format!("train.seed={seed}");
        demo_run(1, &path, &["--set", "train.max_steps=4", "--set", &seed]);
        losses(&path)
    };
    assert_eq!(run("a", "3"), run("b", "3"));
    assert_ne!(run("c", "3"), run("d", "4"));
}

#[test]
fn laws_2_and_3_over_ranks_many_random_draws_are_those_of_one_process() {
    for (ranks, seed) in [(2, "11"), (3, "12"), (4, "13")] {
        let mut command = tests::mpirun(ranks);
        command.arg(tests::binary("examples/laws_over_ranks")).arg(seed);
        let output = succeed(&mut command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("300 orders and 100 test sets are those of one process"), "{said}");
    }
}

#[test]
fn law_5_exactly_the_trainable_bytes_travel_once_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A ring of two ranks sends each byte of an all-reduce once.
    let gradients = |name: &str| {
        let trainable = json(&path(name).join("result.json"))["trainable_parameters"].as_u64().unwrap();
        let bytes: Vec<u64> =
            metrics(&path(name), "step").iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
        (4 * trainable, bytes)
    };
    let scalars = 8 * 8;
    for (name, extra) in [("whole", vec![]), ("buckets", vec!["--set", "distributed.bucket_megabytes=0.001"])]
    {
        let extra =
            [&extra[..], &["--set", "train.max_steps=4", "--set", "head.placement=replicated"]].concat();
        demo_run(2, &path(name), &extra);
        let (trainable, bytes) = gradients(name);
        assert_eq!(bytes, vec![trainable + scalars; 4], "{name}");
    }
    let half = [
        "--set",
        "train.max_steps=4",
        "--set",
        "distributed.wire=bf16",
        "--set",
        "head.placement=replicated",
    ];
    demo_run(2, &path("half"), &half);
    within(&losses(&path("half")), &losses(&path("whole")), 1e-2);
}

//! The laws of docs/architecture.md on real ranks. Each test name contains the number of its law.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tests::stripes::{SMALL_TRAINING, small};
use tests::{json, losses, metrics, succeed, trainer, within};

/// A folder for runs, and the small data set in it.
fn folder_with_data() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = small(folder.path()).unwrap();
    (folder, data)
}

/// A short run in which the last batch of an epoch is smaller than the others.
fn short_run(ranks: usize, data: &Path, output: &Path, settings: &[&str]) {
    let mut command = trainer(ranks);
    command.args(["train", "-m", "demo", "-d"]).arg(data).arg("--output").arg(output);
    for setting in ["train.batch_size=7", "train.threads=1", "train.epochs=4"].iter().chain(settings) {
        command.args(["--set", setting]);
    }
    succeed(&mut command);
}

/// A short run of the embedded demo, which has many test images.
fn demo_run(ranks: usize, output: &Path, settings: &[&str]) {
    short_run(ranks, Path::new("demo"), output, settings);
}

#[test]
fn law_1_losses_do_not_depend_on_the_number_of_ranks() {
    let (folder, data) = folder_with_data();
    let run = |ranks: usize| folder.path().join(format!("{ranks}"));
    for ranks in [1, 2, 3] {
        short_run(ranks, &data, &run(ranks), &[]);
    }
    let alone = losses(&run(1));
    assert_eq!(alone.len(), 24);
    let samples: Vec<u64> =
        metrics(&run(1), "step").iter().map(|row| row["samples"].as_u64().unwrap()).collect();
    assert_eq!(samples, [7, 7, 7, 7, 7, 6].repeat(4), "the last batch of an epoch is smaller");
    within(&losses(&run(2)), &alone, 1e-5);
    within(&losses(&run(3)), &alone, 1e-5);
}

#[test]
fn law_1_losses_do_not_depend_on_micro_batches() {
    let (folder, data) = folder_with_data();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    // Batches of 24 and 17 samples: the share of a rank is split into micro-batches of 7 and 5, or 7 and 2 or 1.
    let settings = ["train.batch_size=24", "train.epochs=10"];
    short_run(1, &data, &whole, &settings);
    short_run(2, &data, &parts, &[&settings[..], &["train.micro_batch_size=7"]].concat());
    assert_eq!(losses(&whole).len(), 20);
    within(&losses(&parts), &losses(&whole), 1e-5);
}

#[test]
fn laws_1_and_4_a_rank_without_a_sample_makes_all_calls() {
    let (folder, data) = folder_with_data();
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    // The last step of an epoch has one sample, so two of three ranks have none.
    let settings = ["train.batch_size=8", "train.epochs=2"];
    assert_eq!(SMALL_TRAINING % 8, 1);
    short_run(1, &data, &one, &settings);
    short_run(3, &data, &three, &settings);
    assert_eq!(metrics(&three, "step").last().unwrap()["samples"], 1);
    within(&losses(&three), &losses(&one), 1e-5);
}

#[test]
fn law_2_evaluation_does_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for (ranks, batch) in [(1, 64), (2, 50), (3, 17)] {
        let run = folder.path().join(format!("{ranks}"));
        let batch = format!("eval.batch_size={batch}");
        demo_run(ranks, &run, &["train.epochs=0", &batch]);
        results.push(json(&run.join("result.json")));
    }
    for name in ["correct", "total", "accuracy", "many", "medium", "few", "macro_f1", "per_class"] {
        assert_eq!(results[0][name], results[1][name], "{name} on two ranks");
        assert_eq!(results[0][name], results[2][name], "{name} on three ranks");
    }
    assert_eq!(results[0]["total"], 1200);
}

/// Lines of `order` with batches of ten, as the selected fields.
fn order(data: &Path, arguments: &[(&str, u64)], fields: &[&str]) -> Vec<Vec<u64>> {
    let mut command = trainer(1);
    command.args(["order", "-m", "demo", "--set", "train.batch_size=10", "-d"]).arg(data);
    for (flag, value) in arguments {
        command.arg(flag).arg(value.to_string());
    }
    let text = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| fields.iter().map(|field| line[field].as_u64().unwrap()).collect()).collect()
}

/// The samples in the log of a rank: epoch, position, sample, step.
fn trained_on(run: &Path, rank: usize) -> Vec<Vec<u64>> {
    let log = std::fs::read_to_string(run.join(format!("logs/rank-{rank}.log"))).unwrap();
    let mut found = Vec::new();
    for line in log.lines().filter(|line| line.contains("one step's share of this rank")) {
        let after = |name: &str| line.split_once(&format!(" {name}=")).unwrap().1;
        let number = |name| after(name).split(' ').next().unwrap().parse::<u64>().unwrap();
        let list = |name| {
            serde_json::from_str::<Vec<u64>>(&format!("{}]", after(name).split_once(']').unwrap().0)).unwrap()
        };
        let pairs = list("positions").into_iter().zip(list("samples"));
        found.extend(pairs.map(|(position, sample)| vec![number("epoch"), position, sample, number("step")]));
    }
    found
}

#[test]
fn law_3_ranks_train_on_the_samples_of_the_order() {
    const STEPS: u64 = SMALL_TRAINING.div_ceil(10);
    let (folder, data) = folder_with_data();
    let mut on_one_rank = Vec::new();
    for world in [1, 2, 3, 4] {
        let run = folder.path().join(world.to_string());
        let mut command = trainer(world);
        command.args(["train", "-q", "-m", "demo", "-d"]).arg(&data).arg("--output").arg(&run);
        for setting in ["train.batch_size=10", "train.epochs=2", "train.threads=1", "head.init=random"] {
            command.args(["--set", setting]);
        }
        succeed(command.env("LIFT_LOG", "info,samples=trace"));
        let mut joined = Vec::new();
        for rank in 0..world {
            let trained = trained_on(&run, rank);
            joined.extend(trained.into_iter().map(|line| [line, vec![rank as u64]].concat()));
        }
        let fields = ["epoch", "position", "sample", "step", "rank"];
        let mut expected = Vec::new();
        for epoch in [0, 1] {
            expected.extend(order(&data, &[("--world", world as u64), ("--epoch", epoch)], &fields));
        }
        // `order` counts the steps of the whole run.
        for line in &mut joined {
            line[3] += line[0] * STEPS;
        }
        joined.sort();
        assert_eq!(joined, expected, "on {world} ranks");
        let samples: Vec<_> = joined.iter().map(|line| line[..3].to_vec()).collect();
        if world == 1 {
            on_one_rank = samples;
        } else {
            assert_eq!(samples, on_one_rank, "on {world} ranks");
        }
    }
    for epoch in [0, 1] {
        let mut samples: Vec<u64> =
            on_one_rank.iter().filter(|line| line[0] == epoch).map(|line| line[2]).collect();
        samples.sort_unstable();
        assert!(samples.into_iter().eq(0..SMALL_TRAINING), "each image once in epoch {epoch}");
    }
}

#[test]
fn law_3_the_order_starts_at_any_position() {
    let all = order(Path::new("demo"), &[("--epoch", 1)], &["position", "sample"]);
    let part = order(
        Path::new("demo"),
        &[("--epoch", 1), ("--from", 100), ("--count", 50)],
        &["position", "sample"],
    );
    assert_eq!(part, all[100..150]);
}

#[test]
fn law_5_frozen_weights_are_neither_sent_nor_changed() {
    let (folder, data) = folder_with_data();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    short_run(1, &data, &before, &["train.epochs=0"]);
    short_run(2, &data, &after, &["train.max_steps=5"]);
    let frozen = |run: &Path| json(&run.join("result.json"))["frozen_fingerprint"].clone();
    assert!(frozen(&before).is_string());
    assert_eq!(frozen(&before), frozen(&after));
}

#[test]
fn law_6_equal_seeds_give_equal_runs_and_different_seeds_different_runs() {
    let (folder, data) = folder_with_data();
    let run = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        short_run(1, &data, &path, &["train.max_steps=4", &format!("train.seed={seed}")]);
        losses(&path)
    };
    let first = run("a", "3");
    assert_eq!(run("b", "3"), first);
    assert_ne!(run("c", "4"), first);
}

#[test]
fn laws_2_and_3_hold_on_random_cases_over_ranks() {
    for (ranks, seed) in [(2, "11"), (3, "12"), (4, "13")] {
        let mut command = tests::mpirun(ranks);
        command.arg(tests::binary("examples/laws_over_ranks")).arg(seed);
        let output = succeed(&mut command);
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(messages.contains("300 orders and 100 test sets are those of one process"), "{messages}");
    }
}

#[test]
fn law_5_exactly_the_trainable_bytes_are_sent_once_per_step() {
    let (folder, data) = folder_with_data();
    let path = |name: &str| folder.path().join(name);
    let scalars = 8 * 8;
    let settings = ["train.max_steps=4", "head.placement=replicated"];
    for (name, extra) in [("whole", &[][..]), ("buckets", &["distributed.bucket_megabytes=0.001"])] {
        short_run(2, &data, &path(name), &[&settings[..], extra].concat());
        let trainable = json(&path(name).join("result.json"))["trainable_parameters"].as_u64().unwrap();
        let bytes: Vec<u64> =
            metrics(&path(name), "step").iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
        // On two ranks, a ring all-reduce sends each byte once.
        assert_eq!(bytes, vec![4 * trainable + scalars; 4], "{name}");
    }
    short_run(2, &data, &path("half"), &[&settings[..], &["distributed.wire=bf16"]].concat());
    within(&losses(&path("half")), &losses(&path("whole")), 1e-2);
    assert_ne!(losses(&path("half")), losses(&path("whole")), "bf16 gradients change the losses");
}

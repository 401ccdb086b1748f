//! Losses on real ranks: normalisers, softmax over sharded classes, and the loss that is a function of the whole batch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use tests::stripes::data_beside;
use tests::synthetic::data_set;
use tests::{losses, metrics, run, stderr, succeed, trainer, within};

/// A run on the small data set with this loss.
fn short_run(ranks: usize, output: &Path, loss: &str, settings: &[&str]) -> Command {
    run_on(&data_beside(output), ranks, output, loss, settings)
}

fn run_on(data: &Path, ranks: usize, output: &Path, loss: &str, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-m", "demo", "--set", "train.threads=1", "-d"]).arg(data);
    command.arg("--set").arg(format!("loss.kind={loss}"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

#[test]
fn law_1_losses_with_other_normalisers_or_over_the_whole_batch_do_not_depend_on_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let whole = ["train.batch_size=21", "train.max_steps=20"];
    // Two ranks have eleven and ten samples: three micro-batches of up to five, the last with one sample and with none.
    let micro_batches = [&whole[..], &["train.micro_batch_size=5", "backbone.placement=sharded"]].concat();
    for (loss, on_two_ranks) in
        [("class_balanced", vec![&micro_batches[..]]), ("lade", vec![&whole[..], &micro_batches[..]])]
    {
        let path = |name: &str| folder.path().join(format!("{loss}-{name}"));
        succeed(&mut short_run(1, &path("alone"), loss, &whole));
        let alone = losses(&path("alone"));
        assert!(alone.iter().any(|loss| (loss - alone[0]).abs() > 0.01), "{loss} learns: {alone:?}");
        for (number, settings) in on_two_ranks.into_iter().enumerate() {
            let two = path(&format!("two-{number}"));
            succeed(&mut short_run(2, &two, loss, settings));
            within(&losses(&two), &alone, 1e-5);
        }
    }
}

#[test]
fn law_1_any_world_covers_a_loss_over_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        ["train.determinism=any_world", "train.virtual_shards=2", "train.max_steps=8", "train.batch_size=16"];
    let final_bytes = |run: &Path| std::fs::read(run.join("final.safetensors")).unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    // One rank runs the forward passes of both shards twice; each of two ranks runs that of its shard once.
    succeed(&mut short_run(1, &one, "lade", &settings));
    succeed(&mut short_run(2, &two, "lade", &settings));
    assert_eq!(losses(&one), losses(&two));
    assert!(final_bytes(&one) == final_bytes(&two));
}

#[test]
fn law_4_a_rank_without_a_sample_makes_all_calls_of_a_loss_over_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let data = data_set(folder.path(), [0, 1, 2, 3, 0, 1, 0]).unwrap();
    let path = |name: &str| folder.path().join(name);
    // Batches of 3, 3 and 1: one of two ranks has no sample in the last one.
    for (name, ranks) in [("one", 1), ("two", 2)] {
        let mut command = trainer(ranks);
        command.args(["train", "-q", "-m", "demo", "--set", "train.threads=1", "--set", "loss.kind=lade"]);
        command.args(["--set", "train.batch_size=3", "--set", "train.epochs=2", "--set", "head.init=random"]);
        succeed(command.arg("-d").arg(&data).arg("--output").arg(path(name)));
    }
    let samples: Vec<_> = metrics(&path("two"), "step").iter().map(|row| row["samples"].clone()).collect();
    assert_eq!(samples, [3, 3, 1, 3, 3, 1]);
    within(&losses(&path("two")), &losses(&path("one")), 1e-5);
}

#[test]
fn losses_on_sharded_classes_equal_those_on_replicated_ones() {
    let folder = tempfile::tempdir().unwrap();
    for loss in ["ldam", "class_balanced"] {
        let path = |name: &str| folder.path().join(format!("{loss}-{name}"));
        let settings = ["train.batch_size=15", "train.max_steps=8"];
        succeed(&mut short_run(1, &path("whole"), loss, &settings));
        let divided = [&settings[..], &["head.placement=sharded", "train.micro_batch_size=4"]].concat();
        succeed(&mut short_run(2, &path("divided"), loss, &divided));
        within(&losses(&path("divided")), &losses(&path("whole")), 1e-5);
    }
}

#[test]
fn lade_is_refused_on_sharded_classes_and_auto_replicates_them() {
    // With more classes than the small data set has.
    let data = Path::new("demo");
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.batch_size=2", "train.max_steps=1"];
    let refused =
        run(&mut run_on(data, 2, &folder.path().join("refused"), "lade", &["head.placement=sharded"]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("LADE needs all logits of a sample"), "{}", stderr(&refused));
    let other = succeed(&mut run_on(data, 2, &folder.path().join("other"), "focal", &settings));
    assert!(stderr(&other).contains("head.placement: sharded"), "{}", stderr(&other));
    let lade = succeed(&mut run_on(data, 2, &folder.path().join("lade"), "lade", &settings));
    assert!(
        stderr(&lade).contains("head.placement: replicated, because loss.kind=lade"),
        "{}",
        stderr(&lade)
    );
}

#[test]
fn every_loss_is_finite_with_a_class_without_images_which_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = data_set(folder.path(), [0, 0, 0, 0, 1, 1, 4, 4, 0, 1, 4, 5]).unwrap();
    for (loss, asks) in
        [("logit_adjusted", true), ("ldam", true), ("class_balanced", true), ("lade", true), ("focal", false)]
    {
        let path = folder.path().join(loss);
        let mut command = trainer(1);
        command.args(["train", "-m", "demo", "--set", "train.threads=1", "--set", "head.init=random"]);
        command.args(["--set", "train.batch_size=6", "--set", "train.epochs=1", "--set"]);
        command.arg(format!("loss.kind={loss}")).arg("-d").arg(&data).arg("--output").arg(&path);
        let text = stderr(&succeed(&mut command));
        let note = format!(
            "loss.kind={loss}: 2 classes without a training image, taken for as rare as the rarest class that has some"
        );
        assert_eq!(text.matches(&note).count(), usize::from(asks), "{text}");
        assert!(losses(&path).iter().all(|loss| loss.is_finite()), "{loss}: {:?}", losses(&path));
    }
}

//! What counts as a rank that stands still.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::{metrics, succeed, trainer};

#[test]
fn an_evaluation_may_take_longer_than_a_rank_may_stand_still() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = trainer(1);
    command.args(["train", "--set", "train.epochs=0", "--set", "eval.batch_size=1"]);
    command.args(["--set", "train.precision=fp64", "--set", "train.threads=1"]);
    command.args(["--set", "distributed.timeout_seconds=2"]).arg("--output").arg(&output);
    succeed(&mut command);
    let seconds = metrics(&output, "eval")[0]["seconds"].as_f64().unwrap();
    if seconds <= 2.0 {
        eprintln!("skipped: an_evaluation_may_take_longer_than_a_rank_may_stand_still (it took {seconds} s)");
    }
}

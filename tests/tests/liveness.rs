//! Which ranks count as stuck.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::synthetic::data_set;
use tests::{metrics, succeed, trainer};

/// The test list grows until an evaluation takes longer than the limit, on any machine.
#[test]
fn an_evaluation_may_take_longer_than_the_stall_limit() {
    const LIMIT: f64 = 2.0;
    let mut seconds = Vec::new();
    for images in (0..10).map(|doubled| 1_000 << doubled) {
        let folder = tempfile::tempdir().unwrap();
        let data = data_set(folder.path(), [0, 1]).unwrap();
        std::fs::write(folder.path().join("test.txt"), "a.png 1\n".repeat(images)).unwrap();
        let output = folder.path().join("run");
        let mut command = trainer(1);
        command.args(["train", "-q", "-m", "demo", "--set", "train.epochs=0", "--set", "head.init=random"]);
        command.args(["--set", "eval.batch_size=1", "--set", "train.precision=fp64"]);
        command.arg("--set").arg(format!("distributed.timeout_seconds={LIMIT}"));
        succeed(command.args(["--set", "train.threads=1", "-d"]).arg(data).arg("--output").arg(&output));
        seconds.push(metrics(&output, "eval")[0]["seconds"].as_f64().unwrap());
        if seconds.last() > Some(&LIMIT) {
            return;
        }
    }
    panic!("no evaluation took longer than {LIMIT} s: {seconds:?}");
}

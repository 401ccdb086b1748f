//! Trainings of ten epochs, as published: LIFT, classifier only, full fine-tuning.

use crate::Compared;
use crate::training::{DifferenceLimits, OfficialFigures, Repeated, compare as train_and_compare};
use std::path::Path;
use tests::official::Official;

/// Results of the official code: means over its seeds (three of `lift` and `classifier`, one of `full`).
const OFFICIAL: [(&str, &[&str], OfficialFigures); 4] = [
    ("lift", &["lift"], OfficialFigures([30.43, 25.74, 31.45, 34.70, 3.195, 2.571])),
    ("classifier", &["classifier"], OfficialFigures([30.12, 24.83, 30.93, 35.34, 3.338, 2.575])),
    (
        "full-0.01",
        &["full", "train.learning_rate=0.01"],
        OfficialFigures([31.84, 30.66, 32.23, 32.77, 3.010, 2.370]),
    ),
    (
        "full-0.0005",
        &["full", "train.learning_rate=0.0005"],
        OfficialFigures([28.19, 26.69, 29.71, 28.17, 3.602, 2.740]),
    ),
];

const LIMITS: DifferenceLimits = DifferenceLimits { overall: 1.0, group: 1.0, loss: 0.05 };

pub fn compare(official: &Official, runs: &Path) -> Compared {
    let repeated: Vec<Repeated> = OFFICIAL
        .iter()
        .map(|(name, method, expected)| Repeated {
            name: (*name).to_owned(),
            folder: (*name).to_owned(),
            expected: *expected,
            command: Box::new(|seed| {
                let mut command = official.command(1, "train", method[0]);
                for setting in method[1..].iter().chain(&["train.threads=1", "data.decode=exact"]) {
                    command.args(["--set", setting]);
                }
                command.args(["--set", &format!("train.seed={seed}")]);
                command
            }),
        })
        .collect();
    train_and_compare(&repeated, &LIMITS, runs)
}

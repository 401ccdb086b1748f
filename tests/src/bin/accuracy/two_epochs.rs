//! Trainings of two epochs with various options: one official run of each.

use crate::Compared;
use crate::training::{DifferenceLimits, OfficialFigures, Repeated, compare as train_and_compare};
use std::path::Path;
use tests::official::{Official, OfficialRun};

/// One official run is compared with the mean of three; group accuracies vary by about a point between seeds.
const LIMITS: DifferenceLimits = DifferenceLimits { overall: 1.5, group: 2.5, loss: 0.05 };

pub fn compare(official: &Official, runs: &Path) -> Compared {
    let recorded = official.runs();
    let repeated: Vec<Repeated> = recorded
        .iter()
        .map(|run| Repeated {
            name: run.name.clone(),
            folder: format!("official-{}", run.name),
            expected: figures(run),
            command: Box::new(|seed| run.training(official, seed)),
        })
        .collect();
    train_and_compare(&repeated, &LIMITS, runs)
}

fn figures(run: &OfficialRun) -> OfficialFigures {
    let losses = run.epoch_losses();
    let [first, .., last] = losses[..] else { panic!("{}: two epochs are expected", run.name) };
    let [overall, many, medium, few] = ["overall", "many", "medium", "few"].map(|name| run.test(name));
    OfficialFigures([overall, many, medium, few, first, last])
}

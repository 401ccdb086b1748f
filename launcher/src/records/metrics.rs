//! `metrics.jsonl`.

use super::{RecordError, bytes};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The lines of a run by kind, each in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Training steps.
    pub steps: Vec<StepLine>,
    /// Ends of epochs.
    pub epochs: Vec<EpochLine>,
    /// Evaluations.
    pub evaluations: Vec<EvalLine>,
}

/// A training step. A number that is not finite is null in the file and none here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Its epoch, counted from 0.
    pub epoch: u64,
    /// Its number, counted from 1.
    pub step: u64,
    /// Mean loss of the global batch.
    pub loss: Option<f64>,
    /// The learning rate.
    pub learning_rate: Option<f64>,
    /// Images per second over all ranks.
    pub images_per_second: Option<f64>,
    /// Seconds that rank 0 waited for its images.
    pub data_wait: Option<f64>,
    /// Images of the batch.
    #[serde(default)]
    pub samples: u64,
}

impl StepLine {
    /// Seconds of the step, from its images and its speed.
    pub fn seconds(&self) -> Option<f64> {
        self.images_per_second.filter(|speed| *speed > 0.0).map(|speed| self.samples as f64 / speed)
    }
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Mean loss of its steps.
    pub loss: Option<f64>,
    /// Seconds it took.
    pub seconds: Option<f64>,
}

/// An evaluation, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Accuracy over images.
    pub accuracy: Option<f64>,
    /// Mean accuracy of the many-shot classes.
    #[serde(default)]
    pub many: Option<f64>,
    /// Mean accuracy of the medium-shot classes.
    #[serde(default)]
    pub medium: Option<f64>,
    /// Mean accuracy of the few-shot classes.
    #[serde(default)]
    pub few: Option<f64>,
    /// Mean of the class accuracies.
    #[serde(default)]
    pub mean_class_accuracy: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Step(StepLine),
    Epoch(EpochLine),
    Eval(EvalLine),
    /// Of a later version.
    #[serde(other)]
    Other,
}

impl Metrics {
    /// Reads the file; one that does not exist is empty. A last line without an end is being written, or was torn when
    /// the run was killed: it is left out.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let mut metrics = Self::default();
        let text = bytes(path)?.unwrap_or_default();
        metrics.add(&text).map_err(|(line, reason)| RecordError::Content {
            path: path.to_owned(),
            line: Some(line),
            what: "a line of metrics",
            reason,
        })?;
        Ok(metrics)
    }

    /// Adds the complete lines of `text`, and returns their length. An error has the number of its line.
    pub fn add(&mut self, text: &[u8]) -> Result<usize, (usize, String)> {
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for (number, line) in text[..end].split_inclusive(|byte| *byte == b'\n').enumerate() {
            match serde_json::from_slice(line).map_err(|error| (number + 1, error.to_string()))? {
                Line::Step(step) => self.steps.push(step),
                Line::Epoch(epoch) => self.epochs.push(epoch),
                Line::Eval(evaluation) => self.evaluations.push(evaluation),
                Line::Other => {}
            }
        }
        Ok(end)
    }

    /// Whether a run wrote anything yet.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.epochs.is_empty() && self.evaluations.is_empty()
    }
}

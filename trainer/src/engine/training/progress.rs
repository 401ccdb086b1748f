//! Progress of a run: its complete state except the tensors.

use crate::data::source::ContentSample;
use crate::engine::eval::bad_images::BadImages;
use crate::engine::step::loss_scale::LossScale;
use crate::run::MetricsPosition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The progress of a run between two steps. Together with the trained tensors and the momentum, this is the complete
/// state of a run (law 7).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The current epoch, counted from 0; the number of epochs when all are done.
    pub epoch: u64,
    /// Steps done in it. A resumed run starts its loader at this step of the epoch.
    pub in_epoch: u64,
    /// Number of its steps; known with its first step.
    pub of_epoch: u64,
    /// Steps done over the whole run.
    pub steps: u64,
    /// Samples seen.
    pub samples: u64,
    /// Unreadable images that were left out. Older versions stored counts instead.
    #[serde(default)]
    pub left_out_images: BadImages,
    /// Steps that were skipped or rolled back because something was not finite.
    pub non_finite: u64,
    /// Steps to skip, because they were rolled back.
    #[serde(rename = "left_out")]
    pub skipped_steps: BTreeSet<u64>,
    /// Factor on the loss in fp16; not used in other precisions.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// Whether the evaluation of the epoch that has just ended is still pending.
    pub evaluation_due: bool,
    /// Means over the steps of the epoch.
    pub totals: EpochTotals,
    /// Seconds in the training loop.
    pub seconds: f64,
}

impl Progress {
    /// Whether no epoch has begun, or all its steps are done.
    pub fn is_between_epochs(&self) -> bool {
        self.in_epoch == 0 || self.in_epoch >= self.of_epoch
    }
}

/// Means over the steps of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochTotals {
    /// Sum of the steps' losses.
    pub losses: f64,
    /// Steps with a loss.
    pub steps: u64,
    /// Samples.
    pub samples: u64,
    /// Seconds.
    pub seconds: f64,
}

impl EpochTotals {
    /// Counts a step whose loss is finite.
    pub fn add(&mut self, loss: f64, samples: u64) {
        self.losses += loss;
        self.steps += 1;
        self.samples += samples;
    }

    /// Mean loss of a step; NaN without one.
    pub fn mean_loss(&self) -> f64 {
        self.losses / self.steps as f64
    }
}

/// The identity of a run, the same in all its checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// The resolved configuration, as in `config.toml`.
    pub config: String,
    /// Fingerprint of the backbone, which is not in the checkpoint.
    pub backbone_fingerprint: String,
    /// How the backbone is computed, which its tensors do not determine; absent in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone_config: Option<String>,
    /// Fingerprint of the data set's lists.
    pub data_fingerprint: String,
    /// Sizes and some bytes of some of its images; absent in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sample: Option<ContentSample>,
}

/// The content of a checkpoint besides the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Progress of the run.
    pub progress: Progress,
    /// Length of `metrics.jsonl`.
    pub metrics_position: u64,
    /// Identity of the run.
    #[serde(flatten)]
    pub identity: RunIdentity,
    /// Number of ranks that wrote it; any number can resume from it.
    pub world_size: usize,
}

impl RunState {
    /// Position in the metrics at which the checkpoint was taken.
    pub fn mark(&self) -> MetricsPosition {
        MetricsPosition { position: self.metrics_position, step: self.progress.steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::demo::demo_data_set;

    #[test]
    fn progress_of_older_programs_is_read() {
        let mut written = serde_json::to_value(Progress { steps: 7, ..Progress::default() }).unwrap();
        let fields = written.as_object_mut().unwrap();
        fields.remove("left_out_images");
        fields.insert("bad_images".into(), 3.into());
        let read: Progress = serde_json::from_value(written).unwrap();
        assert_eq!(read, Progress { steps: 7, ..Progress::default() });
    }

    #[test]
    fn an_epoch_without_a_loss_has_no_mean() {
        assert!(EpochTotals::default().mean_loss().is_nan());
    }

    /// A checkpoint of a version that did not store the sample of the data is still readable.
    #[test]
    fn a_state_without_a_sample_is_read() {
        let sample = Some(demo_data_set(0).content_sample());
        let identity = RunIdentity { data_sample: sample, ..RunIdentity::default() };
        let state = RunState { identity, progress: Progress::default(), metrics_position: 3, world_size: 2 };
        let mut json = serde_json::to_value(&state).unwrap();
        assert_eq!(serde_json::from_value::<RunState>(json.clone()).unwrap(), state);
        json.as_object_mut().unwrap().remove("data_sample").unwrap();
        let old: RunState = serde_json::from_value(json).unwrap();
        assert_eq!(old.identity.data_sample, None);
    }
}

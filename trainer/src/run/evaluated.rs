//! `evaluation.json` from the predictions of an evaluation.

use super::{RunFolderError, Shot, ShotLimits, json};
use protocol::evaluation::{BINS, EvaluationRecord, FORMAT, GroupReliability, Mistake, ReliabilityBin, bin};
use protocol::{layout, write_atomically};
use std::collections::BTreeMap;
use std::path::Path;

const WHAT: &str = "the record of the evaluation";
/// Mistakes that are recorded without a request for pictures.
pub const MOST_MISTAKES: usize = 24;

/// Predictions for the images of a list. An image that was left out has a negative prediction.
#[derive(Clone, Copy)]
pub struct Evaluated<'a> {
    /// The predicted class of each image.
    pub predictions: &'a [i64],
    /// Its softmax probability in millionths.
    pub confidences: &'a [u64],
    /// The class of each image.
    pub labels: &'a [u32],
    /// Training images of each class.
    pub train_counts: &'a [u64],
    /// Training images of the medium classes.
    pub limits: ShotLimits,
}

impl Evaluated<'_> {
    /// The record, with at most `most` mistakes. `name` gives the name of an image.
    pub fn record(&self, most: usize, name: impl Fn(usize) -> String) -> EvaluationRecord {
        let mut confusion = BTreeMap::new();
        let mut reliability = Shot::ALL.map(|_| [ReliabilityBin::default(); BINS]);
        let (mut images, mut wrong) = (0, Vec::new());
        let each = self.predictions.iter().zip(self.confidences).zip(self.labels).enumerate();
        for (image, ((&prediction, &confidence), &label)) in each {
            let Ok(predicted) = u32::try_from(prediction) else { continue };
            let shot = self.limits.group(self.train_counts.get(label as usize).copied().unwrap_or(0));
            reliability[shot as usize][bin(confidence)].add(confidence, predicted == label);
            images += 1;
            if predicted != label {
                *confusion.entry((label, predicted)).or_insert(0) += 1;
                wrong.push((std::cmp::Reverse(confidence), image, label, predicted));
            }
        }
        wrong.sort_unstable();
        wrong.truncate(most);
        let mistake =
            |(confidence, image, label, predicted): (std::cmp::Reverse<u64>, usize, u32, u32)| Mistake {
                image: image as u64,
                name: name(image),
                label,
                predicted,
                confidence: confidence.0,
                thumbnail: None,
            };
        let group = |(shot, bins): (Shot, [ReliabilityBin; BINS])| GroupReliability {
            group: shot.word().to_owned(),
            bins: bins.to_vec(),
        };
        EvaluationRecord {
            format: FORMAT,
            classes: self.train_counts.len(),
            images,
            confusion: confusion.into_iter().map(|((label, predicted), n)| (label, predicted, n)).collect(),
            reliability: Shot::ALL.into_iter().zip(reliability).map(group).collect(),
            mistakes: wrong.into_iter().map(mistake).collect(),
        }
    }
}

/// Replaces `evaluation.json` in `run_folder` atomically.
pub fn write_evaluation(record: &EvaluationRecord, run_folder: &Path) -> Result<(), RunFolderError> {
    let path = run_folder.join(layout::EVALUATION);
    json::to_lines(record)
        .and_then(|text| write_atomically(&path, &text))
        .map_err(|error| RunFolderError::io("write", WHAT, &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_become_confusion_bins_and_mistakes() {
        let evaluated = Evaluated {
            predictions: &[0, 2, -1, 2, 0, 1],
            confidences: &[900_000, 400_000, 0, 1_000_000, 950_000, 20_000],
            labels: &[0, 0, 1, 1, 1, 2],
            train_counts: &[500, 50, 5],
            limits: ShotLimits::default(),
        };
        let record = evaluated.record(2, |image| format!("image {image}"));
        assert_eq!((record.classes, record.images), (3, 5));
        assert_eq!(record.confusion, [(0, 2, 1), (1, 0, 1), (1, 2, 1), (2, 1, 1)]);
        let mistakes: Vec<_> =
            record.mistakes.iter().map(|mistake| (mistake.image, &*mistake.name)).collect();
        assert_eq!(mistakes, [(3, "image 3"), (4, "image 4")]);
        let groups: Vec<&str> = record.reliability.iter().map(|group| group.group.as_str()).collect();
        assert_eq!(groups, ["many", "medium", "few"]);
        let many = &record.reliability[0].bins;
        assert_eq!(many[13], ReliabilityBin { images: 1, correct: 1, confidence: 900_000 });
        assert_eq!(many[5], ReliabilityBin { images: 1, correct: 0, confidence: 400_000 });
        assert_eq!(record.reliability[2].bins[0].images, 1);

        let folder = tempfile::tempdir().unwrap();
        write_evaluation(&record, folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("evaluation.json")).unwrap();
        assert_eq!(serde_json::from_str::<EvaluationRecord>(&text).unwrap(), record);
    }

    #[test]
    fn without_images_there_is_nothing_to_count() {
        let nothing = Evaluated {
            predictions: &[],
            confidences: &[],
            labels: &[],
            train_counts: &[1, 2],
            limits: ShotLimits::default(),
        };
        let record = nothing.record(9, |_| String::new());
        assert!(record.confusion.is_empty() && record.mistakes.is_empty() && record.images == 0);
    }
}

//! `result.json`: the figures of a finished run, and the settings that they were obtained with.

use super::{
    Calibration, ClassCounts, CountsError, RunFolderError, ShotLimits, Summary, Views, json, percent,
};
use protocol::{layout, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::Path;

const WHAT: &str = "the result";

/// The content of `result.json`. Figures are in percent, and null where undefined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the data preset.
    pub data: String,
    /// Name of the model preset.
    pub model: String,
    /// Name of the method preset.
    pub method: String,
    /// The seed of all random draws.
    pub seed: u64,
    /// Number of ranks.
    pub world_size: usize,
    /// `cpu`, or the name of the GPU.
    pub device: String,
    /// Arithmetic of the frozen backbone and of the steps, e.g. `fp32`.
    pub precision: String,
    /// How images were resized, e.g. `bilinear`.
    pub filter: String,
    /// Fingerprint of the frozen weights.
    pub weights_fingerprint: String,
    /// Fingerprint of the frozen tensors in use, after the run.
    pub frozen_fingerprint: String,
    /// The evaluated images and their views.
    #[serde(default)]
    pub evaluation: Views,
    /// Accuracy figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// Number of trained scalars.
    pub trainable_parameters: u64,
    /// Training images per second over all ranks; null if nothing was trained.
    pub images_per_second: Option<f64>,
    /// The most memory of a GPU that a rank used; null on CPUs.
    #[serde(default)]
    pub gpu_memory: Option<GpuMemory>,
    /// Duration of the run in seconds.
    pub seconds: f64,
    /// Unreadable images that were left out, of training and test together, each counted once.
    pub bad_images: u64,
    /// Names of the classes without an evaluated image. No figure includes them.
    #[serde(default)]
    pub absent_classes: Vec<String>,
    /// Training images of the medium classes.
    #[serde(default)]
    pub groups: ShotLimits,
    /// The classes, in label order.
    pub per_class: Vec<ClassResult>,
    /// The predicted class of each evaluated image, in the order of its list, -1 for one left out; only on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Vec<i64>>,
    /// What `lift-trainer calibrate` found; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// The greatest memory of a GPU over the ranks of a run, as libtorch's allocator counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMemory {
    /// Bytes of tensors.
    pub peak_allocated_bytes: u64,
    /// Bytes that the allocator took from the device.
    pub peak_reserved_bytes: u64,
}

/// One class in [`RunResult::per_class`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// Its name.
    pub name: String,
    /// Its training images.
    pub train_count: u64,
    /// Its evaluated images, without those left out.
    pub test_count: u64,
    /// Its correctly classified images.
    pub correct: u64,
    /// Its accuracy in percent; null for an absent class.
    pub accuracy: Option<f64>,
}

impl ClassResult {
    /// The rows of all classes.
    pub fn of_all(
        names: &[String],
        train_counts: &[u64],
        counts: &ClassCounts,
    ) -> Result<Vec<Self>, CountsError> {
        for found in [names.len(), train_counts.len()] {
            if found != counts.classes() {
                return Err(CountsError::Classes { expected: counts.classes(), found });
            }
        }
        let tested = counts.total().iter().zip(counts.correct());
        let rows = names.iter().zip(train_counts).zip(tested).map(|((name, train), (total, correct))| {
            let (test_count, correct) = (total.unsigned_abs(), correct.unsigned_abs());
            let accuracy = percent(correct, test_count);
            Self { name: name.clone(), train_count: *train, test_count, correct, accuracy }
        });
        Ok(rows.collect())
    }

    /// Names of those without an evaluated image.
    pub fn absent(all: &[Self]) -> Vec<String> {
        all.iter().filter(|class| class.test_count == 0).map(|class| class.name.clone()).collect()
    }
}

impl RunResult {
    /// Replaces `result.json` in `run_folder` atomically.
    pub fn write(&self, run_folder: &Path) -> Result<(), RunFolderError> {
        let path = run_folder.join(layout::RESULT);
        self.to_json()
            .and_then(|text| write_atomically(&path, &text))
            .map_err(|error| RunFolderError::io("write", WHAT, &path, error))
    }

    /// The text of `result.json`, with one line per field and per class.
    pub fn to_json(&self) -> std::io::Result<Vec<u8>> {
        json::to_lines(self)
    }

    /// Reads `result.json` in `run_folder`.
    pub fn read(run_folder: &Path) -> Result<Self, RunFolderError> {
        let path = run_folder.join(layout::RESULT);
        let text = std::fs::read(&path).map_err(|error| RunFolderError::io("read", WHAT, &path, error))?;
        serde_json::from_slice(&text).map_err(|error| RunFolderError::Content {
            what: "result",
            path,
            line: Some(error.line()),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small run of three classes, one of them without a test image.
    pub(crate) fn example() -> RunResult {
        let mut counts = ClassCounts::new(3);
        counts.add(&[0, 0, 2, 0, 2], &[0, 0, 2, 2, 2]).unwrap();
        let (names, train) = (["cat", "dog", "elk"].map(String::from), [500, 50, 5]);
        RunResult {
            data: "demo".into(),
            model: "demo".into(),
            method: "lift".into(),
            seed: 7,
            world_size: 2,
            device: "cpu".into(),
            precision: "fp32".into(),
            filter: "bilinear".into(),
            weights_fingerprint: "0123abcd".into(),
            frozen_fingerprint: "4567cdef".into(),
            evaluation: Views {
                crops: "five".into(),
                crops_per_image: 5,
                expand: Some(6),
                ..Views::default()
            },
            summary: Summary::new(&counts, &train, ShotLimits::default()).unwrap(),
            trainable_parameters: 1_622_528,
            images_per_second: Some(1234.5),
            gpu_memory: None,
            seconds: 61.25,
            bad_images: 0,
            absent_classes: vec!["dog".into()],
            groups: ShotLimits::default(),
            per_class: ClassResult::of_all(&names, &train, &counts).unwrap(),
            predictions: Some(vec![0, 0, 2, 0, 2]),
            calibration: None,
        }
    }

    #[test]
    fn is_written_as_the_contract_says() {
        let folder = tempfile::tempdir().unwrap();
        let result = example();
        result.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("result.json")).unwrap();
        let expected = r#"{
  "data": "demo",
  "model": "demo",
  "method": "lift",
  "seed": 7,
  "world_size": 2,
  "device": "cpu",
  "precision": "fp32",
  "filter": "bilinear",
  "weights_fingerprint": "0123abcd",
  "frozen_fingerprint": "4567cdef",
  "evaluation": {"split": "test", "crops": "five", "crops_per_image": 5, "expand": 6},
  "accuracy": 80.0,
  "many": 100.0,
  "medium": null,
  "few": 66.66666666666667,
  "macro_f1": 80.0,
  "mean_class_accuracy": 83.33333333333334,
  "worst_class": 66.66666666666667,
  "harmonic_mean": 80.0,
  "geometric_mean": GEOMETRIC,
  "correct": 4,
  "total": 5,
  "trainable_parameters": 1622528,
  "images_per_second": 1234.5,
  "gpu_memory": null,
  "seconds": 61.25,
  "bad_images": 0,
  "absent_classes": ["dog"],
  "groups": {"from": 20, "to": 100},
  "per_class": [
    {"name": "cat", "train_count": 500, "test_count": 2, "correct": 2, "accuracy": 100.0},
    {"name": "dog", "train_count": 50, "test_count": 0, "correct": 0, "accuracy": null},
    {"name": "elk", "train_count": 5, "test_count": 3, "correct": 2, "accuracy": 66.66666666666667}
  ],
  "predictions": [0,0,2,0,2]
}
"#;
        // The last digit of a power is not the same on every machine.
        let geometric = result.summary.geometric_mean.unwrap();
        assert!((geometric - 81.649_658_092_772_6).abs() < 1e-12, "{geometric}");
        assert_eq!(text, expected.replace("GEOMETRIC", &geometric.to_string()));
        assert_eq!(RunResult::read(folder.path()).unwrap(), result);
    }

    #[test]
    fn a_class_that_was_not_evaluated_is_absent() {
        let result = example();
        assert_eq!(ClassResult::absent(&result.per_class), result.absent_classes);
        assert_eq!(ClassResult::absent(&result.per_class[..1]), [] as [String; 0]);
    }

    #[test]
    fn a_result_of_an_older_version_is_of_centre_crops() {
        let mut value = serde_json::to_value(example()).unwrap();
        for key in ["evaluation", "absent_classes"] {
            value.as_object_mut().unwrap().remove(key);
        }
        let result: RunResult = serde_json::from_value(value).unwrap();
        assert_eq!(result.evaluation, Views::default());
    }

    #[test]
    fn predictions_are_there_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let result = RunResult { predictions: None, images_per_second: None, ..example() };
        result.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("result.json")).unwrap();
        assert!(!text.contains("predictions"), "{text}");
        assert_eq!(RunResult::read(folder.path()).unwrap(), result);
    }

    #[test]
    fn names_of_another_data_set_are_refused() {
        let counts = ClassCounts::new(2);
        let names = ["a".to_owned()];
        let error = ClassResult::of_all(&names, &[1, 1], &counts).unwrap_err();
        assert_eq!(error, CountsError::Classes { expected: 2, found: 1 });
        assert!(ClassResult::of_all(&["a".into(), "b".into()], &[1], &counts).is_err());
    }

    #[test]
    fn refusals_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        let message = RunResult::read(folder.path()).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("cannot read the result `{}`: No such file or directory (os error 2)", path.display())
        );
        std::fs::write(&path, "{\n\"data\": 3}").unwrap();
        let message = RunResult::read(folder.path()).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("result `{}`, line 2: invalid type", path.display())),
            "{message}"
        );
        let gone = folder.path().join("gone");
        let message = example().write(&gone).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot write the result `{}/result.json`", gone.display())));
    }
}

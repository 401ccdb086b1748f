//! Recorded runs of the official trainer on CIFAR-100-LT and `tiny-clip`: checkpoints, predictions and metrics.

use crate::{json, shared, succeed, trainer};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of the data and the backbones of the official runs.
pub struct Official {
    /// The folder of CIFAR-100-LT.
    pub data: PathBuf,
    /// The folder of backbones and official runs.
    pub backbones: PathBuf,
}

/// One run of the official trainer: its options, checkpoint and metrics.
pub struct OfficialRun {
    /// Name of its folder.
    pub name: String,
    folder: PathBuf,
    expected: Value,
}

/// Comparison of our predictions with the official ones.
#[derive(Debug)]
pub struct PredictionComparison {
    /// Number of our correct predictions.
    pub correct: u64,
    /// Number of the official correct predictions.
    pub expected: u64,
    /// Differing predictions: image, official class, our class.
    pub different: Vec<(usize, String, String)>,
}

impl Official {
    /// Finds data and backbones. If they do not exist, prints that the test is skipped and returns `None`.
    pub fn find(test: &str) -> Option<Self> {
        let data = shared(test, "LIFT_DATA", "data")?.join("cifar100");
        Some(Self { data, backbones: shared(test, "LIFT_BACKBONES", "backbones")? })
    }

    /// `train` or `eval` of a method on these data with this backbone.
    pub fn command(&self, ranks: usize, command: &str, method: &str) -> Command {
        let mut trainer = trainer(ranks);
        trainer.args([command, "-d", "cifar100_ir100", "-m", "tiny_clip", "--method", method]);
        let model = self.backbones.join("tiny-clip/model.safetensors");
        trainer.arg("--set").arg(format!("data.root={}", self.data.display()));
        trainer.arg("--set").arg(format!("model.weights={}", model.display()));
        trainer
    }

    /// All recorded runs, sorted by name.
    pub fn runs(&self) -> Vec<OfficialRun> {
        let folder = self.backbones.join("official");
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let folders = entries.map(|entry| entry.expect("an entry can be read").path());
        let mut runs: Vec<OfficialRun> =
            folders.filter(|folder| folder.join("expected.json").exists()).map(OfficialRun::open).collect();
        assert!(!runs.is_empty(), "{}: no official run", folder.display());
        runs.sort_by(|a, b| a.name.cmp(&b.name));
        runs
    }
}

impl OfficialRun {
    fn open(folder: PathBuf) -> Self {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let expected = json(&folder.join("expected.json"));
        Self { name, folder, expected }
    }

    /// A test accuracy in percent: `overall`, `many`, `medium`, `few`.
    pub fn test(&self, figure: &str) -> f64 {
        self.expected["test"][figure].as_f64().unwrap_or(f64::NAN)
    }

    /// Mean training loss of each epoch.
    pub fn epoch_losses(&self) -> Vec<f64> {
        let losses = self.expected["epoch_loss"].as_array().into_iter().flatten();
        losses.map(|loss| loss.as_f64().unwrap_or(f64::NAN)).collect()
    }

    /// The command that repeats the run with another seed, on one rank with one thread.
    pub fn training(&self, official: &Official, seed: u64) -> Command {
        let mut command = official.command(1, "train", "lift");
        self.set(&mut command, "lift_rs_train");
        let seed = format!("train.seed={seed}");
        command.args(["--set", "train.threads=1", "--set", "data.decode=exact", "--set", &seed]);
        command
    }

    /// Evaluates the checkpoint. `folder` must be empty.
    pub fn evaluate(&self, official: &Official, ranks: usize, folder: &Path) -> PredictionComparison {
        let (output, predictions) = (folder.join("run"), folder.join("predictions.txt"));
        let mut command = official.command(ranks, "eval", "lift");
        self.set(&mut command, "lift_rs_options");
        command.arg("--weights").arg(self.folder.join("checkpoint.pth.tar"));
        succeed(command.arg("--output").arg(&output).arg("--predictions").arg(&predictions));
        let result = json(&output.join("result.json"));
        assert_eq!(result["total"], self.expected["total"], "{}: images", self.name);
        PredictionComparison {
            correct: result["correct"].as_u64().expect("a count"),
            expected: self.expected["correct"].as_u64().expect("a count"),
            different: different(&self.folder.join("test_predictions.txt"), &predictions),
        }
    }

    fn set(&self, command: &mut Command, options: &str) {
        let options = self.expected[options].as_array().unwrap_or_else(|| panic!("{}: {options}", self.name));
        for option in options {
            command.args(["--set", option.as_str().expect("an option is text")]);
        }
    }
}

impl PredictionComparison {
    /// Whether the predictions agree, except for a few images whose two largest logits differ by less than about
    /// 1e-4. For a checkpoint whose logits were inspected, 2 of the 10,000 images are such.
    pub fn agree(&self) -> bool {
        self.different.len() <= MAX_DIFFERENT
            && self.correct.abs_diff(self.expected) <= self.different.len() as u64
    }
}

/// Maximum number of differing predictions.
const MAX_DIFFERENT: usize = 3;

/// The images for which two files of predictions contain different classes.
fn different(official: &Path, ours: &Path) -> Vec<(usize, String, String)> {
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (official, ours) = (read(official), read(ours));
    assert_eq!(official.lines().count(), ours.lines().count(), "one prediction for each image");
    let pairs = official.lines().zip(ours.lines()).map(|(a, b)| (a.trim(), b.trim())).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(i, (a, b))| (i, a.to_owned(), b.to_owned())).collect()
}

//! A small run for the tests of the report.

use crate::records::RunRecords;
use crate::records::metrics::{EvalLine, Metrics, StepLine};
use crate::records::result::{ClassRecord, ResultRecord, ViewsRecord};
use crate::records::settings::Settings;
use protocol::evaluation::{BINS, EvaluationRecord, FORMAT, GroupReliability, ReliabilityBin};

/// A name that a browser, a terminal, LaTeX and Markdown would each interpret.
pub const HOSTILE: &str =
    "<img src=x onerror=alert(1)> \"q\" 'a' \u{1b}[31m \u{202e}x | $\\input{a}$ `c` </script>";

/// Four classes: one of many images, one of medium size, one of few, and one without a test image.
pub fn result() -> ResultRecord {
    let class = |name: &str, train_count, test_count, correct: u64| ClassRecord {
        name: name.to_owned(),
        train_count,
        test_count,
        correct,
        accuracy: (test_count > 0).then(|| 100.0 * correct as f64 / test_count as f64),
    };
    ResultRecord {
        data: "birds".into(),
        model: "demo".into(),
        method: "lift".into(),
        seed: 0,
        world_size: 2,
        device: "cpu".into(),
        precision: "fp32".into(),
        weights_fingerprint: "abc".into(),
        evaluation: ViewsRecord { split: "test".into(), crops: "centre".into() },
        accuracy: Some(100.0 * 14.0 / 18.0),
        many: Some(90.0),
        medium: Some(100.0),
        few: Some(25.0),
        macro_f1: Some(70.0),
        mean_class_accuracy: Some(71.666_666),
        worst_class: Some(25.0),
        harmonic_mean: Some(50.0),
        correct: 14,
        total: 18,
        trainable_parameters: 12_345,
        images_per_second: Some(321.0),
        seconds: 65.0,
        bad_images: 0,
        groups: protocol::evaluation::ShotLimits::default(),
        calibration: None,
        per_class: vec![
            class("wren", 500, 10, 9),
            class(HOSTILE, 50, 4, 4),
            class("crane", 5, 4, 1),
            class("dodo", 3, 0, 0),
        ],
    }
}

/// The evaluation of [`result`].
pub fn evaluation() -> EvaluationRecord {
    let group = |group: &str, images, correct, confidence| {
        let mut bins = vec![ReliabilityBin::default(); BINS];
        bins[13] = ReliabilityBin { images, correct, confidence };
        GroupReliability { group: group.to_owned(), bins }
    };
    EvaluationRecord {
        format: FORMAT,
        classes: 4,
        images: 18,
        confusion: vec![(0, 1, 1), (2, 0, 2), (2, 1, 1)],
        reliability: vec![
            group("many", 10, 9, 9_000_000),
            group("medium", 4, 4, 3_600_000),
            group("few", 4, 1, 3_600_000),
        ],
        mistakes: Vec::new(),
    }
}

/// The run of [`result`] with its metrics.
pub fn run(folder: &str) -> RunRecords {
    let steps = (1..=20).map(|step| StepLine {
        epoch: (step - 1) / 10,
        step,
        loss: (step != 7).then(|| 3.0 / step as f64),
        learning_rate: Some(0.01),
        images_per_second: Some(300.0 + step as f64),
        data_wait: Some(0.001),
        samples: 16,
    });
    let evaluation_line = EvalLine {
        epoch: 2,
        step: 20,
        accuracy: Some(77.8),
        many: Some(90.0),
        medium: Some(100.0),
        few: Some(25.0),
        mean_class_accuracy: Some(71.7),
    };
    let mut settings =
        Settings { names: ["birds", "demo", "lift"].map(str::to_owned), ..Settings::default() };
    settings.values.insert("train.momentum".into(), "0.5".into());
    settings.origins.insert("train.momentum".into(), "--set train.momentum=0.5".into());
    RunRecords {
        folder: folder.into(),
        result: Some(result()),
        evaluation: Some(evaluation()),
        metrics: Metrics { steps: steps.collect(), epochs: Vec::new(), evaluations: vec![evaluation_line] },
        settings: Some(settings),
        status: None,
    }
}

//! The figures against the official code's (`eval` fixtures) and against plain definitions.

use super::super::first_maximum;
use super::*;
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn counts(predictions: &[i64], labels: &[i64], classes: usize) -> ClassCounts {
    let mut counts = ClassCounts::new(classes);
    counts.add(predictions, labels).unwrap();
    counts
}

#[test]
fn groups_at_their_borders() {
    let shots = [0, 19, 20, 100, 101].map(|count| ShotLimits::default().group(count));
    assert_eq!(shots, [Shot::Few, Shot::Few, Shot::Medium, Shot::Medium, Shot::Many]);
}

#[test]
fn figures_of_nothing_are_null() {
    let summary = Summary::new(&ClassCounts::new(3), &[200, 50, 5], ShotLimits::default()).unwrap();
    assert_eq!(summary, Summary::default());
    assert_eq!(Summary::new(&ClassCounts::new(0), &[], ShotLimits::default()).unwrap(), Summary::default());
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(
        json,
        r#"{"accuracy":null,"many":null,"medium":null,"few":null,"macro_f1":null,"mean_class_accuracy":null,"worst_class":null,"harmonic_mean":null,"geometric_mean":null,"correct":0,"total":0}"#
    );
}

#[test]
fn an_absent_class_takes_part_in_nothing_and_shifts_nothing() {
    // Class 1 has no test image; class 0 is taken for it once.
    let summary =
        Summary::new(&counts(&[0, 1, 2, 2], &[0, 0, 2, 2], 3), &[200, 150, 5], ShotLimits::default())
            .unwrap();
    assert_eq!(summary.many, Some(50.0));
    assert_eq!(summary.medium, None);
    assert_eq!(summary.few, Some(100.0));
    assert_eq!(summary.mean_class_accuracy, Some(75.0));
    assert_eq!(summary.worst_class, Some(50.0));
    assert_eq!(summary.accuracy, Some(75.0));
    // F1 of class 0 is 2/3, of class 2 is 1; class 1 has none.
    assert!((summary.macro_f1.unwrap() - 100.0 * (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
}

#[test]
fn training_counts_of_another_data_set_are_refused() {
    let error = Summary::new(&ClassCounts::new(3), &[1, 2], ShotLimits::default()).unwrap_err().to_string();
    assert_eq!(error, "expected counts of 3 classes, found 2; the counts belong to another data set");
}

#[test]
fn a_class_without_a_hit_makes_the_geometric_mean_zero_and_the_harmonic_mean_small() {
    let summary = Summary::new(&counts(&[0, 0], &[0, 1], 2), &[1, 1], ShotLimits::default()).unwrap();
    assert_eq!(summary.geometric_mean, Some(0.0));
    assert!((summary.harmonic_mean.unwrap() - 2.0 / (1.0 / 100.0 + 1.0 / 0.001)).abs() < 1e-15);
    assert_eq!(summary.worst_class, Some(0.0));
}

proptest! {
    /// All figures from the definitions on the pairs themselves, not from counts.
    #[test]
    fn figures_are_those_of_the_definitions(
        classes in 1_usize..8,
        pairs in proptest::collection::vec((0_i64..8, 0_i64..8), 1..60),
        train in proptest::collection::vec(0_u64..150, 8),
    ) {
        let pairs: Vec<(i64, i64)> =
            pairs.iter().map(|(p, l)| (p % classes as i64, l % classes as i64)).collect();
        let (predictions, labels): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
        let summary = Summary::new(&counts(&predictions, &labels, classes), &train[..classes], ShotLimits::default()).unwrap();

        let number = |keep: &dyn Fn(&(i64, i64)) -> bool| pairs.iter().filter(|pair| keep(pair)).count() as f64;
        let mut accuracies = Vec::new();
        let mut f1 = Vec::new();
        for class in 0..classes as i64 {
            let occurring = number(&|(_, label)| *label == class);
            if occurring == 0.0 {
                continue;
            }
            let hits = number(&|(prediction, label)| *prediction == class && *label == class);
            let named = number(&|(prediction, _)| *prediction == class);
            let (precision, recall) = (if named > 0.0 { hits / named } else { 0.0 }, hits / occurring);
            let both = precision + recall;
            f1.push(if both > 0.0 { 200.0 * precision * recall / both } else { 0.0 });
            accuracies.push((train[class as usize], 100.0 * recall));
        }
        let average = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let group = |keep: &dyn Fn(u64) -> bool| {
            let kept: Vec<f64> = accuracies.iter().filter(|(train, _)| keep(*train)).map(|(_, a)| *a).collect();
            average(&kept)
        };
        let all: Vec<f64> = accuracies.iter().map(|(_, accuracy)| *accuracy).collect();
        let product: f64 = all.iter().product();
        let expected = [
            ("accuracy", summary.accuracy, average(&pairs.iter().map(|(p, l)| if p == l { 100.0 } else { 0.0 }).collect::<Vec<_>>())),
            ("many", summary.many, group(&|train| train > 100)),
            ("medium", summary.medium, group(&|train| (20..=100).contains(&train))),
            ("few", summary.few, group(&|train| train < 20)),
            ("macro F1", summary.macro_f1, average(&f1)),
            ("mean", summary.mean_class_accuracy, average(&all)),
            ("worst", summary.worst_class, all.iter().copied().reduce(f64::min)),
            ("harmonic", summary.harmonic_mean,
                average(&all.iter().map(|a| 1.0 / a.max(0.001)).collect::<Vec<_>>()).map(|mean| 1.0 / mean)),
            ("geometric", summary.geometric_mean, Some(product.powf(1.0 / all.len() as f64))),
        ];
        for (name, found, expected) in expected {
            prop_assert_eq!(found.is_some(), expected.is_some(), "{}", name);
            if let (Some(found), Some(expected)) = (found, expected) {
                prop_assert!((found - expected).abs() <= 1e-9, "{}: {} {}", name, found, expected);
            }
        }
    }
}

/// The folder of golden fixtures, or none with a word on the terminal.
fn golden_folder(name: &str) -> Option<PathBuf> {
    let base = std::env::var_os("LIFT_FIXTURES").map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")).to_path_buf(),
        PathBuf::from,
    );
    let path = base.join(name);
    if !path.is_dir() {
        eprintln!("skipped: {name} (LIFT_FIXTURES not found)");
        return None;
    }
    Some(path)
}

fn values<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    chunks.iter().map(|chunk| from(*chunk)).collect()
}

struct Golden<'a> {
    manifest: serde_json::Value,
    tensors: SafeTensors<'a>,
}

impl Golden<'_> {
    fn integers(&self, name: &str) -> Vec<i64> {
        let tensor = self.tensors.tensor(name).unwrap();
        match tensor.dtype() {
            safetensors::Dtype::I64 => values(tensor.data(), i64::from_le_bytes),
            safetensors::Dtype::I32 => values(tensor.data(), |b| i64::from(i32::from_le_bytes(b))),
            other => panic!("{name} is {other:?}"),
        }
    }

    fn predictions(&self) -> Vec<i64> {
        let logits = self.tensors.tensor("logits").unwrap();
        let classes = logits.shape()[1];
        let logits = values(logits.data(), |b| f64::from(f32::from_le_bytes(b)));
        logits.chunks_exact(classes).map(|row| first_maximum(row).unwrap() as i64).collect()
    }

    /// Whether `found` is the reference figure `name`; a figure that the case does not have is not compared.
    fn compare(&self, name: &str, found: Option<f64>) -> bool {
        let expected = match self.manifest["right_group_means"][name].as_f64() {
            Some(value) => value,
            None if self.manifest["outputs"][name].is_null() => return false,
            None => values(self.tensors.tensor(name).unwrap().data(), f64::from_le_bytes)[0],
        };
        let tolerance = |part: &str| self.manifest["tolerance"]["fp64"][part].as_f64().unwrap();
        let case = &self.manifest["case"];
        if expected.is_nan() {
            assert_eq!(found, None, "{case} {name}");
        } else {
            let found = found.unwrap_or_else(|| panic!("{case} {name}: none, expected {expected}"));
            let allowed = tolerance("atol") + tolerance("rtol") * expected.abs();
            assert!((found - expected).abs() <= allowed, "{case} {name}: {found}, expected {expected}");
        }
        true
    }
}

fn check_case(folder: &Path) -> usize {
    let bytes = std::fs::read(folder.join("tensors.safetensors")).unwrap();
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let golden = Golden {
        manifest: serde_json::from_str(&manifest).unwrap(),
        tensors: SafeTensors::deserialize(&bytes).unwrap(),
    };
    let predictions = golden.predictions();
    assert_eq!(predictions, golden.integers("predictions"), "{}", folder.display());
    let train: Vec<u64> = golden.integers("cls_num_list").iter().map(|count| *count as u64).collect();
    let counts = counts(&predictions, &golden.integers("label"), train.len());
    let summary = Summary::new(&counts, &train, ShotLimits::default()).unwrap();
    let figures = [
        ("accuracy", summary.accuracy),
        ("error_rate", summary.accuracy.map(|accuracy| 100.0 - accuracy)),
        ("macro_f1", summary.macro_f1),
        ("worst_case_acc", summary.worst_class),
        ("hmean_acc", summary.harmonic_mean),
        ("gmean_acc", summary.geometric_mean),
        ("mean_acc", summary.mean_class_accuracy),
        ("many_acc", summary.many),
        ("med_acc", summary.medium),
        ("few_acc", summary.few),
    ];
    // The manifest may name no figure that is not compared here.
    let named = golden.manifest["outputs"].as_object().unwrap().keys().filter(|name| *name != "predictions");
    for name in named {
        assert!(
            figures.iter().any(|(known, _)| known == name),
            "{}: {name} is not compared",
            folder.display()
        );
    }
    figures.into_iter().filter(|(name, found)| golden.compare(name, *found)).count()
}

#[test]
fn golden_figures_of_the_official_evaluator() {
    let Some(folder) = golden_folder("eval") else { return };
    let (mut cases, mut figures) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        // Crops are compared in `trainer/tests/golden/crops.rs`.
        if name.contains("-tte-") {
            continue;
        }
        figures += check_case(&case);
        cases += 1;
    }
    eprintln!("golden eval: {cases} cases, {figures} figures");
    assert!(cases > 0, "no case in {}", folder.display());
    assert!(figures > cases, "{figures} figures in {cases} cases");
}

//! The official checkpoint in the repository gives the official predictions, with each test image counted once, on
//! any number of ranks. These tests need no other data.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, succeed, trainer};

/// Images, lists and checkpoint of the repository, the expanded backbone, and presets for them.
struct RepositoryFiles {
    folder: tempfile::TempDir,
}

impl RepositoryFiles {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["train", "test", "train.txt", "test.txt", "classnames.txt", "data.toml"] {
            symlink(fixtures().join("official").join(name), files.path(name)).unwrap();
        }
        let configs = files.path("configs");
        std::fs::create_dir_all(configs.join("model")).unwrap();
        let presets = fixtures().join("../../configs");
        for name in ["base.toml", "method"] {
            symlink(presets.join(name), configs.join(name)).unwrap();
        }
        symlink(fixtures().join("official/model.toml"), configs.join("model/kept.toml")).unwrap();
        write_backbone(&files.path("backbone.safetensors"));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `eval` of the checkpoint into the folder `run` and the file `run.txt`.
    fn eval(&self, ranks: usize, run: &str, settings: &[&str]) -> Command {
        let mut command = trainer(ranks);
        command.env("LIFT_CONFIGS", self.path("configs"));
        command.args(["eval", "-m", "kept", "--method", "lift", "-d"]).arg(self.path("data.toml"));
        command.arg("--weights").arg(fixtures().join("official/checkpoint.pth.tar"));
        command.arg("--set").arg(format!("model.weights={}", self.path("backbone.safetensors").display()));
        for setting in ["tuner.adapter_dim=3", "train.threads=1"].iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command.arg("--output").arg(self.path(run));
        command.arg("--predictions").arg(self.path(&format!("{run}.txt")));
        command
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Writes the backbone with its full token embedding, of which the repository contains only some rows.
fn write_backbone(path: &Path) {
    let bytes = std::fs::read(fixtures().join("weights/clip_vit.openai.safetensors")).unwrap();
    let files = SafeTensors::deserialize(&bytes).unwrap();
    let name = "token_embedding.weight";
    let part = |part: &str| files.tensor(&format!("{name}.{part}")).unwrap();
    let numbers = |part: &str| -> Vec<usize> {
        let view = files.tensor(&format!("{name}.{part}")).unwrap();
        view.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as usize).collect()
    };
    let (values, size) = (part("values"), numbers("size")[0]);
    let row = values.data().len() / values.shape()[0];
    let mut table = vec![0; size * row];
    for (from, to) in numbers("rows").into_iter().enumerate() {
        table[to * row..][..row].copy_from_slice(&values.data()[from * row..][..row]);
    }
    let shape = vec![size, values.shape()[1]];
    let table = TensorView::new(values.dtype(), shape, &table).unwrap();
    let others = files.iter().filter(|(other, _)| !other.starts_with(name));
    serialize_to_file(others.chain([(name, table)]), None, path).unwrap();
}

fn classes(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| line.split_whitespace().last().unwrap().parse().unwrap()).collect()
}

#[test]
fn the_official_checkpoint_gives_exactly_the_official_predictions() {
    let files = RepositoryFiles::new();
    let expected = json(&fixtures().join("official/expected.json"));
    let official = classes(&fixtures().join("official/predictions.txt"));
    for ranks in [1, 2] {
        let run = format!("{ranks}");
        succeed(&mut files.eval(ranks, &run, &[]));
        assert_eq!(classes(&files.path(&format!("{run}.txt"))), official, "{ranks} ranks");
        let result = json(&files.path(&run).join("result.json"));
        for (ours, theirs) in [("correct", &expected["correct"]), ("total", &expected["total"])] {
            assert_eq!(&result[ours], theirs, "{ours} on {ranks} ranks");
        }
        for (ours, theirs) in [
            ("accuracy", "accuracy"),
            ("macro_f1", "macro_f1"),
            ("few", "few_acc"),
            ("worst_class", "worst_case_acc"),
            ("harmonic_mean", "hmean_acc"),
            ("geometric_mean", "gmean_acc"),
            ("mean_class_accuracy", "mean_acc"),
        ] {
            let (found, theirs) =
                (result[ours].as_f64().unwrap(), expected["results"][theirs].as_f64().unwrap());
            assert!((found - theirs).abs() < 1e-9, "{ours} on {ranks} ranks: {found}, official {theirs}");
        }
    }
}

#[test]
fn law_2_each_test_image_counts_exactly_once_on_any_number_of_ranks() {
    let files = RepositoryFiles::new();
    let official = classes(&fixtures().join("official/predictions.txt"));
    let list = std::fs::read_to_string(fixtures().join("official/test.txt")).unwrap();
    let labels = classes(&fixtures().join("official/test.txt"));
    // Fewer images than ranks, batches on some ranks only, a smaller last batch, the complete list.
    for size in [1, 2, 7, official.len()] {
        let lines: String = list.split_inclusive('\n').take(size).collect();
        std::fs::write(files.path("part.txt"), lines).unwrap();
        let right = official.iter().zip(&labels).take(size).filter(|(a, b)| a == b).count();
        for ranks in 1..=3 {
            let run = format!("{size}-on-{ranks}");
            let list = format!("data.test_list={}", files.path("part.txt").display());
            succeed(&mut files.eval(ranks, &run, &["eval.batch_size=3", &list]));
            assert_eq!(classes(&files.path(&format!("{run}.txt"))), official[..size], "{run}");
            let result = json(&files.path(&run).join("result.json"));
            assert_eq!((&result["total"], &result["correct"]), (&size.into(), &right.into()), "{run}");
            let counted = result["per_class"].as_array().unwrap().iter();
            let counted: Vec<u64> = counted.map(|class| class["test_count"].as_u64().unwrap()).collect();
            let mut expected = vec![0; counted.len()];
            labels[..size].iter().for_each(|&label| expected[label as usize] += 1);
            assert_eq!(counted, expected, "{run}");
            let named = |class: &Value| (class["test_count"] == 0).then(|| class["name"].clone());
            let absent: Vec<Value> =
                result["per_class"].as_array().unwrap().iter().filter_map(named).collect();
            assert_eq!(result["absent_classes"], Value::from(absent), "{run}");
            assert_means_over_classes_with_images(&result);
        }
    }
}

#[test]
fn law_2_crops_do_not_depend_on_ranks_placement_or_batches() {
    let files = RepositoryFiles::new();
    for crops in [["eval.crops=ten", "eval.expand=5"], ["eval.crops=random", "eval.random_crops=6"]] {
        let mut expected = None;
        // Full batches, more crops per image than the batch size, fewer images per batch than ranks.
        for (ranks, batch, placement) in
            [(1, 128, "replicated"), (1, 4, "replicated"), (2, 7, "sharded"), (3, 20, "replicated")]
        {
            let run = format!("{}-{ranks}-{batch}", crops[0]);
            let settings = [
                format!("eval.batch_size={batch}"),
                format!("head.placement={placement}"),
                format!("backbone.placement={placement}"),
            ];
            let settings: Vec<&str> = crops.into_iter().chain(settings.iter().map(String::as_str)).collect();
            succeed(&mut files.eval(ranks, &run, &settings));
            let found = classes(&files.path(&format!("{run}.txt")));
            assert_eq!(&found, expected.get_or_insert_with(|| found.clone()), "{run}");
        }
    }
}

/// Asserts that the accuracy of each group is the mean over its classes with images, and null without any.
fn assert_means_over_classes_with_images(result: &Value) {
    let mean_of = |belongs: &dyn Fn(u64) -> bool| {
        let classes = result["per_class"].as_array().unwrap().iter();
        let classes = classes.filter(|class| belongs(class["train_count"].as_u64().unwrap()));
        let found: Vec<f64> = classes.filter_map(|class| class["accuracy"].as_f64()).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    for (name, expected) in [
        ("many", mean_of(&|count| count > 100)),
        ("medium", mean_of(&|count| (20..=100).contains(&count))),
        ("few", mean_of(&|count| count < 20)),
        ("mean_class_accuracy", mean_of(&|_| true)),
    ] {
        match expected {
            None => assert!(result[name].is_null(), "{name} is {}", result[name]),
            Some(expected) => assert!((result[name].as_f64().unwrap() - expected).abs() < 1e-9, "{name}"),
        }
    }
    for name in ["worst_class", "harmonic_mean", "geometric_mean"] {
        assert!(result[name].is_number(), "{name} is {}", result[name]);
    }
}

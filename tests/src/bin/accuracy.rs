//! Trains what the official figures were made with, and prints ours beside them (`make accuracy`).
//!
//! Runs lie in `runs/accuracy/`; those that are finished are not made again. The table goes into
//! `docs/fidelity.md`, between its two marks.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tests::{json, metrics, mpirun, shared};

/// What the official code reached: means over its seeds, per cent, and mean losses of the first and last epoch.
struct Official {
    name: &'static str,
    arguments: &'static [&'static str],
    overall: f64,
    many: f64,
    medium: f64,
    few: f64,
    first_loss: f64,
    last_loss: f64,
}

const OFFICIAL: [Official; 4] = [
    Official {
        name: "lift",
        arguments: &["--method", "lift"],
        overall: 30.43,
        many: 25.74,
        medium: 31.45,
        few: 34.70,
        first_loss: (3.211 + 3.208 + 3.165) / 3.0,
        last_loss: (2.583 + 2.558 + 2.571) / 3.0,
    },
    Official {
        name: "classifier",
        arguments: &["--method", "classifier"],
        overall: 30.12,
        many: 24.83,
        medium: 30.93,
        few: 35.34,
        first_loss: (3.342 + 3.349 + 3.323) / 3.0,
        last_loss: (2.584 + 2.571 + 2.569) / 3.0,
    },
    Official {
        name: "full-0.01",
        arguments: &["--method", "full", "--set", "train.learning_rate=0.01"],
        overall: 31.84,
        many: 30.66,
        medium: 32.23,
        few: 32.77,
        first_loss: 3.010,
        last_loss: 2.370,
    },
    Official {
        name: "full-0.0005",
        arguments: &["--method", "full", "--set", "train.learning_rate=0.0005"],
        overall: 28.19,
        many: 26.69,
        medium: 29.71,
        few: 28.17,
        first_loss: 3.602,
        last_loss: 2.740,
    },
];

const SEEDS: [u64; 3] = [0, 1, 2];
const RANKS: usize = 2;
const MARKS: [&str; 2] = ["<!-- table: make accuracy -->", "<!-- end of table -->"];

fn main() -> ExitCode {
    let name = "accuracy";
    let (Some(data), Some(backbones)) =
        (shared(name, "LIFT_DATA", "data"), shared(name, "LIFT_BACKBONES", "backbones"))
    else {
        return ExitCode::from(2);
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let runs = root.join("runs/accuracy");
    let mut table = vec![
        "| run | seeds | overall | many | medium | few | loss, epoch 1 | loss, epoch 10 | seconds a run |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    let mut apart = Vec::new();
    for official in &OFFICIAL {
        let found: Vec<Figures> =
            SEEDS.iter().map(|seed| figures(official, *seed, &runs, &data, &backbones)).collect();
        table.extend(rows(official, &found, &mut apart));
    }
    let table = table.join("\n");
    println!("{table}");
    write_page(&root.join("docs/fidelity.md"), &table);
    for difference in &apart {
        println!("apart: {difference}");
    }
    ExitCode::from(u8::from(!apart.is_empty()))
}

/// What a run gave.
struct Figures {
    /// overall, many, medium, few, first loss, last loss.
    values: [f64; 6],
    seconds: f64,
}

fn figures(official: &Official, seed: u64, runs: &Path, data: &Path, backbones: &Path) -> Figures {
    let run = runs.join(format!("{}-seed{seed}", official.name));
    if !run.join("result.json").exists() {
        train(official, seed, &run, data, backbones);
    }
    let result = json(&run.join("result.json"));
    let epochs = metrics(&run, "epoch");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let loss = |row: Option<&Value>| row.map_or(f64::NAN, |row| number(&row["loss"]));
    let shares = ["accuracy", "many", "medium", "few"].map(|name| number(&result[name]));
    let [overall, many, medium, few] = shares;
    let values = [overall, many, medium, few, loss(epochs.first()), loss(epochs.last())];
    Figures { values, seconds: number(&result["seconds"]) }
}

fn train(official: &Official, seed: u64, run: &Path, data: &Path, backbones: &Path) {
    // What an interrupted run left behind has no result and is in the way.
    let _ = std::fs::remove_dir_all(run);
    eprintln!("training {} with seed {seed}", official.name);
    let trainer: PathBuf = std::env::current_exe().expect("own path").with_file_name("lift-trainer");
    let mut command = mpirun(RANKS);
    command.arg(trainer).args(["train", "-d", "cifar100_ir100", "-m", "tiny_clip"]).args(official.arguments);
    command.args(["--set", &format!("train.seed={seed}")]);
    command.arg("--set").arg(format!("data.root={}", data.join("cifar100").display()));
    command
        .arg("--set")
        .arg(format!("model.weights={}", backbones.join("tiny-clip/model.safetensors").display()));
    let status = command.arg("--output").arg(run).status().expect("mpirun starts");
    assert!(status.success(), "{} with seed {seed} ended with {status}", official.name);
}

/// Our row and the official one; what is too far apart is noted.
fn rows(official: &Official, found: &[Figures], apart: &mut Vec<String>) -> [String; 2] {
    let expected = [
        official.overall,
        official.many,
        official.medium,
        official.few,
        official.first_loss,
        official.last_loss,
    ];
    let names = ["overall", "many", "medium", "few", "loss of epoch 1", "loss of epoch 10"];
    let limits = [1.0, 1.0, 1.0, 1.0, 0.05, 0.05];
    let mut ours = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let values: Vec<f64> = found.iter().map(|figures| figures.values[i]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread =
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt();
        ours.push(if i < 4 { format!("{mean:.2} ± {spread:.2}") } else { format!("{mean:.3}") });
        let near = (mean - expected[i]).abs() <= limits[i];
        if !near {
            apart.push(format!("{}: {name} is {mean:.3}, officially {:.3}", official.name, expected[i]));
        }
    }
    let seconds = found.iter().map(|figures| figures.seconds).sum::<f64>() / found.len() as f64;
    let [a, b, c, d, e, f] = expected;
    [
        format!("| {}, ours | {} | {} | {seconds:.0} |", official.name, found.len(), ours.join(" | ")),
        format!("| {}, official | | {a:.2} | {b:.2} | {c:.2} | {d:.2} | {e:.3} | {f:.3} | |", official.name),
    ]
}

/// Replaces the table of the page, between its marks.
fn write_page(page: &Path, table: &str) {
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (before, rest) = text.split_once(MARKS[0]).expect("the page has a mark before its table");
    let (_, after) = rest.split_once(MARKS[1]).expect("the page has a mark after its table");
    let text = format!("{before}{}\n\n{table}\n\n{}{after}", MARKS[0], MARKS[1]);
    std::fs::write(page, text).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
}

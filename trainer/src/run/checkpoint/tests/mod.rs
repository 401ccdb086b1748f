//! Tests of the whole: on real files, with real processes that are really killed.

mod damage;
mod disk_full;
mod faults;
mod kills;
mod retention;
mod round_trip;
mod writer;

use super::disk::Disk;
use super::faults::Faults;
use super::*;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::Path;

/// What a run would keep beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    epoch: u64,
    metrics: u64,
    rate: f64,
    note: Option<String>,
}

/// A small snapshot; `variant` makes those of one step differ.
fn snapshot(step: u64, variant: u8) -> Snapshot<State> {
    let tensor = |name: &str, dtype, shape: &[usize], length: usize| TensorBytes {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        bytes: (0..length).map(|at| (at as u64 * 37 + step) as u8 ^ variant).collect(),
    };
    Snapshot {
        step,
        tensors: vec![
            tensor("head.weight", Dtype::F32, &[2, 3], 24),
            tensor("block.0.bias", Dtype::F32, &[4], 16),
            tensor("momentum", Dtype::BF16, &[5], 10),
        ],
        state: State { epoch: step / 10, metrics: 1234 + step, rate: 0.1 + f64::from(variant), note: None },
    }
}

fn retention(keep: usize, best: bool) -> Retention {
    Retention { keep: NonZeroUsize::new(keep).unwrap(), best }
}

/// A disk that does everything but force it to disk.
fn lazy() -> Disk {
    Disk::with(Faults::lazy())
}

/// A folder of checkpoints with these steps and metrics.
fn store_with(folder: &Path, retention: Retention, steps: &[(u64, Option<f64>)]) -> Store {
    let mut store = Store::with(folder, retention, lazy()).unwrap();
    for (step, metric) in steps {
        store.write(&snapshot(*step, 0), *metric).unwrap();
    }
    store
}

fn faulty(folder: &Path, retention: Retention, fault: &str) -> Result<Store, CheckpointError> {
    Store::with(folder, retention, Disk::with(Faults::one(fault)))
}

fn reader(folder: &Path) -> CheckpointReader {
    CheckpointReader::with(folder, Disk::default())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A copy of a folder with its folders, without forcing anything to disk.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

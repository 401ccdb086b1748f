//! A run in the local file store of MLflow: a folder for the experiment, in it one for the run, and a file for each metric,
//! parameter and tag.

use super::{LogExportError, TimedLine, scalars, write_new};
use crate::records::RunRecords;
use protocol::Phase;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use twox_hash::XxHash64;

/// Longest parameter that MLflow reads.
const LONGEST: usize = 6000;
/// Codes of MLflow's states.
const RUNNING: u8 = 1;
const FINISHED: u8 = 3;
const FAILED: u8 = 4;
const KILLED: u8 = 5;

/// Adds the run to the store, under the experiment of its data and model, and returns its folder.
pub fn write(records: &RunRecords, lines: &[TimedLine], store: &Path) -> Result<PathBuf, LogExportError> {
    let names = records.settings.as_ref().map(|settings| settings.names.clone()).unwrap_or_default();
    let experiment =
        if names[0].is_empty() { "lift".to_owned() } else { format!("{} {}", names[0], names[1]) };
    let [begin, end] = [lines.first(), lines.last()].map(|line| line.map_or(0.0, |line| line.time));
    // Numbers of the store are names of folders. They follow from what they name, so that runs meet in one experiment.
    let number = format!("{}", hash(&experiment) % 1_000_000_000_000_000_000);
    let home = records.folder.canonicalize().unwrap_or_else(|_| records.folder.clone());
    // A run that goes on is another export.
    let last = records.status.as_ref().map_or_else(String::new, |status| status.time.to_string());
    let id = format!("{:016x}{:016x}", hash(&home.to_string_lossy()), hash(&last));
    let place = store.join(&number);
    let folder = place.join(&id);
    if folder.exists() {
        return Err(LogExportError::Exists { path: folder });
    }
    write_meta_of_experiment(&place, &number, &experiment, begin)?;
    let name = home.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    for (key, text) in metrics(lines) {
        write_new(&folder.join("metrics").join(key), text)?;
    }
    for (key, value) in records.settings.iter().flat_map(|settings| &settings.values) {
        let value: String = value.chars().take(LONGEST).collect();
        write_new(&folder.join("params").join(key), value)?;
    }
    write_new(&folder.join("tags/mlflow.runName"), &name)?;
    write_new(&folder.join("tags/lift.folder"), home.display().to_string())?;
    let artifacts = folder.join("artifacts");
    std::fs::create_dir_all(&artifacts)
        .map_err(|source| LogExportError::Write { path: artifacts.clone(), source })?;
    // The run is complete when it has its description.
    let meta = [
        ("artifact_uri", json!(address(&artifacts))),
        ("end_time", json!(milliseconds(end))),
        ("entry_point_name", json!("")),
        ("experiment_id", json!(number)),
        ("lifecycle_stage", json!("active")),
        ("run_id", json!(id)),
        ("run_name", json!(name)),
        ("run_uuid", json!(id)),
        ("source_name", json!("lift")),
        ("source_type", json!(4)),
        ("source_version", json!("")),
        ("start_time", json!(milliseconds(begin))),
        ("status", json!(state(records))),
        ("tags", json!([])),
        ("user_id", json!("")),
    ];
    write_new(&folder.join("meta.yaml"), yaml(&meta))?;
    Ok(folder)
}

fn write_meta_of_experiment(
    place: &Path,
    number: &str,
    name: &str,
    begin: f64,
) -> Result<(), LogExportError> {
    let path = place.join("meta.yaml");
    if path.exists() {
        return Ok(());
    }
    let meta = [
        ("artifact_location", json!(address(place))),
        ("creation_time", json!(milliseconds(begin))),
        ("experiment_id", json!(number)),
        ("last_update_time", json!(milliseconds(begin))),
        ("lifecycle_stage", json!("active")),
        ("name", json!(name)),
    ];
    write_new(&path, yaml(&meta))
}

/// Every JSON value is YAML.
fn yaml(fields: &[(&str, serde_json::Value)]) -> String {
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    lines.concat()
}

/// The file of each metric: a line `time value step` for each value.
fn metrics(lines: &[TimedLine]) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (time, scalars) in lines.iter().filter_map(scalars) {
        for (key, value) in scalars.values {
            // Writing to a string does not fail.
            let _ =
                writeln!(files.entry(key).or_default(), "{} {value} {}", milliseconds(time), scalars.step);
        }
    }
    files
}

fn state(records: &RunRecords) -> u8 {
    match records.status.as_ref().map(|status| status.phase) {
        Some(Phase::Failed) => FAILED,
        Some(Phase::Preempted) => KILLED,
        Some(phase) if !phase.is_final() => RUNNING,
        _ => FINISHED,
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e3) as u64
}

fn address(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn hash(text: &str) -> u64 {
    XxHash64::oneshot(0, text.as_bytes())
}

//! Weights in several files, as Hugging Face's libraries save large models: an index maps each tensor to its
//! file.

use super::{FileMap, Foreign, MapProblem, NamedTensors, Path, PathBuf, WeightsError, tensors_in};
use crate::pickle::printable;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tch::Tensor;

/// The fields of an index that are used.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Maps every file that an index names.
pub(super) fn open(index: &FileMap, mut notes: Vec<String>) -> Result<NamedTensors, WeightsError> {
    let refuse = |problem: String| WeightsError::Choice { path: index.path().to_owned(), problem };
    let Ok(Index { weight_map }) = serde_json::from_slice(index.bytes()) else {
        return Err(index.error(MapProblem::Foreign(Foreign::Json)).into());
    };
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let files = names.iter().map(|name| file_beside(index.path(), name)).collect::<Option<Vec<_>>>();
    let Some(files) = files.filter(|files| !files.is_empty()) else {
        let problem =
            "this index names no files, or files outside of its own folder\nhint: download it again";
        return Err(refuse(problem.to_owned()));
    };
    let missing: Vec<&PathBuf> = files.iter().filter(|file| !file.is_file()).collect();
    if let Some(first) = missing.first() {
        return Err(refuse(format!(
            "{} of the {} files that this index names are missing, among them `{}`\nhint: download them into its folder",
            missing.len(),
            files.len(),
            first.display()
        )));
    }
    let (mut tensors, mut maps) = (BTreeMap::new(), Vec::new());
    for (file, name) in files.iter().zip(&names) {
        let map = Arc::new(FileMap::open(file)?);
        for (tensor, value) in tensors_in(&map)?.0 {
            if weight_map.get(&tensor).is_none_or(|place| place != name) {
                return Err(refuse(format!(
                    "`{}` holds tensor `{}`, which this index does not place there; the files are not of one model",
                    file.display(),
                    printable(&tensor)
                )));
            }
            tensors.insert(tensor, value);
        }
        maps.push(map);
    }
    all_there(&weight_map, &tensors).map_err(refuse)?;
    notes.push(format!("{} shards are read", files.len()));
    Ok(NamedTensors::from_files(index.path(), tensors, maps, notes))
}

fn all_there(
    weight_map: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), String> {
    match weight_map.iter().find(|(tensor, _)| !tensors.contains_key(*tensor)) {
        None => Ok(()),
        Some((tensor, place)) => Err(format!(
            "this index places tensor `{}` in `{}`, which does not hold it; the files are not of one model",
            printable(tensor),
            printable(place)
        )),
    }
}

/// The file of that plain name in the index's folder.
fn file_beside(index: &Path, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    plain.then(|| index.with_file_name(name))
}

/// Refuses a file that is one of several shards, according to an index beside it or to its name.
pub(super) fn refuse_single(file: &Path) -> Result<(), WeightsError> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let indices = indices_beside(file);
    let listed = indices.iter().find_map(|index| Some((files_with(name, index)?, Some(index))));
    let (count, index) = match listed.or_else(|| Some((count_in_name(name)?, None))) {
        Some((count, index)) if count > 1 => (count, index),
        _ => return Ok(()),
    };
    let remedy = match index {
        Some(index) => format!("give model.weights its index `{}`, or the folder", index.display()),
        None => {
            "give model.weights their index (a file that ends in `.index.json`), or their folder".to_owned()
        }
    };
    Err(WeightsError::Choice {
        path: file.to_owned(),
        problem: format!("this is one of {count} shards of a model\nhint: {remedy}"),
    })
}

/// How many files an index names, if the one called `name` is among them.
fn files_with(name: &str, index: &Path) -> Option<usize> {
    let Index { weight_map } = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    files.iter().any(|file| *file == name).then_some(files.len())
}

fn indices_beside(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    let indices = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".index.json"));
    let mut indices: Vec<PathBuf> = indices.map(|entry| entry.path()).collect();
    indices.sort();
    indices
}

/// N of a name such as `model-00001-of-0000N.safetensors`.
fn count_in_name(name: &str) -> Option<usize> {
    let (numbers, _) = name.rsplit_once('.')?;
    let (first, count) = numbers.rsplit_once("-of-")?;
    let (_, number) = first.rsplit_once('-')?;
    number.parse::<usize>().ok()?;
    count.parse().ok()
}

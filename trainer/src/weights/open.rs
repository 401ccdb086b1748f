//! Opens tensors from a path: a file, the index of shards, or a folder that contains one of them.

use super::file_map::{FileMap, MapProblem};
use super::form::{FileForm, Foreign};
use super::layout::holds_backbone;
use super::named::{NamedTensors, WeightsError, known_kind};
use super::safetensors_map::MappedWeights;
use super::torch_archive::{Stored, StoredTensor, TorchFileError, stored_tensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

mod folder;
mod shards;

impl NamedTensors {
    /// Maps the weights at `path`; safetensors files are read on first use.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if !path.is_dir() {
            return open_file(path, Vec::new());
        }
        let folder::ChosenFile { file, note } = folder::choose(path)?;
        open_file(&file, vec![note])
    }
}

fn open_file(path: &Path, mut notes: Vec<String>) -> Result<NamedTensors, WeightsError> {
    let map = Arc::new(FileMap::open(path)?);
    if FileForm::of(map.bytes()) == FileForm::Json {
        return shards::open(&map, notes);
    }
    shards::refuse_single(path)?;
    let (tensors, more) = tensors_in(&map)?;
    notes.extend(more);
    Ok(NamedTensors::from_files(path, tensors, vec![map], notes))
}

/// Tensors by name, and how they were found.
type Found = (BTreeMap<String, Tensor>, Vec<String>);

/// The tensors of one mapped file, as views of it.
fn tensors_in(map: &Arc<FileMap>) -> Result<Found, WeightsError> {
    match FileForm::of(map.bytes()) {
        FileForm::Safetensors => Ok((in_safetensors(map)?, Vec::new())),
        FileForm::Zip | FileForm::OldTorch => in_torch_archive(map),
        FileForm::Foreign(foreign) => Err(map.error(MapProblem::Foreign(foreign)).into()),
        FileForm::Json => Err(map.error(MapProblem::Foreign(Foreign::Json)).into()),
    }
}

fn in_safetensors(map: &Arc<FileMap>) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let mapped = MappedWeights::read(Arc::clone(map))?;
    let mut tensors = BTreeMap::new();
    for (name, raw) in mapped.tensors() {
        let shape: Vec<i64> = raw.shape.iter().map(|&n| n as i64).collect();
        let kind = known_kind(&map.path().display().to_string(), name, raw.dtype)?;
        tensors.insert(name.to_owned(), view_of(raw.bytes, &shape, &contiguous(&shape), kind));
    }
    Ok(tensors)
}

fn in_torch_archive(map: &FileMap) -> Result<Found, WeightsError> {
    let stored = stored_tensors(map.bytes(), holds_backbone)
        .map_err(|problem| TorchFileError { path: map.path().to_owned(), problem })?;
    let notes = notes_on(&stored);
    let mut tensors = BTreeMap::new();
    for (name, StoredTensor { dtype, shape, strides, bytes }) in stored.tensors {
        let kind = known_kind(&map.path().display().to_string(), &name, dtype)?;
        tensors.insert(name, view_of(&map.bytes()[bytes], &shape, &strides, kind));
    }
    Ok((tensors, notes))
}

fn notes_on(stored: &Stored) -> Vec<String> {
    let mut notes = Vec::new();
    if stored.program {
        notes.push("a TorchScript archive; its code is not run".to_owned());
    }
    if let Some(table) = &stored.table {
        let others: Vec<String> = stored.passed_over.iter().map(|name| format!("`{name}`")).collect();
        let others =
            if others.is_empty() { String::new() } else { format!("; ignored: {}", others.join(", ")) };
        notes.push(format!("the tensors are those of its entry `{table}`{others}"));
    }
    notes
}

/// A tensor over bytes of a mapping that outlives it; a copy if their alignment or their order does not allow
/// a view.
fn view_of(bytes: &[u8], shape: &[i64], strides: &[i64], kind: Kind) -> Tensor {
    if bytes.is_empty() {
        return Tensor::zeros(shape, (kind, Device::Cpu));
    }
    let mut aligned = None;
    let mut start = bytes.as_ptr();
    if !start.addr().is_multiple_of(kind.elt_size_in_bytes().max(1)) {
        let elements = (bytes.len() / kind.elt_size_in_bytes()) as i64;
        start = aligned.insert(Tensor::from_data_size(bytes, &[elements], kind)).data_ptr().cast();
    }
    // SAFETY: the bytes hold every element that `shape` and `strides` reach (who listed them checked it),
    // aligned; a mapping is private (copy on write) and kept by `NamedTensors`, which hands out copies or
    // borrowed tensors, and an aligned copy lives until its tensor was copied again below.
    let view = unsafe { Tensor::from_blob(start, shape, strides, kind, Device::Cpu) };
    match aligned {
        Some(_) => view.contiguous().copy(),
        None => view.contiguous(),
    }
}

fn contiguous(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

#[cfg(test)]
mod tests;

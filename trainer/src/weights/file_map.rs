//! A file mapped into memory.

use super::form::Foreign;
use memmap2::{MmapMut, MmapOptions};
use safetensors::SafeTensorError;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tch::Tensor;

/// The mappings that exist, by their addresses.
static MAPPED: Mutex<Vec<(Range<usize>, PathBuf)>> = Mutex::new(Vec::new());

/// The file whose mapping contains this address: for the error if the file was truncated after it was mapped.
pub fn file_at(address: usize) -> Option<PathBuf> {
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    mapped.iter().find(|(range, _)| range.contains(&address)).map(|(_, path)| path.clone())
}

/// A tensor that may outlive the files: a copy, if its data is in a mapping.
pub fn in_memory(tensor: Tensor) -> Tensor {
    match file_at(tensor.data_ptr().addr()) {
        Some(_) => tensor.copy(),
        None => tensor,
    }
}

/// A weights file in memory. Nothing is read ahead or copied: the ranks of a host share the pages.
///
/// The mapping is private (copy on write), so that a write through a tensor built on it changes that
/// process's memory only, never the file.
#[derive(Debug)]
pub struct FileMap {
    path: PathBuf,
    map: MmapMut,
}

/// A weights file that cannot be used: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("weights `{}`: {problem}", path.display())]
pub struct MapError {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: MapProblem,
}

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapProblem {
    /// It does not exist.
    #[error("there is no such file\nhint: check the path")]
    Missing,
    /// It is a folder or a device.
    #[error("this is not a regular file\nhint: give the path of the file")]
    NotAFile,
    /// It cannot be opened or mapped.
    #[error("cannot be opened: {0}\nhint: check its permissions and file system")]
    Io(#[source] io::Error),
    /// No bytes.
    #[error("the file is empty\nhint: download it again")]
    Empty,
    /// A file of another kind.
    #[error("this is {0}")]
    Foreign(Foreign),
    /// A file of `torch.save` where only safetensors are read.
    #[error("this is a PyTorch archive, not a safetensors file\nhint: use the model's `.safetensors` file")]
    PyTorchArchive,
    /// The file is shorter than its header states.
    #[error("the file is cut short: {found} bytes, its header needs {expected}\nhint: download it again")]
    CutShort {
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The header is not that of a safetensors file.
    #[error("the header is not that of a safetensors file ({0})\nhint: download it again or convert it")]
    Header(SafeTensorError),
}

impl FileMap {
    /// Maps a whole file.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let map = Self::map(path).map_err(|problem| MapError { path: path.to_owned(), problem })?;
        let start = map.as_ptr().addr();
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.push((start..start + map.len(), path.to_owned()));
        drop(mapped);
        Ok(Self { path: path.to_owned(), map })
    }

    fn map(path: &Path) -> Result<MmapMut, MapProblem> {
        let problem = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => MapProblem::Missing,
            _ => MapProblem::Io(error),
        };
        // Checked before it is opened, because opening a pipe waits for its writer.
        let about = std::fs::metadata(path).map_err(problem)?;
        if !about.is_file() {
            return Err(MapProblem::NotAFile);
        }
        if about.len() == 0 {
            return Err(MapProblem::Empty);
        }
        let file = File::open(path).map_err(problem)?;
        // SAFETY: the mapping is private, so no other process sees our writes, and this object keeps it alive.
        // If the file is truncated meanwhile, the process ends with an error that names the file (`file_at`).
        unsafe { MmapOptions::new().map_copy(&file) }.map_err(MapProblem::Io)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// An error about this file.
    pub(super) fn error(&self, problem: MapProblem) -> MapError {
        MapError { path: self.path.clone(), problem }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        let start = self.map.as_ptr().addr();
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(range, _)| range.start != start);
    }
}

//! Safetensors files mapped into memory: opening a file of any size takes less than a millisecond.

pub use super::dtype::DType;
pub use super::file_map::{FileMap, MapError, MapProblem};
use super::form::{FileForm, Foreign};
use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The tensors of one file, by name. Clones share the mapping.
#[derive(Debug, Clone)]
pub struct MappedWeights {
    file: Arc<FileMap>,
    tensors: BTreeMap<String, MappedEntry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct MappedEntry {
    dtype: DType,
    shape: Vec<usize>,
    /// Position in the file.
    range: Range<usize>,
}

/// One tensor in the file: contiguous, row-major, little-endian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawTensor<'a> {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: &'a [usize],
    /// The numbers. Files of other writers may leave them unaligned: see [`RawTensor::is_aligned`].
    pub bytes: &'a [u8],
}

impl RawTensor<'_> {
    /// Whether the data is aligned to the element size, so that it can be used in place.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(self.dtype.bytes())
    }
}

impl MappedWeights {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        Self::read(Arc::new(FileMap::open(path)?))
    }

    /// Reads the header of a mapped file.
    pub fn read(file: Arc<FileMap>) -> Result<Self, MapError> {
        let (tensors, metadata) = read_header(file.bytes()).map_err(|problem| file.error(problem))?;
        Ok(Self { file, tensors, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, RawTensor<'_>)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), self.raw(entry)))
    }

    /// The tensor of a name.
    pub fn view(&self, name: &str) -> Option<RawTensor<'_>> {
        self.tensors.get(name).map(|entry| self.raw(entry))
    }

    /// Where the numbers of a tensor lie in the file.
    pub fn byte_range(&self, name: &str) -> Option<Range<usize>> {
        self.tensors.get(name).map(|entry| entry.range.clone())
    }

    /// The free text of the header (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The fingerprint of all tensors, in lower-case hexadecimal. Reads the whole file.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Fingerprint::default();
        for (name, tensor) in self.tensors() {
            hasher.add(name, tensor.dtype, tensor.shape, tensor.bytes);
        }
        hasher.finish()
    }

    fn raw<'a>(&'a self, entry: &'a MappedEntry) -> RawTensor<'a> {
        RawTensor { dtype: entry.dtype, shape: &entry.shape, bytes: &self.file.bytes()[entry.range.clone()] }
    }
}

type Header = (BTreeMap<String, MappedEntry>, BTreeMap<String, String>);

fn read_header(file: &[u8]) -> Result<Header, MapProblem> {
    let (length, header) = SafeTensors::read_metadata(file).map_err(|error| explain(file, error))?;
    // The numbers follow the length field and the header.
    let start = size_of::<u64>() + length;
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (from, to) = info.data_offsets;
        let entry = MappedEntry {
            dtype: info.dtype.into(),
            shape: info.shape.clone(),
            range: start + from..start + to,
        };
        tensors.insert(name, entry);
    }
    let metadata =
        header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((tensors, metadata))
}

/// Converts an error of the header's parser to a clear reason.
fn explain(file: &[u8], error: SafeTensorError) -> MapProblem {
    match FileForm::of(file) {
        FileForm::Foreign(foreign) => return MapProblem::Foreign(foreign),
        FileForm::Json => return MapProblem::Foreign(Foreign::Json),
        FileForm::Zip | FileForm::OldTorch => return MapProblem::PyTorchArchive,
        FileForm::Safetensors => {}
    }
    let found = file.len() as u64;
    match promised_length(file) {
        Some(expected) if expected > found => MapProblem::CutShort { expected, found },
        _ => MapProblem::Header(error),
    }
}

/// The file length that the header requires, if it looks like a header.
fn promised_length(file: &[u8]) -> Option<u64> {
    let (&length, rest) = file.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(length);
    let header_end = length.checked_add(8)?;
    if rest.first() != Some(&b'{') {
        return None;
    }
    let Some(header) = rest.get(..usize::try_from(length).ok()?) else { return Some(header_end) };
    let header: Metadata = serde_json::from_slice(header).ok()?;
    header_end.checked_add(header.data_len() as u64)
}

/// SHA-256 over named tensors. Each is fed as: length and bytes of the name, then of the type's name (`F32`),
/// number of dimensions and each of them, length and bytes of the numbers; lengths as 64-bit little-endian.
/// The caller feeds them in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Feeds one tensor.
    pub fn add(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) {
        self.field(name.as_bytes());
        self.field(dtype.to_string().as_bytes());
        self.number(shape.len());
        for &size in shape {
            self.number(size);
        }
        self.field(bytes);
    }

    /// The fingerprint, in lower-case hexadecimal.
    pub fn finish(self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0.finalize() {
            text.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
            );
        }
        text
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn number(&mut self, value: usize) {
        self.0.update((value as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests;

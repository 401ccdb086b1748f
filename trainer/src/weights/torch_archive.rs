//! Checkpoints as `torch.save` writes them (`checkpoint.pth.tar` of the official code), without Python.
//!
//! Since `PyTorch` 1.6 such a file is a zip archive of stored entries: `NAME/data.pkl` describes the tensors,
//! `NAME/data/KEY` holds the numbers of one storage. The description is read as data (see [`super::pickle`]);
//! nothing of the file is run and nothing is written. What a file can make this reader allocate is bounded
//! by the constants below and by the file's own length.

mod error;

pub use self::error::{CheckpointError, CheckpointProblem};
use super::dtype::DType;
use super::host_tensor::HostTensor;
use super::pickle::{MAX_PICKLE_BYTES, ObjectId, Pickle, StorageRef, TensorRef, Value, printable};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// Most tensors in a checkpoint; a fully trained ViT-L has some 500.
pub const MAX_TENSORS: usize = 20_000;
/// Deepest nesting of dictionaries; `tuner`, `head` and their tables need two.
pub const MAX_DEPTH: usize = 16;
/// Longest name of a tensor, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Most entries looked at, counting an entry once for each way that leads to it.
pub const MAX_ENTRIES: usize = 200_000;
/// Most bytes of all tensors together.
pub const MAX_TENSOR_BYTES: u64 = 32 << 30;
/// How many times the file's length the tensors may take: several may view one storage.
pub const MAX_SHARING: u64 = 16;

/// What a checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TorchCheckpoint {
    /// Tensors by name: keys of nested dictionaries joined by dots, as in `tuner.KEY`, `head.KEY`.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Names of the entries that are no tensors (an epoch number, say). Their values are not kept.
    pub other: Vec<String>,
}

/// Reads every tensor of a checkpoint.
pub fn read_checkpoint(path: &Path) -> Result<TorchCheckpoint, CheckpointError> {
    let read = || read_archive(File::open(path)?);
    read().map_err(|problem| CheckpointError { path: path.to_owned(), problem })
}

/// Reads every tensor of a checkpoint from anything that can be read and sought.
pub fn read_archive<R: Read + Seek>(mut reader: R) -> Result<TorchCheckpoint, CheckpointProblem> {
    let length = reader.seek(SeekFrom::End(0))?;
    check_beginning(&mut reader)?;
    let mut archive = Archive::open(reader, length)?;
    let pickle = archive.read_pickle()?;
    let pickle = Pickle::parse(&pickle)?;
    let mut listing = Listing { pickle: &pickle, tensors: BTreeMap::new(), other: Vec::new(), visited: 0 };
    match pickle.value(pickle.root()) {
        Value::Dict(_) => listing.walk(pickle.root(), &mut String::new(), 0)?,
        _ => return Err(CheckpointProblem::NotNamed { place: "the whole".to_owned() }),
    }
    let tensors = archive.read_tensors(&listing.tensors)?;
    Ok(TorchCheckpoint { tensors, other: listing.other })
}

/// Tells files of other kinds by their first bytes, for a better message than "damaged".
fn check_beginning<R: Read + Seek>(reader: &mut R) -> Result<(), CheckpointProblem> {
    reader.seek(SeekFrom::Start(0))?;
    let mut start = Vec::with_capacity(4);
    reader.take(4).read_to_end(&mut start)?;
    match start.as_slice() {
        [] => Err(CheckpointProblem::Empty),
        b"PK\x03\x04" => Ok(()),
        [0x80, 2..=5, ..] => Err(CheckpointProblem::BarePickle),
        _ => Err(CheckpointProblem::NotAnArchive),
    }
}

/// The named tensors of a pickle.
struct Listing<'p, 'a> {
    pickle: &'p Pickle<'a>,
    tensors: BTreeMap<String, &'p TensorRef<'a>>,
    other: Vec<String>,
    visited: usize,
}

impl Listing<'_, '_> {
    /// Lists what is below `id`, whose name is `name`. Depth, names and visits are bounded, so that
    /// dictionaries that hold each other end.
    fn walk(&mut self, id: ObjectId, name: &mut String, depth: usize) -> Result<(), CheckpointProblem> {
        self.visited += 1;
        limit(self.visited, "entries", MAX_ENTRIES)?;
        limit(depth, "levels of nesting", MAX_DEPTH)?;
        limit(name.len(), "bytes in a name", MAX_NAME_BYTES)?;
        match self.pickle.value(id) {
            Value::Tensor(tensor) => {
                limit(self.tensors.len() + 1, "tensors", MAX_TENSORS)?;
                match self.tensors.insert(name.clone(), tensor) {
                    None => Ok(()),
                    Some(_) => Err(CheckpointProblem::Twice { name: printable(name) }),
                }
            }
            Value::Dict(entries) => {
                entries.iter().try_for_each(|&(key, value)| match *self.pickle.value(key) {
                    Value::Text(key) => self.walk_entry(key, value, name, depth),
                    Value::Int(key) => self.walk_entry(&key.to_string(), value, name, depth),
                    _ => Err(CheckpointProblem::NotNamed { place: format!("entry `{}`", printable(name)) }),
                })
            }
            Value::List(items) | Value::Tuple(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, &item)| self.walk_entry(&index.to_string(), item, name, depth)),
            _ => {
                self.other.push(name.clone());
                Ok(())
            }
        }
    }

    fn walk_entry(
        &mut self,
        key: &str,
        value: ObjectId,
        name: &mut String,
        depth: usize,
    ) -> Result<(), CheckpointProblem> {
        limit(key.len(), "bytes in a name", MAX_NAME_BYTES)?;
        let length = name.len();
        if depth > 0 {
            name.push('.');
        }
        name.push_str(key);
        self.walk(value, name, depth + 1)?;
        name.truncate(length);
        Ok(())
    }
}

fn limit(found: usize, what: &'static str, limit: usize) -> Result<(), CheckpointProblem> {
    if found > limit { Err(CheckpointProblem::Limit { what, limit: limit as u64 }) } else { Ok(()) }
}

/// The zip archive and the folder inside it that everything lies in.
struct Archive<R> {
    zip: ZipArchive<R>,
    folder: String,
    /// Length of the file: no stored entry can be longer.
    length: u64,
}

impl<R: Read + Seek> Archive<R> {
    fn open(reader: R, length: u64) -> Result<Self, CheckpointProblem> {
        let zip = ZipArchive::new(reader).map_err(damaged)?;
        if zip.has_duplicate_names() {
            return Err(CheckpointProblem::Damaged { reason: "two entries have one name".to_owned() });
        }
        let mut folders = Vec::new();
        let mut program = false;
        for name in zip.file_names() {
            let name = name.map_err(damaged)?;
            folders.extend(name.strip_suffix("/data.pkl").map(str::to_owned));
            program |= name.ends_with("/constants.pkl") || name.contains("/code/");
        }
        if program {
            return Err(CheckpointProblem::TorchScript);
        }
        match <[String; 1]>::try_from(folders) {
            Ok([folder]) => Ok(Self { zip, folder, length }),
            Err(folders) => Err(CheckpointProblem::NoPickle { found: folders.len() }),
        }
    }

    /// The description of the tensors, once the byte order is known to be ours. Old archives do not
    /// state it; they were written on little-endian machines.
    fn read_pickle(&mut self) -> Result<Vec<u8>, CheckpointProblem> {
        if let Some(order) = self.read_entry("byteorder", MAX_NAME_BYTES as u64)?
            && order.trim_ascii() != b"little"
        {
            return Err(CheckpointProblem::ByteOrder { found: printable(&String::from_utf8_lossy(&order)) });
        }
        let pickle = self.read_entry("data.pkl", MAX_PICKLE_BYTES as u64)?;
        pickle.ok_or(CheckpointProblem::NoPickle { found: 0 })
    }

    /// The bytes of an entry, its checksum verified; none if it is not there.
    fn read_entry(&mut self, name: &str, longest: u64) -> Result<Option<Vec<u8>>, CheckpointProblem> {
        let Some(index) = self.zip.index_for_name(&format!("{}/{name}", self.folder)) else {
            return Ok(None);
        };
        let raw = self.zip.by_index_raw(index).map_err(damaged)?;
        let size = raw.size();
        if raw.compression() != CompressionMethod::Stored || raw.encrypted() {
            return Err(CheckpointProblem::Compressed { entry: printable(name) });
        }
        drop(raw);
        if size > self.length {
            let reason = format!("entry `{}` claims more bytes than the file has", printable(name));
            return Err(CheckpointProblem::Damaged { reason });
        }
        if size > longest {
            return Err(CheckpointProblem::Limit { what: "bytes in an entry", limit: longest });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let entry = self.zip.by_index(index).map_err(damaged)?;
        // One byte more than it claims: reaching the end is what makes the zip reader compare checksums.
        entry.take(size + 1).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            let reason =
                format!("entry `{}` has {} bytes, its directory says {size}", printable(name), bytes.len());
            return Err(CheckpointProblem::Damaged { reason });
        }
        Ok(Some(bytes))
    }

    /// Reads each storage once, for all tensors that view it.
    fn read_tensors(
        &mut self,
        listed: &BTreeMap<String, &TensorRef<'_>>,
    ) -> Result<BTreeMap<String, HostTensor>, CheckpointProblem> {
        let mut views: BTreeMap<&str, Vec<(&str, &TensorRef<'_>)>> = BTreeMap::new();
        let mut total: u64 = 0;
        let longest = MAX_TENSOR_BYTES.min(self.length.saturating_mul(MAX_SHARING));
        for (name, &tensor) in listed {
            total = total.saturating_add(check_view(name, tensor)?);
            if total > longest {
                return Err(CheckpointProblem::Limit { what: "bytes of tensors", limit: longest });
            }
            views.entry(tensor.storage.key).or_default().push((name, tensor));
        }
        let mut tensors = BTreeMap::new();
        for users in views.into_values() {
            self.read_storage(&users, &mut tensors)?;
        }
        Ok(tensors)
    }

    /// Reads one storage and cuts its tensors from it.
    fn read_storage(
        &mut self,
        users: &[(&str, &TensorRef<'_>)],
        tensors: &mut BTreeMap<String, HostTensor>,
    ) -> Result<(), CheckpointProblem> {
        let Some(&(first, TensorRef { storage, .. })) = users.first() else { return Ok(()) };
        if let Some((tensor, _)) = users.iter().find(|(_, tensor)| tensor.storage != *storage) {
            let (tensor, key) = (printable(tensor), printable(storage.key));
            return Err(CheckpointProblem::StorageDisagrees { tensor, key });
        }
        let bytes = self.read_entry(&format!("data/{}", storage.key), u64::MAX)?.ok_or_else(|| {
            CheckpointProblem::StorageMissing { tensor: printable(first), key: printable(storage.key) }
        })?;
        let expected = storage.elements.saturating_mul(item_bytes(storage.dtype));
        if (bytes.len() as u64) < expected {
            let (tensor, key) = (printable(first), printable(storage.key));
            return Err(CheckpointProblem::StorageShort { tensor, key, expected, found: bytes.len() as u64 });
        }
        if let [(name, tensor)] = users
            && is_whole(tensor)
            && bytes.len() as u64 == expected
        {
            tensors.insert((*name).to_owned(), host_tensor(tensor, bytes));
            return Ok(());
        }
        for (name, tensor) in users {
            tensors.insert((*name).to_owned(), host_tensor(tensor, gather(tensor, &bytes)));
        }
        Ok(())
    }
}

fn damaged(error: impl std::fmt::Display) -> CheckpointProblem {
    CheckpointProblem::Damaged { reason: error.to_string() }
}

fn item_bytes(dtype: DType) -> u64 {
    dtype.bytes() as u64
}

fn host_tensor(tensor: &TensorRef<'_>, bytes: Vec<u8>) -> HostTensor {
    let shape = tensor.shape.iter().map(|&size| size as usize).collect();
    HostTensor { dtype: tensor.storage.dtype, shape, bytes }
}

/// The bytes a tensor takes, if its view stays within its storage and is no larger than it. (Expanded
/// views, where a stride of zero repeats numbers, are no weights; they would let a small file ask for
/// any amount of memory.)
fn check_view(name: &str, tensor: &TensorRef<'_>) -> Result<u64, CheckpointProblem> {
    let StorageRef { dtype, elements, .. } = tensor.storage;
    let fits = || {
        let count = tensor.shape.iter().try_fold(1_u64, |all, &size| all.checked_mul(size))?;
        if count == 0 {
            return (tensor.offset <= elements).then_some(0);
        }
        let mut last = tensor.offset;
        for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides) {
            last = last.checked_add((size - 1).checked_mul(stride)?)?;
        }
        if last >= elements || count > elements {
            return None;
        }
        count.checked_mul(item_bytes(dtype))
    };
    fits().ok_or_else(|| CheckpointProblem::OutOfRange {
        tensor: printable(name),
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        offset: tensor.offset,
        elements,
    })
}

/// Whether the tensor is its storage, in its order.
fn is_whole(tensor: &TensorRef<'_>) -> bool {
    let mut step = 1;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if size != 1 && stride != step {
            return false;
        }
        step *= size;
    }
    tensor.offset == 0 && step == tensor.storage.elements
}

/// Copies a checked view out of its storage in row-major order.
fn gather(tensor: &TensorRef<'_>, storage: &[u8]) -> Vec<u8> {
    let item = item_bytes(tensor.storage.dtype) as usize;
    let count: u64 = tensor.shape.iter().product();
    let mut out = Vec::with_capacity(count as usize * item);
    if count > 0 {
        let dims: Vec<(usize, usize)> = tensor
            .shape
            .iter()
            .zip(&tensor.strides)
            .map(|(&n, &s)| (n as usize, s as usize * item))
            .collect();
        copy_view(&dims, tensor.offset as usize * item, item, storage, &mut out);
    }
    out
}

/// `dims`: sizes and steps in bytes, outermost first; at most [`super::pickle::MAX_RANK`] of them.
fn copy_view(dims: &[(usize, usize)], start: usize, item: usize, storage: &[u8], out: &mut Vec<u8>) {
    match *dims {
        [] => out.extend_from_slice(&storage[start..start + item]),
        [(size, step)] if step == item => out.extend_from_slice(&storage[start..start + size * item]),
        [(size, step), ref inner @ ..] => {
            for index in 0..size {
                copy_view(inner, start + index * step, item, storage, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;

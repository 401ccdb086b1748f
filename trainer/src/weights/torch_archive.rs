//! Checkpoints as `torch.save` writes them (`checkpoint.pth.tar` of the official code), without Python.
//!
//! Since `PyTorch` 1.6 such a file is a zip archive of stored entries: `NAME/data.pkl` describes the tensors,
//! `NAME/data/KEY` holds the numbers of one storage. The description is read as data (see [`super::torch_pickle`]);
//! nothing of the file is run and nothing is written. What a file can make this reader allocate is bounded
//! by the constants below and by the file's own length.

mod error;
mod listing;
mod old;
mod stored;
mod view;
mod writer;

pub use self::error::{TorchFileError, TorchFileProblem};
use self::listing::Listing;
pub use self::stored::{Stored, StoredTensor, stored_tensors};
use self::view::{check_view, gather, is_whole, item_bytes};
pub use self::writer::{TensorTable, WriteError, write_archive};
use super::form::{FIRST_BYTES, FileForm, Foreign};
use super::host_tensor::HostTensor;
use super::torch_pickle::{Allowed, MAX_PICKLE_BYTES, TensorRef, TorchPickle};
use crate::pickle::printable;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
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
/// Limit on the size of all tensors, as a multiple of the file's length: several may view one storage.
pub const MAX_SHARING: u64 = 16;

/// The contents of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TorchCheckpoint {
    /// Tensors by name: keys of nested dictionaries joined by dots, as in `tuner.KEY`, `head.KEY`.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Names of the entries that are not tensors (for example an epoch number). Their values are discarded.
    pub other: Vec<String>,
}

/// Reads every tensor of a checkpoint.
pub fn read_checkpoint(path: &Path) -> Result<TorchCheckpoint, TorchFileError> {
    let read = || read_archive(File::open(path)?);
    read().map_err(|problem| TorchFileError { path: path.to_owned(), problem })
}

/// Reads every tensor of a checkpoint from a seekable reader.
pub fn read_archive<R: Read + Seek>(mut reader: R) -> Result<TorchCheckpoint, TorchFileProblem> {
    let length = reader.seek(SeekFrom::End(0))?;
    check_beginning(&mut reader)?;
    let mut archive = Archive::open(reader, length)?;
    if archive.program {
        return Err(TorchFileProblem::TorchScript);
    }
    let pickle = archive.read_pickle()?;
    let pickle = TorchPickle::parse(&pickle, Allowed::Tensors)?;
    let listing = Listing::of(&pickle)?;
    let tensors = archive.read_tensors(&listing.tensors)?;
    Ok(TorchCheckpoint { tensors, other: listing.other })
}

/// Detects other kinds of files by their first bytes, for a better message than "damaged".
fn check_beginning<R: Read + Seek>(reader: &mut R) -> Result<(), TorchFileProblem> {
    reader.seek(SeekFrom::Start(0))?;
    let mut start = Vec::with_capacity(FIRST_BYTES);
    reader.take(FIRST_BYTES as u64).read_to_end(&mut start)?;
    match FileForm::of(&start) {
        _ if start.is_empty() => Err(TorchFileProblem::Empty),
        FileForm::Zip => Ok(()),
        FileForm::OldTorch | FileForm::Foreign(Foreign::Pickle) => Err(TorchFileProblem::BarePickle),
        FileForm::Foreign(foreign) => Err(TorchFileProblem::Foreign(foreign)),
        FileForm::Json | FileForm::Safetensors => Err(TorchFileProblem::NotAnArchive),
    }
}

/// Checks that every view is within its storage, and that all views together need no more bytes than a file of
/// `length` bytes allows.
fn check_views<'t, 'a: 't>(
    listed: impl Iterator<Item = (&'t str, &'t TensorRef<'a>)>,
    length: u64,
) -> Result<(), TorchFileProblem> {
    let mut total: u64 = 0;
    let longest = MAX_TENSOR_BYTES.min(length.saturating_mul(MAX_SHARING));
    for (name, tensor) in listed {
        total = total.saturating_add(check_view(name, tensor)?);
        if total > longest {
            return Err(TorchFileProblem::Limit { what: "bytes of tensors", limit: longest });
        }
    }
    Ok(())
}

/// The zip archive and its top-level folder.
struct Archive<R> {
    zip: ZipArchive<R>,
    folder: String,
    /// Length of the file: no stored entry can be longer.
    length: u64,
    /// Whether the archive also contains a `TorchScript` program.
    program: bool,
}

/// An entry of the archive.
struct ArchiveEntry {
    index: usize,
    /// Offset of its bytes in the file.
    start: u64,
    size: u64,
}

impl<R: Read + Seek> Archive<R> {
    fn open(reader: R, length: u64) -> Result<Self, TorchFileProblem> {
        let zip = ZipArchive::new(reader).map_err(damaged)?;
        if zip.has_duplicate_names() {
            return Err(TorchFileProblem::Damaged { reason: "two entries have the same name".to_owned() });
        }
        let mut folders = Vec::new();
        let (mut program, mut arrays) = (false, false);
        for name in zip.file_names() {
            let name = name.map_err(damaged)?;
            folders.extend(name.strip_suffix("/data.pkl").map(str::to_owned));
            arrays |= name.ends_with(".npy");
            program |= name.ends_with("/constants.pkl") || name.contains("/code/");
        }
        match <[String; 1]>::try_from(folders) {
            Ok([folder]) => Ok(Self { zip, folder, length, program }),
            Err(_) if arrays => Err(TorchFileProblem::Foreign(Foreign::NumPy)),
            Err(folders) if folders.is_empty() => Err(TorchFileProblem::Foreign(Foreign::OtherZip)),
            Err(folders) => Err(TorchFileProblem::NoPickle { found: folders.len() }),
        }
    }

    /// The description of the tensors, after a check that the byte order is little-endian. Old archives do not
    /// state the byte order; they were written on little-endian machines.
    fn read_pickle(&mut self) -> Result<Vec<u8>, TorchFileProblem> {
        if let Some(order) = self.read_entry("byteorder", MAX_NAME_BYTES as u64)?
            && order.trim_ascii() != b"little"
        {
            return Err(TorchFileProblem::ByteOrder { found: printable(&String::from_utf8_lossy(&order)) });
        }
        let pickle = self.read_entry("data.pkl", MAX_PICKLE_BYTES as u64)?;
        pickle.ok_or(TorchFileProblem::NoPickle { found: 0 })
    }

    /// The bytes of an entry, with its checksum verified; `None` if it does not exist.
    fn read_entry(&mut self, name: &str, longest: u64) -> Result<Option<Vec<u8>>, TorchFileProblem> {
        let Some(ArchiveEntry { index, size, .. }) = self.find(name)? else { return Ok(None) };
        if size > longest {
            return Err(TorchFileProblem::Limit { what: "bytes in an entry", limit: longest });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let entry = self.zip.by_index(index).map_err(damaged)?;
        // One byte more than the declared size: the zip reader compares checksums when it reaches the end.
        let found = entry.take(size + 1).read_to_end(&mut bytes).map_err(damaged)?;
        same_length(name, found as u64, size)?;
        Ok(Some(bytes))
    }

    /// The range of an entry's bytes in the file, with its checksum verified; `None` if it does not exist.
    fn locate(&mut self, name: &str) -> Result<Option<Range<usize>>, TorchFileProblem> {
        let Some(ArchiveEntry { index, start, size }) = self.find(name)? else { return Ok(None) };
        let entry = self.zip.by_index(index).map_err(damaged)?;
        let found = io::copy(&mut entry.take(size + 1), &mut io::sink()).map_err(damaged)?;
        same_length(name, found, size)?;
        Ok(Some(start as usize..(start + size) as usize))
    }

    /// Finds an entry that is stored uncompressed and is within the file.
    fn find(&mut self, name: &str) -> Result<Option<ArchiveEntry>, TorchFileProblem> {
        let Some(index) = self.zip.index_for_name(&format!("{}/{name}", self.folder)) else {
            return Ok(None);
        };
        let raw = self.zip.by_index_raw(index).map_err(damaged)?;
        if raw.compression() != CompressionMethod::Stored || raw.encrypted() {
            return Err(TorchFileProblem::Compressed { entry: printable(name) });
        }
        let (start, size) = (raw.data_start(), raw.size());
        if let Some(start) =
            start.filter(|start| start.checked_add(size).is_some_and(|end| end <= self.length))
        {
            return Ok(Some(ArchiveEntry { index, start, size }));
        }
        let reason = format!("entry `{}` states more bytes than the file has", printable(name));
        Err(TorchFileProblem::Damaged { reason })
    }

    /// Reads each storage once, for all tensors that view it.
    fn read_tensors(
        &mut self,
        listed: &BTreeMap<String, &TensorRef<'_>>,
    ) -> Result<BTreeMap<String, HostTensor>, TorchFileProblem> {
        check_views(listed.iter().map(|(name, &tensor)| (name.as_str(), tensor)), self.length)?;
        let mut views: BTreeMap<&str, Vec<(&str, &TensorRef<'_>)>> = BTreeMap::new();
        for (name, &tensor) in listed {
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
    ) -> Result<(), TorchFileProblem> {
        let Some(&(first, TensorRef { storage, .. })) = users.first() else { return Ok(()) };
        if let Some((tensor, _)) = users.iter().find(|(_, tensor)| tensor.storage != *storage) {
            let (tensor, key) = (printable(tensor), printable(storage.key));
            return Err(TorchFileProblem::StorageDisagrees { tensor, key });
        }
        let bytes = self.read_entry(&format!("data/{}", storage.key), u64::MAX)?.ok_or_else(|| {
            TorchFileProblem::StorageMissing { tensor: printable(first), key: printable(storage.key) }
        })?;
        let expected = storage.elements.saturating_mul(item_bytes(storage.dtype));
        if (bytes.len() as u64) < expected {
            let (tensor, key) = (printable(first), printable(storage.key));
            return Err(TorchFileProblem::StorageShort { tensor, key, expected, found: bytes.len() as u64 });
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

fn host_tensor(tensor: &TensorRef<'_>, bytes: Vec<u8>) -> HostTensor {
    let shape = tensor.shape.iter().map(|&size| size as usize).collect();
    HostTensor { dtype: tensor.storage.dtype, shape, bytes }
}

fn same_length(name: &str, found: u64, size: u64) -> Result<(), TorchFileProblem> {
    if found == size {
        return Ok(());
    }
    let reason = format!("entry `{}` has {found} bytes, its directory says {size}", printable(name));
    Err(TorchFileProblem::Damaged { reason })
}

fn damaged(error: impl std::fmt::Display) -> TorchFileProblem {
    TorchFileProblem::Damaged { reason: error.to_string() }
}

#[cfg(test)]
mod tests;

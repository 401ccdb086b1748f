//! The tensors of a mapped file, in place: nothing is copied.

use super::listing::Listing;
use super::{Archive, TorchFileProblem, check_views, item_bytes, old};
use crate::pickle::printable;
use crate::weights::dtype::DType;
use crate::weights::torch_pickle::{Allowed, StorageRef, TensorRef, TorchPickle};
use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

/// The tensors of a file of `torch.save` or `TorchScript`.
#[derive(Debug, Default, PartialEq)]
pub struct Stored {
    /// Tensors by name: keys of nested dictionaries, or of modules, joined by dots.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The dictionary that contains them, if the file has several.
    pub table: Option<String>,
    /// The other entries of the file.
    pub passed_over: Vec<String>,
    /// Whether the file also contains code, which is neither read nor run.
    pub program: bool,
}

/// A strided view of numbers in a file, in its byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Vec<i64>,
    /// Steps of the dimensions, in elements.
    pub strides: Vec<i64>,
    /// From the first element to the end of the last one, in bytes of the file.
    pub bytes: Range<usize>,
}

/// Lists the tensors of a file. If it consists of several dictionaries and `is_model` accepts the names of exactly
/// one, only the tensors of that one are listed; otherwise all are listed.
pub fn stored_tensors(file: &[u8], is_model: impl Fn(&[&str]) -> bool) -> Result<Stored, TorchFileProblem> {
    if old::is_old(file) {
        let old = old::read(file)?;
        return select(&old.pickle, file.len(), false, is_model, |storage| Ok(old.place(storage)));
    }
    let mut archive = Archive::open(Cursor::new(file), file.len() as u64)?;
    let program = archive.program;
    let pickle = archive.read_pickle()?;
    let pickle = TorchPickle::parse(&pickle, Allowed::Objects)?;
    select(&pickle, file.len(), program, is_model, |storage| archive.locate(&format!("data/{}", storage.key)))
}

fn select(
    pickle: &TorchPickle<'_>,
    length: usize,
    program: bool,
    is_model: impl Fn(&[&str]) -> bool,
    mut locate: impl FnMut(&StorageRef<'_>) -> Result<Option<Range<usize>>, TorchFileProblem>,
) -> Result<Stored, TorchFileProblem> {
    let listing = Listing::of(pickle)?;
    let tables = listing.tables();
    let below = |table: &str| {
        let names = listing.tensors.keys().filter_map(|name| name.strip_prefix(table)?.strip_prefix('.'));
        names.collect::<Vec<_>>()
    };
    let models: Vec<&str> = tables.iter().copied().filter(|&table| is_model(&below(table))).collect();
    let table = match models[..] {
        [table] => Some(table),
        _ => None,
    };
    let in_table = |name: &str| match table {
        None => Some(name.to_owned()),
        Some(table) => name.strip_prefix(table)?.strip_prefix('.').map(str::to_owned),
    };
    let chosen: BTreeMap<String, &TensorRef<'_>> =
        listing.tensors.iter().filter_map(|(name, &tensor)| Some((in_table(name)?, tensor))).collect();
    check_views(chosen.iter().map(|(name, &tensor)| (name.as_str(), tensor)), length as u64)?;
    let mut storages = HashMap::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in chosen {
        let storage = &tensor.storage;
        let place = match storages.get(storage.key) {
            Some(place) => Range::clone(place),
            None => locate(storage)?.ok_or_else(|| TorchFileProblem::StorageMissing {
                tensor: printable(&name),
                key: printable(storage.key),
            })?,
        };
        holds_all(&name, storage, &place)?;
        tensors.insert(name, view(tensor, &place));
        storages.insert(storage.key, place);
    }
    let passed_over =
        tables.iter().filter(|&&other| table.is_some_and(|table| table != other)).map(|&t| t.to_owned());
    let passed_over = passed_over.collect();
    Ok(Stored { tensors, table: table.map(str::to_owned), passed_over, program })
}

/// The bytes of a storage are as many as a tensor declares.
fn holds_all(name: &str, storage: &StorageRef<'_>, place: &Range<usize>) -> Result<(), TorchFileProblem> {
    let expected = storage.elements.saturating_mul(item_bytes(storage.dtype));
    let found = place.len() as u64;
    if found >= expected {
        return Ok(());
    }
    let (tensor, key) = (printable(name), printable(storage.key));
    Err(TorchFileProblem::StorageShort { tensor, key, expected, found })
}

/// A checked view of a storage that lies at `place`.
fn view(tensor: &TensorRef<'_>, place: &Range<usize>) -> StoredTensor {
    let item = item_bytes(tensor.storage.dtype) as usize;
    let last = |(&size, &stride): (&u64, &u64)| size.saturating_sub(1) * stride;
    let elements = match tensor.shape.iter().product::<u64>() {
        0 => 0,
        _ => 1 + tensor.shape.iter().zip(&tensor.strides).map(last).sum::<u64>(),
    };
    let start = place.start + tensor.offset as usize * item;
    StoredTensor {
        dtype: tensor.storage.dtype,
        shape: tensor.shape.iter().map(|&n| n as i64).collect(),
        strides: tensor.strides.iter().map(|&n| n as i64).collect(),
        bytes: start..start + elements as usize * item,
    }
}

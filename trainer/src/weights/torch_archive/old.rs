//! Files of `torch.save` before `PyTorch` 1.6, which are no archives: five pickles one after the other (a magic
//! number, the version of the format, facts of the machine, the objects, the keys of the storages), then the
//! storages, each as the number of its elements and the numbers themselves.
//!
//! Source of the format: `_legacy_save` in `torch.serialization`.

use super::{TorchFileProblem, damaged, item_bytes};
use crate::weights::form::FileForm;
use crate::weights::torch_pickle::{
    Allowed, MAX_PICKLE_BYTES, StorageRef, TorchPickle, TorchValue, storages,
};
use std::collections::HashMap;
use std::ops::Range;

/// The version of the format, pickled.
const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";
/// Length of the pickled magic number, which [`FileForm`] compares.
const MAGIC_LENGTH: usize = 15;

/// Whether a file begins as those do.
pub(super) fn is_old(file: &[u8]) -> bool {
    FileForm::of(file) == FileForm::OldTorch
}

/// The objects of such a file, and where its storages lie.
pub(super) struct Old<'a> {
    pub(super) pickle: TorchPickle<'a>,
    places: HashMap<&'a str, Range<usize>>,
}

impl Old<'_> {
    /// Where the numbers of a storage lie.
    pub(super) fn place(&self, storage: &StorageRef<'_>) -> Option<Range<usize>> {
        self.places.get(storage.key).cloned()
    }
}

/// Reads all but the numbers.
pub(super) fn read(file: &[u8]) -> Result<Old<'_>, TorchFileProblem> {
    let mut rest = Rest { file, position: MAGIC_LENGTH };
    if rest.take(VERSION.len())? != VERSION {
        return Err(damaged("its version is not 1001"));
    }
    let machine = rest.pickle()?;
    if !is_little_endian(&machine) {
        return Err(TorchFileProblem::ByteOrder { found: "big".to_owned() });
    }
    let pickle = rest.pickle()?;
    let keys = rest.pickle()?;
    let item: HashMap<&str, u64> =
        storages(&pickle).map(|storage| (storage.key, item_bytes(storage.dtype))).collect();
    let TorchValue::List(keys_in_order) = keys.value(keys.root()) else {
        return Err(damaged("it has no list of storages"));
    };
    let mut places = HashMap::new();
    for &key in keys_in_order {
        let &TorchValue::Text(key) = keys.value(key) else {
            return Err(damaged("the key of a storage is no text"));
        };
        let item = *item.get(key).ok_or_else(|| damaged("it has a storage that no tensor names"))?;
        let length = rest.take(size_of::<u64>())?.try_into().map_or(0, u64::from_le_bytes);
        let bytes = length.checked_mul(item).and_then(|bytes| usize::try_from(bytes).ok());
        let start = rest.position;
        rest.take(bytes.unwrap_or(usize::MAX))?;
        places.insert(key, start..rest.position);
    }
    Ok(Old { pickle, places })
}

fn is_little_endian(machine: &TorchPickle<'_>) -> bool {
    let TorchValue::Dict(facts) = machine.value(machine.root()) else { return false };
    facts.iter().any(|&(key, value)| {
        *machine.value(key) == TorchValue::Text("little_endian")
            && *machine.value(value) == TorchValue::Bool(true)
    })
}

/// What is left of the file.
struct Rest<'a> {
    file: &'a [u8],
    position: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TorchFileProblem> {
        let taken = self.position.checked_add(length).and_then(|end| self.file.get(self.position..end));
        let taken = taken.ok_or_else(|| damaged("the file ends early"))?;
        self.position += length;
        Ok(taken)
    }

    fn pickle(&mut self) -> Result<TorchPickle<'a>, TorchFileProblem> {
        let rest = &self.file[self.position..];
        let (pickle, length) =
            TorchPickle::parse_first(&rest[..rest.len().min(MAX_PICKLE_BYTES)], Allowed::Objects)?;
        self.position += length;
        Ok(pickle)
    }
}

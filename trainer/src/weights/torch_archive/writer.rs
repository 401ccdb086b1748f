//! Writing what [`read_checkpoint`](super::read_checkpoint) and PyTorch's `torch.load` read.

use crate::weights::host_tensor::HostTensor;
use crate::weights::torch_pickle::{StorageRef, TensorRef, Unwritable, write_tables};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The folder of the archive, as in archives that PyTorch writes without a name.
const FOLDER: &str = "archive";
/// Storages begin at multiples of this in the file, as PyTorch's do, so that they can be mapped.
const ALIGNMENT: u16 = 64;
/// The version of the format, which has been the same since PyTorch 1.6.
const VERSION: &[u8] = b"3\n";

/// A checkpoint that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A tensor that the format does not have.
    #[error(transparent)]
    Tensor(#[from] Unwritable),
    /// The archive cannot be made.
    #[error("the zip archive cannot be made: {0}")]
    Zip(#[from] ZipError),
    /// Writing to the archive failed.
    #[error("the zip archive cannot be made: {0}")]
    Io(#[from] std::io::Error),
}

/// A table of a checkpoint: its name, and its tensors by name, in order. A tensor that is given under several names
/// is stored once.
pub type TensorTable<'a> = (&'a str, Vec<(&'a str, &'a HostTensor)>);

/// The bytes of a file of `torch.save`: a dictionary of ordered dictionaries of tensors.
pub fn write_archive(tables: &[TensorTable<'_>]) -> Result<Vec<u8>, WriteError> {
    let (keys, storages) = storages(tables);
    let described = tables.iter().map(|(table, tensors)| {
        let described =
            tensors.iter().map(|&(name, tensor)| (name, describe(tensor, &keys[&address(tensor)])));
        (*table, described.collect::<Vec<_>>())
    });
    let program = write_tables(&described.collect::<Vec<_>>())?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    entry(&mut zip, "data.pkl", &program)?;
    entry(&mut zip, "byteorder", b"little")?;
    for (key, tensor) in storages.iter().enumerate() {
        entry(&mut zip, &format!("data/{key}"), &tensor.bytes)?;
    }
    entry(&mut zip, "version", VERSION)?;
    Ok(zip.finish()?.into_inner())
}

/// The tensors without repetition, and the key of each by its address.
fn storages<'a>(tables: &[TensorTable<'a>]) -> (BTreeMap<usize, String>, Vec<&'a HostTensor>) {
    let (mut keys, mut storages) = (BTreeMap::new(), Vec::new());
    for &(_, tensor) in tables.iter().flat_map(|(_, tensors)| tensors) {
        keys.entry(address(tensor)).or_insert_with(|| {
            storages.push(tensor);
            (storages.len() - 1).to_string()
        });
    }
    (keys, storages)
}

fn address(tensor: &HostTensor) -> usize {
    std::ptr::from_ref(tensor).addr()
}

/// A tensor as the whole of its storage, row by row.
fn describe<'a>(tensor: &HostTensor, key: &'a str) -> TensorRef<'a> {
    let shape: Vec<u64> = tensor.shape.iter().map(|&size| size as u64).collect();
    let strides = (1..=shape.len()).map(|from| shape[from..].iter().product()).collect();
    let storage = StorageRef { dtype: tensor.dtype, key, elements: tensor.elements() as u64 };
    TensorRef { storage, offset: 0, shape, strides }
}

fn entry(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.with_alignment(ALIGNMENT).large_file(u32::try_from(bytes.len()).is_err());
    zip.start_file(format!("{FOLDER}/{name}"), options)?;
    Ok(zip.write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::super::{read_archive, stored_tensors};
    use super::*;
    use crate::weights::dtype::DType;

    fn tensor(dtype: DType, shape: &[usize]) -> HostTensor {
        let bytes = dtype.bytes() * shape.iter().product::<usize>();
        HostTensor { dtype, shape: shape.to_vec(), bytes: (0..bytes).map(|i| (i % 61) as u8).collect() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tensors = [
            tensor(DType::F32, &[5, 3]),
            tensor(DType::F64, &[]),
            tensor(DType::F16, &[7]),
            tensor(DType::I64, &[0]),
        ];
        let [matrix, scalar, half, none] = &tensors;
        let tuner = vec![("a.0", matrix), ("a.10", scalar), ("b", half), ("alias.of.a.0", matrix)];
        let bytes = write_archive(&[("tuner", tuner), ("head", vec![("weight", none)])]).unwrap();
        let found = read_archive(Cursor::new(&bytes)).expect("our own reader takes it");
        assert!(found.other.is_empty());
        let expected = [
            ("head.weight", none),
            ("tuner.a.0", matrix),
            ("tuner.a.10", scalar),
            ("tuner.alias.of.a.0", matrix),
            ("tuner.b", half),
        ];
        assert!(found.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).eq(expected));
        // A tensor of two names is stored once, and where a storage begins, it can be mapped.
        let stored = stored_tensors(&bytes, |_| false).unwrap().tensors;
        assert_eq!(stored["tuner.a.0"].bytes, stored["tuner.alias.of.a.0"].bytes);
        assert!(stored.values().all(|tensor| tensor.bytes.start % usize::from(ALIGNMENT) == 0), "{stored:?}");
    }

    #[test]
    fn tables_without_tensors_are_there() {
        let bytes = write_archive(&[("tuner", Vec::new()), ("head", Vec::new())]).unwrap();
        assert!(read_archive(Cursor::new(bytes)).expect("it is read").tensors.is_empty());
    }
}

//! Conversion of tensors to the bytes of a safetensors file and back.

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::cmp::Reverse;
use std::collections::HashSet;

/// Bytes of the number at the start of the file: the length of the header.
const LENGTH: usize = 8;
/// The reserved name of the format's metadata.
const RESERVED: &str = "__metadata__";

/// A tensor as bytes: little endian, the last dimension varies fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorBytes {
    /// Unique name in the snapshot.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements.
    pub bytes: Vec<u8>,
}

impl TensorBytes {
    /// Size in bytes of the shape; none on overflow or if the last byte would be shared.
    fn expected_bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
        let bits = elements.checked_mul(self.dtype.bitsize())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// The start of the file, and the tensors in the order in which their bytes follow: the widest elements first, so that
/// all are aligned in a mapped file.
pub(super) fn encode(tensors: &[TensorBytes]) -> Result<(Vec<u8>, Vec<&TensorBytes>), String> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let name = &tensor.name;
        if name == RESERVED || !names.insert(name) {
            return Err(format!("the name `{name}` is taken; every tensor needs one of its own"));
        }
        if tensor.expected_bytes() != Some(tensor.bytes.len()) {
            return Err(format!(
                "tensor `{name}` has {} bytes, which do not go with shape {:?} of {:?}",
                tensor.bytes.len(),
                tensor.shape,
                tensor.dtype
            ));
        }
    }
    let mut ordered: Vec<&TensorBytes> = tensors.iter().collect();
    ordered.sort_by_key(|tensor| Reverse(tensor.dtype.bitsize()));
    let header = header(&ordered).map_err(|error| error.to_string())?;
    Ok((header, ordered))
}

fn header(tensors: &[&TensorBytes]) -> Result<Vec<u8>, SafeTensorError> {
    let mut start = 0;
    let infos = tensors.iter().map(|tensor| {
        let data_offsets = (start, start + tensor.bytes.len());
        start = data_offsets.1;
        (tensor.name.clone(), TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets })
    });
    let metadata = Metadata::new(None, infos.collect())?;
    let mut header = vec![0; LENGTH];
    serde_json::to_writer(&mut header, &metadata)?;
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let length = (header.len() - LENGTH) as u64;
    header[..LENGTH].copy_from_slice(&length.to_le_bytes());
    Ok(header)
}

/// The tensors of a file, in the order of the file.
pub(super) fn decode(file: &[u8]) -> Result<Vec<TensorBytes>, String> {
    let (header, metadata) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
    let tensor = |name: String| {
        let info = metadata.info(&name)?;
        let (start, end) = info.data_offsets;
        let first = LENGTH.checked_add(header)?;
        let bytes = file.get(first.checked_add(start)?..first.checked_add(end)?)?;
        Some(TensorBytes { dtype: info.dtype, shape: info.shape.clone(), bytes: bytes.to_vec(), name })
    };
    let tensors: Option<Vec<_>> = metadata.offset_keys().into_iter().map(tensor).collect();
    tensors.ok_or_else(|| "its header names bytes that it does not have".into())
}

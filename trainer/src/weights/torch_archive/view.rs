//! Strided views of storages.

use super::TorchFileProblem;
use crate::pickle::printable;
use crate::weights::dtype::DType;
use crate::weights::torch_pickle::{StorageRef, TensorRef};

/// Bytes of one element.
pub(super) fn item_bytes(dtype: DType) -> u64 {
    dtype.bytes() as u64
}

/// The bytes a tensor takes, if its view stays within its storage and is no larger than it. (Expanded
/// views, where a stride of zero repeats numbers, are no weights; they would let a small file ask for
/// any amount of memory.)
pub(super) fn check_view(name: &str, tensor: &TensorRef<'_>) -> Result<u64, TorchFileProblem> {
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
    fits().ok_or_else(|| TorchFileProblem::OutOfRange {
        tensor: printable(name),
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        offset: tensor.offset,
        elements,
    })
}

/// Whether the tensor is its storage, in its order.
pub(super) fn is_whole(tensor: &TensorRef<'_>) -> bool {
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
pub(super) fn gather(tensor: &TensorRef<'_>, storage: &[u8]) -> Vec<u8> {
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

/// `dims`: sizes and steps in bytes, outermost first; at most [`crate::weights::torch_pickle::MAX_RANK`] of them.
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

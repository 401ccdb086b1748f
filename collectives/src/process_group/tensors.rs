//! Checks of the tensors that collectives accept, common to all backends.

use crate::error::CollectiveError;
use crate::raw::Element;
use tch::{Kind, Tensor};

/// Rank and operation of a call, for error messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallSite {
    /// Rank of this process in the world.
    pub(super) rank: usize,
    pub(super) operation: &'static str,
}

impl CallSite {
    pub(super) fn refuse(self, expected: impl Into<String>, found: String) -> CollectiveError {
        let (rank, operation) = (self.rank, self.operation);
        CollectiveError::Tensor { rank, operation, expected: expected.into(), found }
    }

    /// The element type of the tensor, or an error if it is not contiguous or its kind is not supported.
    pub(super) fn element(self, tensor: &Tensor) -> Result<Element, CollectiveError> {
        if !tensor.is_contiguous() {
            return Err(self.refuse("a contiguous tensor", format!("one with strides {:?}", tensor.stride())));
        }
        match tensor.kind() {
            Kind::Float => Ok(Element::F32),
            Kind::Double => Ok(Element::F64),
            Kind::Int64 => Ok(Element::I64),
            Kind::BFloat16 => Ok(Element::BF16),
            Kind::Uint8 => Ok(Element::U8),
            other => Err(self.refuse("kind Float, Double, Int64, BFloat16 or Uint8", format!("{other:?}"))),
        }
    }

    /// Checks that `whole` has as many elements as `size` tensors like `part`.
    pub(super) fn parts(self, size: usize, whole: &Tensor, part: &Tensor) -> Result<(), CollectiveError> {
        if whole.numel() == part.numel() * size && whole.kind() == part.kind() {
            return Ok(());
        }
        Err(self.refuse(
            format!("{size} parts of {} elements of {:?}", part.numel(), part.kind()),
            format!("{} elements of {:?}", whole.numel(), whole.kind()),
        ))
    }
}

/// Size of a tensor in bytes.
pub(super) fn size_of(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

//! How many handles hold a tensor.

use std::ffi::c_void;
use tch::Tensor;

unsafe extern "C" {
    fn trainer_owners(tensor: *const c_void, identity: *mut *const c_void) -> usize;
}

/// The handles of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owners {
    /// Equal for handles of the same tensor, as long as one of them lives.
    pub identity: usize,
    /// Number of handles: shallow clones, and what autograd keeps of the tensor for a backward pass.
    pub count: usize,
}

impl Owners {
    /// Of this tensor.
    pub fn of(tensor: &Tensor) -> Self {
        let mut identity = std::ptr::null();
        // SAFETY: the tensor lives for the call, which reads a number and an address.
        let count = unsafe { trainer_owners(tensor.as_ptr().cast(), &raw mut identity) };
        Self { identity: identity.addr(), count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_and_operations_that_keep_their_input_are_owners() {
        let x = Tensor::from_slice(&[1.0_f64, 2.0]).set_requires_grad(true).exp();
        assert_eq!(Owners::of(&x).count, 1);
        let clone = x.shallow_clone();
        assert_eq!(Owners::of(&x), Owners::of(&clone));
        assert_eq!(Owners::of(&x).count, 2);
        drop(clone);
        let product = &x * &x;
        assert!(Owners::of(&x).count > 1, "a product keeps its factors");
        drop(product);
        assert_eq!(Owners::of(&x).count, 1);
        let sum = &x + 1.0;
        assert_eq!(Owners::of(&x).count, 1, "a sum keeps nothing");
        drop(sum);
    }
}

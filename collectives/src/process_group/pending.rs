//! Handles of asynchronous collectives.

use crate::error::CollectiveError;

/// An asynchronous collective. Its tensors must not be read or written until [`wait`](Self::wait) returns.
#[must_use = "the collective is complete only after `wait`"]
pub struct Pending(Box<dyn FnOnce() -> Result<(), CollectiveError>>);

impl Pending {
    /// A collective that is complete when `finish` returns.
    pub fn new(finish: impl FnOnce() -> Result<(), CollectiveError> + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// A collective that is already complete.
    pub fn done() -> Self {
        Self::new(|| Ok(()))
    }

    /// Waits until the next operation on the device of the tensors may use the result.
    pub fn wait(self) -> Result<(), CollectiveError> {
        (self.0)()
    }
}

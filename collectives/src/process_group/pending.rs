//! A collective that was started and is not yet waited for.

use crate::error::CollectiveError;

/// A collective under way. Its tensors may be neither read nor written until [`wait`](Self::wait) returns.
#[must_use = "the collective is finished only when it was waited for"]
pub struct Pending(Box<dyn FnOnce() -> Result<(), CollectiveError>>);

impl Pending {
    /// One that ends when `finish` returns.
    pub fn new(finish: impl FnOnce() -> Result<(), CollectiveError> + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// One that has ended.
    pub fn done() -> Self {
        Self::new(|| Ok(()))
    }

    /// Returns when the result may be used by the next operation on the tensors' device.
    pub fn wait(self) -> Result<(), CollectiveError> {
        (self.0)()
    }
}

//! Operations of libtorch that tch does not have, each as one safe function.
//!
//! They go through libtorch's dispatcher by its C interface. That interface keeps the text of an error to itself, so it
//! serves operations whose caller has another way if they fail. The backward pass has none, and must report how much memory a
//! GPU lacked: it goes through the shim in `shim/backward.cpp`.

mod backward;
mod caching_allocator;
mod dispatcher;
mod fused_sgd;
mod owners;
mod parallel_for;
mod product;

pub use backward::{backward_from, try_backward_from};
pub use caching_allocator::{bytes_of_cpu_tensors, cache_cpu_tensors};
pub use dispatcher::Refused;
pub use fused_sgd::{SgdStep, fused_sgd};
pub use owners::Owners;
pub use parallel_for::parallel_for;
pub use product::{packed, product, products_are_fast};

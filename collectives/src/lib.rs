//! Process groups for training with [`tch`] over several processes.
//!
//! ```
//! use collectives::{ProcessGroup, ReduceOp, Solo};
//! use tch::Tensor;
//!
//! // `World::process_group` returns the group of all MPI ranks; `Solo` is the group of one process.
//! let group = Solo;
//! let mut gradient = Tensor::from_slice(&[0.5f32, -1.0]);
//! group.all_reduce(&mut gradient, ReduceOp::Sum)?;
//! assert_eq!((group.size(), Vec::<f32>::try_from(gradient)?), (1, vec![0.5, -1.0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`World`] starts MPI once, checks that the launcher and MPI agree on the number of ranks, and provides the two
//!   planes:
//!   - [`ProcessGroup`]: in-place collectives on tensors ([`Solo`], [`MpiGroup`], [`NcclGroup`]);
//!   - [`Control`]: agreements and small objects, on a separate communicator.
//! - [`liveness`]: detects dead and stuck ranks, also while a collective hangs;
//! - [`gpu`]: the GPUs of a process, and the GPU of a thread;
//! - [`host`]: divides the cores of a machine among its ranks;
//! - [`installed`]: the versions of libtorch, MPI and NCCL.
//!
//! Every return code is checked. The crate is independent of the model that is trained.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod activity;
mod control;
mod error;
pub mod gpu;
pub mod host;
pub mod installed;
mod launch;
pub mod liveness;
mod process_group;
mod raw;
mod reduce_op;
pub mod stand_in;
mod world;

pub use activity::{Activity, ActivitySnapshot, OperationGuard};
pub use control::Control;
pub use error::{CollectiveError, LaunchError};
pub use launch::{ExpectedWorld, expected_world};
pub use process_group::{
    FailureCallback, MpiGroup, NcclGroup, NcclOptions, Pending, ProcessGroup, Solo, Traffic,
};
pub use reduce_op::ReduceOp;
pub use world::World;

//! The launcher's library: what trainer and launcher say to each other, and how ranks are started and watched.
//!
//! Links neither libtorch nor MPI, so `lift` runs on a login node.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod arguments;
pub mod limits;
pub mod protocol;
pub mod run;
pub mod slurm;
pub mod tail;
pub mod terminal;

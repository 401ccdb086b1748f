//! How ranks of LIFT training are started and watched: here, on hosts, and by Slurm.
//!
//! Links neither libtorch nor MPI, so `lift` runs on a login node.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod limits;
pub mod run;
pub mod slurm;
pub mod tail;

//! Starts and monitors the ranks of LIFT training: on this machine, on several hosts, or through Slurm.
//!
//! Links neither libtorch nor MPI, so `lift` runs on a login node.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod doctor;
pub mod limits;
pub mod run;
pub mod slurm;
pub mod tail;

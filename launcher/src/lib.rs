//! The launcher's library: what trainer and launcher say to each other, and how ranks are started here.
//!
//! Links neither libtorch nor MPI, so `lift` runs on a login node.

pub mod local;
pub mod protocol;

//! Compares the trainer with recorded results of the official code, in fp64 and fp32.
//!
//! All cases are in `LIFT_FIXTURES` (default `../shared/fixtures` beside the repository). The repository contains a
//! few of each kind in `tests/fixtures`, and a few with other sizes in `tests/fixtures/other-sizes`; every size comes
//! from the case. Every case that exists is compared. A folder without a case fails the test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backbone;
mod case;
mod checkpoint;
mod classifiers;
mod coverage;
mod crops;
mod fidelity;
mod image_starts;
mod init;
mod losses;
mod peft;
mod reference;
mod train;

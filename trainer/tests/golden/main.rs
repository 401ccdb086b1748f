//! Every golden case that the trainer's types cover, in fp64 and fp32.
//!
//! The cases lie in `LIFT_FIXTURES` (default `../shared/fixtures` beside the repository); a few of each kind
//! are kept in `tests/fixtures`, and in `tests/fixtures/other-sizes` with other sizes: every size comes from the case. A case that exists is compared; a folder without a case is a failure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backbone;
mod case;
mod checkpoint;
mod classifiers;
mod coverage;
mod crops;
mod image_starts;
mod init;
mod losses;
mod peft;
mod reference;
mod train;

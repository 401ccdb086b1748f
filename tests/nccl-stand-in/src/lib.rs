//! A stand-in for NCCL and for the CUDA runtime, on host memory: NOT NCCL, NOT for training.
//!
//! It exports the C functions that `nccl-rs` uses, so that the code that drives NCCL runs unchanged where there
//! is no GPU: `NCCL_RS_LIBRARY` and `NCCL_RS_CUDART` both name `libnccl_stand_in.so`. Ranks are real processes of
//! one machine, which exchange data over a file in shared memory; streams are threads that work off a queue, so
//! that calls are as asynchronous as on a GPU. "Device" pointers are host pointers.
//!
//! A figure measured with it says nothing about NCCL.
//!
//! # Faults
//! `NCCL_STAND_IN_FAULT=KIND[:RANK[:CALL]]` makes something go wrong on rank `RANK` of the first communicator
//! (all ranks without it), at its `CALL`th collective, counted from 1 (the first without it):
//!
//! | kind | what happens |
//! |---|---|
//! | `slow` | the call takes `NCCL_STAND_IN_SLOW_MS` (100) longer; every call if none is named |
//! | `hang` | the call is never done |
//! | `async_error` | from the call on `ncclCommGetAsyncError` answers an error, and the call is never done |
//! | `late_error` | the call is done, and `ncclCommGetAsyncError` answers an error a moment later |
//! | `abort_hang` | as `hang`, and `ncclCommAbort` does not return |
//! | `init_fail` | making a communicator fails |
//! | `init_hang` | making a communicator is never done |
//!
//! `NCCL_STAND_IN_SAME_GPU=1` gives all processes the same GPU.

mod board;
mod comm;
mod cuda;
mod exchange;
mod fault;
mod nccl;
mod reduce;
mod stream;

use std::ffi::c_int;

/// Tells programs what they output_arguments to.
#[unsafe(no_mangle)]
extern "C" fn nccl_stand_in() -> c_int {
    1
}

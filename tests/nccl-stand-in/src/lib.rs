//! A stand-in for NCCL and for the CUDA runtime, on host memory: NOT NCCL, NOT for training.
//!
//! It exports the C functions that `nccl-rs` uses, so that code for NCCL runs unchanged without a GPU: set
//! `NCCL_RS_LIBRARY` and `NCCL_RS_CUDART` to the path of `libnccl_stand_in.so`. The ranks are processes on one machine
//! that exchange data through a shared-memory file. Streams are threads with a queue, so calls are asynchronous as on a
//! GPU. "Device" pointers are host pointers.
//!
//! Measurements with it say nothing about NCCL.
//!
//! # Faults
//! `NCCL_STAND_IN_FAULT=KIND[:RANK[:CALL]]` injects a fault on rank `RANK` of the first communicator (default: all
//! ranks), at its collective number `CALL`, counted from 1 (default: the first):
//!
//! | kind | effect |
//! |---|---|
//! | `slow` | the call takes `NCCL_STAND_IN_SLOW_MS` (100) longer; without `CALL`, every call |
//! | `hang` | the call never ends |
//! | `async_error` | `ncclCommGetAsyncError` returns an error from this call on, and the call never ends |
//! | `late_error` | the call ends, and `ncclCommGetAsyncError` returns an error one second after its start |
//! | `abort_hang` | like `hang`, and `ncclCommAbort` does not return |
//! | `init_fail` | the creation of a communicator fails |
//! | `init_hang` | the creation of a communicator never ends |
//!
//! With `NCCL_STAND_IN_SAME_GPU=1`, all processes have the same GPU.

mod board;
mod comm;
mod cuda;
mod exchange;
mod fault;
mod nccl;
mod reduce;
mod stream;

use std::ffi::c_int;

/// Identifies the stand-in: NCCL does not export this symbol.
#[unsafe(no_mangle)]
extern "C" fn nccl_stand_in() -> c_int {
    1
}

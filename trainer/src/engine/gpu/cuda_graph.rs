//! CUDA graphs: work of a GPU that is recorded once and started again with one call, through the shim in
//! `shim/cuda_graph.cpp`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a message of libtorch, as far as it is reported.
const MESSAGE: usize = 1024;

unsafe extern "C" {
    fn trainer_new_graph(graph: *mut *mut c_void, message: *mut c_char, length: usize) -> c_int;
    fn trainer_begin_capture(
        index: c_int,
        graph: *mut c_void,
        beside: *mut c_void,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
    fn trainer_end_capture(graph: *mut c_void, message: *mut c_char, length: usize) -> c_int;
    fn trainer_replay_graph(graph: *mut c_void, message: *mut c_char, length: usize) -> c_int;
    fn trainer_free_graph(graph: *mut c_void);
}

/// Whether a capture is under way.
static CAPTURING: AtomicBool = AtomicBool::new(false);

/// Whether a capture is under way, so that a failing operation may be one that a graph cannot contain.
pub fn is_capturing() -> bool {
    CAPTURING.load(Ordering::Relaxed)
}

/// Why libtorch makes no CUDA graphs; the first line of its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libtorch refuses a CUDA graph: {0}")]
pub struct CudaGraphError(String);

/// A captured graph.
#[derive(Debug)]
pub(in crate::engine) struct CudaGraph(*mut c_void);

impl CudaGraph {
    /// Records what `work` puts into the stream of this thread, and does nothing of it: the numbers of its results are
    /// undefined. Synchronises host and device before.
    ///
    /// What `work` allocates belongs to the graph, and it must not keep any of it. What it reads or writes otherwise must live as
    /// long as the graph. A graph shares its memory with `beside`, which therefore never runs at the same time.
    pub(in crate::engine) fn capture<E>(
        index: usize,
        beside: Option<&Self>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<Self, E>, CudaGraphError> {
        let graph = Self::empty()?;
        let beside = beside.map_or(ptr::null_mut(), |beside| beside.0);
        // SAFETY: both graphs are alive, or the second one is null; the shim catches every exception.
        said(|text, length| unsafe { trainer_begin_capture(index as c_int, graph.0, beside, text, length) })?;
        CAPTURING.store(true, Ordering::Relaxed);
        // A panic of the main thread ends the process, so a capture is not ended after one.
        let done = work();
        CAPTURING.store(false, Ordering::Relaxed);
        // SAFETY: as above; this thread began the capture.
        said(|text, length| unsafe { trainer_end_capture(graph.0, text, length) })?;
        Ok(done.map(|()| graph))
    }

    /// Puts the recorded work into the current stream of this thread.
    pub(in crate::engine) fn replay(&self) -> Result<(), CudaGraphError> {
        // SAFETY: the graph is alive and captured; the shim catches every exception.
        said(|text, length| unsafe { trainer_replay_graph(self.0, text, length) })
    }

    /// Whether libtorch has what a capture needs.
    pub(in crate::engine) fn check() -> Result<(), CudaGraphError> {
        Self::empty().map(drop)
    }

    fn empty() -> Result<Self, CudaGraphError> {
        let mut graph = ptr::null_mut();
        // SAFETY: the shim writes one pointer and catches every exception.
        said(|text, length| unsafe { trainer_new_graph(&raw mut graph, text, length) })?;
        Ok(Self(graph))
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the graph came from the shim and is freed once. Work of it that a GPU still does is finished there.
        unsafe { trainer_free_graph(self.0) }
    }
}

/// Runs a call that reports like those of the shim.
fn said(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), CudaGraphError> {
    let mut message: [c_char; MESSAGE] = [0; MESSAGE];
    if call(message.as_mut_ptr(), MESSAGE) == 0 {
        return Ok(());
    }
    // SAFETY: the shim ends every message with a zero byte within the length.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy();
    // The following lines are frames of C++.
    Err(CudaGraphError(text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_cuda_part_of_libtorch_there_are_no_graphs() {
        if tch::utils::has_cuda() {
            println!("skipped: without_the_cuda_part_of_libtorch_there_are_no_graphs (there is one)");
            return;
        }
        let expected = "libtorch refuses a CUDA graph: libtorch has no _ZN2at4cuda9CUDAGraphC1Eb";
        assert_eq!(CudaGraph::check().unwrap_err().to_string(), expected);
        let captured = CudaGraph::capture(0, None, || Ok::<(), ()>(()));
        assert_eq!(captured.unwrap_err().to_string(), expected);
        assert!(!is_capturing());
    }
}

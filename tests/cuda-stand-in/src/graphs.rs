//! `at::cuda::CUDAGraph` under the names that libtorch exports. The work is done in `cpp/capture.cpp`, whose exceptions pass
//! through here to the caller.

use std::ffi::{c_char, c_int, c_void};

/// A pool of memory, in C++ a pair.
#[repr(C)]
pub struct PoolId {
    first: u64,
    second: u64,
}

unsafe extern "C-unwind" {
    fn stand_in_graph_construct(object: *mut c_void);
    fn stand_in_graph_destroy(object: *mut c_void);
    fn stand_in_graph_reset(object: *mut c_void);
    fn stand_in_graph_capture_begin(object: *mut c_void, pool: PoolId, mode: c_int);
    fn stand_in_graph_capture_end(object: *mut c_void);
    fn stand_in_graph_replay(object: *mut c_void);
    fn stand_in_graph_pool(object: *mut c_void) -> PoolId;
    fn stand_in_graph_act(object: *mut c_void, action: c_int) -> *const c_char;
}

/// Exports a function under another name.
macro_rules! exported {
    ($($symbol:literal: $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)? as $calls:ident($($passed:ident),*);)*) => {$(
        #[unsafe(export_name = $symbol)]
        unsafe extern "C-unwind" fn $name($($argument: $kind),*) $(-> $result)? {
            // SAFETY: the caller passes an object of the class, as in C++.
            unsafe { $calls($($passed),*) }
        }
    )*};
}

exported! {
    "_ZN2at4cuda9CUDAGraphC1Eb": construct(object: *mut c_void, _keep_graph: bool) as stand_in_graph_construct(object);
    "_ZN2at4cuda9CUDAGraphD1Ev": destroy(object: *mut c_void) as stand_in_graph_destroy(object);
    "_ZN2at4cuda9CUDAGraph5resetEv": reset(object: *mut c_void) as stand_in_graph_reset(object);
    "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode":
        capture_begin(object: *mut c_void, pool: PoolId, mode: c_int) as stand_in_graph_capture_begin(object, pool, mode);
    "_ZN2at4cuda9CUDAGraph11capture_endEv": capture_end(object: *mut c_void) as stand_in_graph_capture_end(object);
    "_ZN2at4cuda9CUDAGraph6replayEv": replay(object: *mut c_void) as stand_in_graph_replay(object);
    "_ZN2at4cuda9CUDAGraph4poolEv": pool(object: *mut c_void) -> PoolId as stand_in_graph_pool(object);
    "cuda_stand_in_graph": act(object: *mut c_void, action: c_int) -> *const c_char as stand_in_graph_act(object, action);
}

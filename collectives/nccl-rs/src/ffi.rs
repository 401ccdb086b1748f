//! The parts of the C interfaces of NCCL and CUDA that this crate uses: signatures, constants, function tables.
//!
//! Checked against the headers of NCCL 2.28 and CUDA 13; nothing used here has changed since NCCL 2.14.

use crate::error::Error;
use crate::search::LoadedLibrary;
use std::ffi::{c_char, c_int, c_uint, c_void};

pub(crate) const NCCL_SUCCESS: c_int = 0;
pub(crate) const NCCL_IN_PROGRESS: c_int = 7;
pub(crate) const CUDA_SUCCESS: c_int = 0;
pub(crate) const CUDA_NOT_READY: c_int = 600;
/// `cudaStreamNonBlocking`: not ordered with the legacy default stream.
pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
/// `cudaEventBlockingSync | cudaEventDisableTiming`: waiters sleep, and recording is cheap.
pub(crate) const EVENT_FLAGS: c_uint = 1 | 2;

/// `ncclUniqueId`: passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RawUniqueId(pub(crate) [u8; 128]);

/// `ncclConfig_t` of NCCL 2.14, its first version. The struct contains its own size and version, and newer libraries
/// treat missing fields as undefined, so this version works with all of them.
#[repr(C)]
pub(crate) struct RawConfig {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    /// Padding in 2.14, `cgaClusterSize` in newer versions: undefined.
    undefined: c_int,
}

impl RawConfig {
    /// Calls return at once, and their state is polled.
    pub(crate) fn non_blocking() -> Self {
        let size = size_of::<Self>();
        Self { size, magic: 0xcafe_beef, version: 21_400, blocking: 0, undefined: c_int::MIN }
    }
}

pub(crate) type RawComm = *mut c_void;
pub(crate) type RawStream = *mut c_void;
pub(crate) type RawEvent = *mut c_void;

macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($field:ident = $symbol:literal ($($argument:ty),*) -> $result:ty;)* }) => {
        $(#[$doc])*
        pub(crate) struct $table {
            pub(crate) opened: LoadedLibrary,
            $(pub(crate) $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            /// Looks up every function, or returns an error with the name of a missing one.
            pub(crate) fn load(opened: LoadedLibrary) -> Result<Self, Error> {
                Ok(Self {
                    $($field: opened
                        .symbol::<unsafe extern "C" fn($($argument),*) -> $result>($symbol)
                        .ok_or_else(|| missing(&opened, $symbol))?,)*
                    opened,
                })
            }
        }
    };
}

fn missing(opened: &LoadedLibrary, symbol: &'static str) -> Error {
    Error::Symbol { library: opened.path.display().to_string(), symbol }
}

table! {
    /// NCCL's functions.
    Nccl {
        version = "ncclGetVersion" (*mut c_int) -> c_int;
        unique_id = "ncclGetUniqueId" (*mut RawUniqueId) -> c_int;
        init_rank_config = "ncclCommInitRankConfig" (*mut RawComm, c_int, RawUniqueId, c_int, *mut RawConfig) -> c_int;
        finalize = "ncclCommFinalize" (RawComm) -> c_int;
        destroy = "ncclCommDestroy" (RawComm) -> c_int;
        abort = "ncclCommAbort" (RawComm) -> c_int;
        async_error = "ncclCommGetAsyncError" (RawComm, *mut c_int) -> c_int;
        error_string = "ncclGetErrorString" (c_int) -> *const c_char;
        last_error = "ncclGetLastError" (RawComm) -> *const c_char;
        all_reduce = "ncclAllReduce"
            (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
        all_gather = "ncclAllGather" (*const c_void, *mut c_void, usize, c_int, RawComm, RawStream) -> c_int;
        reduce_scatter = "ncclReduceScatter"
            (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
        broadcast = "ncclBroadcast"
            (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
    }
}

/// `ncclCommSplit`, which exists since NCCL 2.18.
pub(crate) type CommSplit =
    unsafe extern "C" fn(RawComm, c_int, c_int, *mut RawComm, *mut RawConfig) -> c_int;

table! {
    /// The CUDA runtime's functions.
    Cuda {
        get_device = "cudaGetDevice" (*mut c_int) -> c_int;
        set_device = "cudaSetDevice" (c_int) -> c_int;
        pci_bus_id = "cudaDeviceGetPCIBusId" (*mut c_char, c_int, c_int) -> c_int;
        stream_create = "cudaStreamCreateWithFlags" (*mut RawStream, c_uint) -> c_int;
        stream_destroy = "cudaStreamDestroy" (RawStream) -> c_int;
        stream_synchronize = "cudaStreamSynchronize" (RawStream) -> c_int;
        stream_wait_event = "cudaStreamWaitEvent" (RawStream, RawEvent, c_uint) -> c_int;
        event_create = "cudaEventCreateWithFlags" (*mut RawEvent, c_uint) -> c_int;
        event_record = "cudaEventRecord" (RawEvent, RawStream) -> c_int;
        event_query = "cudaEventQuery" (RawEvent) -> c_int;
        event_synchronize = "cudaEventSynchronize" (RawEvent) -> c_int;
        event_destroy = "cudaEventDestroy" (RawEvent) -> c_int;
        error_string = "cudaGetErrorString" (c_int) -> *const c_char;
    }
}

/// `cuDeviceGet` of the driver.
pub(crate) type DriverDevice = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
/// `cuDeviceGetUuid` of the driver.
pub(crate) type DriverUuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int;

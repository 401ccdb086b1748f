//! The functions of the CUDA runtime and driver, with one device.
//!
//! CUDA gives a thread device 0 and creates a context there at its first call, also for a rank of another device. The
//! stand-in refuses this: a thread must call `cudaSetDevice` before it uses streams and events.

use crate::stream::{StandInEvent, StandInStream};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const INSUFFICIENT_DRIVER: c_int = 35;
const INVALID_DEVICE: c_int = 101;
const UNSET_DEVICE: c_int = 201;
const NOT_READY: c_int = 600;

/// CUDA 13.0.
const RUNTIME: c_int = 13_000;

thread_local! {
    /// Whether this thread has set its device.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// The newest version that the driver supports; 0 without a driver.
fn driver() -> c_int {
    let version = std::env::var("NCCL_STAND_IN_DRIVER").ok();
    version.and_then(|version| version.parse().ok()).unwrap_or(RUNTIME)
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1")
}

/// Runs a call of a thread that has set its device.
fn on_device(call: impl FnOnce() -> c_int) -> c_int {
    if IS_SET.get() { call() } else { UNSET_DEVICE }
}

/// The stream of a handle; null is the default stream.
///
/// # Safety
/// `stream` must be null, or come from `cudaStreamCreateWithFlags` and not be destroyed.
pub(crate) unsafe fn stream<'a>(stream: *mut StandInStream) -> &'a StandInStream {
    // SAFETY: guaranteed by the caller.
    unsafe { stream.as_ref() }.unwrap_or_else(|| StandInStream::default_stream())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaRuntimeGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { version.write(RUNTIME) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { version.write(driver()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaGetDeviceCount(count: *mut c_int) -> c_int {
    let (devices, code) = if driver() < RUNTIME { (0, INSUFFICIENT_DRIVER) } else { (1, SUCCESS) };
    // SAFETY: the program passes a pointer to one integer.
    unsafe { count.write(devices) };
    code
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaGetDevice(device: *mut c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { device.write(0) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudaSetDevice(device: c_int) -> c_int {
    IS_SET.set(device == 0);
    if device == 0 { SUCCESS } else { INVALID_DEVICE }
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetLastError() -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetErrorName(code: c_int) -> *const c_char {
    match code {
        SUCCESS => c"cudaSuccess",
        INVALID_VALUE => c"cudaErrorInvalidValue",
        INSUFFICIENT_DRIVER => c"cudaErrorInsufficientDriver",
        INVALID_DEVICE => c"cudaErrorInvalidDevice",
        UNSET_DEVICE => c"cudaErrorDeviceUninitialized",
        NOT_READY => c"cudaErrorNotReady",
        _ => c"cudaErrorUnknown",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetErrorString(code: c_int) -> *const c_char {
    match code {
        SUCCESS => c"no error",
        INSUFFICIENT_DRIVER => c"CUDA driver version is insufficient for CUDA runtime version",
        UNSET_DEVICE => c"this thread has not set its device",
        INVALID_DEVICE => c"invalid device ordinal (the stand-in has device 0 only)",
        NOT_READY => c"device not ready",
        _ => c"invalid argument",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaDeviceGetPCIBusId(text: *mut c_char, length: c_int, device: c_int) -> c_int {
    let gpu =
        if is_set("NCCL_STAND_IN_SAME_GPU") || is_set("NCCL_STAND_IN_MIG") { 0 } else { std::process::id() };
    let address = format!("{:04x}:00:00.0", gpu & 0xffff);
    if device != 0 || (length as usize) <= address.len() {
        return INVALID_VALUE;
    }
    // SAFETY: the program passes a buffer of `length` bytes.
    unsafe {
        text.copy_from_nonoverlapping(address.as_ptr().cast(), address.len());
        text.add(address.len()).write(0);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { device.write(ordinal) };
    if ordinal == 0 { SUCCESS } else { INVALID_DEVICE }
}

/// A UUID for this process, or for all of them.
fn uuid(is_shared: bool) -> [u8; 16] {
    if is_shared { [0; 16] } else { u128::from(std::process::id()).to_be_bytes() }
}

/// The UUID of the GPU, even if the device is a slice of it.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(uuid_of_gpu: *mut [u8; 16], _device: c_int) -> c_int {
    let is_shared = is_set("NCCL_STAND_IN_SAME_GPU") || is_set("NCCL_STAND_IN_MIG");
    // SAFETY: the program passes a buffer of 16 bytes.
    unsafe { uuid_of_gpu.write(uuid(is_shared)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid_v2(uuid_of_device: *mut [u8; 16], _device: c_int) -> c_int {
    let mut own = uuid(is_set("NCCL_STAND_IN_SAME_GPU"));
    if is_set("NCCL_STAND_IN_MIG") {
        own[0] = 1;
    }
    // SAFETY: the program passes a buffer of 16 bytes.
    unsafe { uuid_of_device.write(own) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamCreateWithFlags(stream: *mut *mut StandInStream, _flags: c_uint) -> c_int {
    on_device(|| {
        // SAFETY: the program passes a pointer to one handle.
        unsafe { stream.write(Box::into_raw(Box::new(StandInStream::new()))) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamDestroy(stream: *mut StandInStream) -> c_int {
    if stream.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: the pointer comes from Box::into_raw and is destroyed once.
    drop(unsafe { Box::from_raw(stream) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamSynchronize(handle: *mut StandInStream) -> c_int {
    on_device(|| {
        // SAFETY: the program's handle is alive.
        unsafe { stream(handle) }.synchronize();
        SUCCESS
    })
}

/// Waits for the default stream on any thread, for the stand-in for CUDA: a GPU orders work in a stream without the thread that
/// queues it, and threads of libtorch that compute set their device themselves.
#[unsafe(no_mangle)]
extern "C" fn nccl_stand_in_catch_up() {
    // SAFETY: null is the default stream, which always exists.
    unsafe { stream(std::ptr::null_mut()) }.synchronize();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamWaitEvent(
    handle: *mut StandInStream,
    event: *const StandInEvent,
    _flags: c_uint,
) -> c_int {
    on_device(|| {
        // SAFETY: the program's handles are alive.
        unsafe { (*event).make_wait(stream(handle)) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventCreateWithFlags(event: *mut *mut StandInEvent, _flags: c_uint) -> c_int {
    on_device(|| {
        // SAFETY: the program passes a pointer to one handle.
        unsafe { event.write(Box::into_raw(Box::default())) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventRecord(event: *const StandInEvent, handle: *mut StandInStream) -> c_int {
    on_device(|| {
        // SAFETY: the program's handles are alive.
        unsafe { (*event).record(stream(handle)) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventQuery(event: *const StandInEvent) -> c_int {
    on_device(|| {
        // SAFETY: the program's handle is alive.
        if unsafe { (*event).is_done() } { SUCCESS } else { NOT_READY }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventSynchronize(event: *const StandInEvent) -> c_int {
    on_device(|| {
        // SAFETY: the program's handle is alive.
        let event = unsafe { &*event };
        event.wait(event.recorded());
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventDestroy(event: *mut StandInEvent) -> c_int {
    // SAFETY: the pointer comes from Box::into_raw and is destroyed once; queued records hold a clone.
    drop(unsafe { Box::from_raw(event) });
    SUCCESS
}

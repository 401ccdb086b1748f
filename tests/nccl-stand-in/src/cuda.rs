//! The functions of the CUDA runtime and driver, with one device.

use crate::stream::{StandInEvent, StandInStream};
use std::ffi::{c_char, c_int, c_uint};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const INVALID_DEVICE: c_int = 101;
const NOT_READY: c_int = 600;

/// The stream of a handle; null is the default stream.
///
/// # Safety
/// `stream` must be null, or come from `cudaStreamCreateWithFlags` and not be destroyed.
pub(crate) unsafe fn stream<'a>(stream: *mut StandInStream) -> &'a StandInStream {
    // SAFETY: guaranteed by the caller.
    unsafe { stream.as_ref() }.unwrap_or_else(|| StandInStream::default_stream())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaGetDevice(device: *mut c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { device.write(0) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudaSetDevice(device: c_int) -> c_int {
    if device == 0 { SUCCESS } else { INVALID_DEVICE }
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetErrorString(code: c_int) -> *const c_char {
    match code {
        SUCCESS => c"no error",
        INVALID_DEVICE => c"invalid device ordinal (the stand-in has device 0 only)",
        NOT_READY => c"device not ready",
        _ => c"invalid argument",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaDeviceGetPCIBusId(text: *mut c_char, length: c_int, device: c_int) -> c_int {
    let address = format!("{:04x}:00:00.0", std::process::id() & 0xffff);
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
    cudaSetDevice(ordinal)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], _device: c_int) -> c_int {
    let same = std::env::var("NCCL_STAND_IN_SAME_GPU").is_ok_and(|value| value == "1");
    let process = if same { 0 } else { u128::from(std::process::id()) };
    // SAFETY: the program passes a buffer of 16 bytes.
    unsafe { uuid.write(process.to_be_bytes()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamCreateWithFlags(stream: *mut *mut StandInStream, _flags: c_uint) -> c_int {
    // SAFETY: the program passes a pointer to one handle.
    unsafe { stream.write(Box::into_raw(Box::new(StandInStream::new()))) };
    SUCCESS
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
    // SAFETY: the program's handle is alive.
    unsafe { stream(handle) }.synchronize();
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaStreamWaitEvent(
    handle: *mut StandInStream,
    event: *const StandInEvent,
    _flags: c_uint,
) -> c_int {
    // SAFETY: the program's handles are alive.
    unsafe { (*event).make_wait(stream(handle)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventCreateWithFlags(event: *mut *mut StandInEvent, _flags: c_uint) -> c_int {
    // SAFETY: the program passes a pointer to one handle.
    unsafe { event.write(Box::into_raw(Box::default())) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventRecord(event: *const StandInEvent, handle: *mut StandInStream) -> c_int {
    // SAFETY: the program's handles are alive.
    unsafe { (*event).record(stream(handle)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventQuery(event: *const StandInEvent) -> c_int {
    // SAFETY: the program's handle is alive.
    if unsafe { (*event).is_done() } { SUCCESS } else { NOT_READY }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventSynchronize(event: *const StandInEvent) -> c_int {
    // SAFETY: the program's handle is alive.
    let event = unsafe { &*event };
    event.wait(event.recorded());
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudaEventDestroy(event: *mut StandInEvent) -> c_int {
    // SAFETY: the pointer comes from Box::into_raw and is destroyed once; queued records hold a clone.
    drop(unsafe { Box::from_raw(event) });
    SUCCESS
}

//! The calls of the CUDA runtime that NCCL needs: device, streams, events.

use crate::error::Error;
use crate::ffi::{self, CUDA_NOT_READY, CUDA_SUCCESS, Cuda};
use crate::library::read_text;
use crate::search::{self, LibraryRequest, SearchEnvironment};
use std::ffi::{c_char, c_int, c_void};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

const RUNTIME: LibraryRequest = LibraryRequest {
    library: "the CUDA runtime",
    variable: "NCCL_RS_CUDART",
    names: &["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"],
    wheels: &["cu13", "cu12", "cuda_runtime"],
    remedy: "install the CUDA toolkit (or the wheel nvidia-cuda-runtime)",
};

const DRIVER: LibraryRequest = LibraryRequest {
    library: "the CUDA driver",
    variable: "NCCL_RS_CUDA_DRIVER",
    names: &["libcuda.so.1"],
    wheels: &[],
    remedy: "install NVIDIA's driver",
};

/// The loaded CUDA runtime. Clones share it; it is never unloaded.
#[derive(Clone)]
pub struct CudaRuntime(Arc<Cuda>);

impl CudaRuntime {
    /// Finds and loads the CUDA runtime, in the search order of [`Library::open`](crate::Library::open), with the
    /// variable `NCCL_RS_CUDART`. A runtime that the process has already loaded is preferred.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Arc::new(Cuda::load(search::open(RUNTIME, &SearchEnvironment::present())?)?)))
    }

    /// The path of the library, or the name under which the loader found it.
    pub fn path(&self) -> &Path {
        &self.0.opened.path
    }

    /// The device of the calling thread.
    pub fn device(&self) -> Result<i32, Error> {
        let mut device: c_int = 0;
        // SAFETY: the call writes one integer.
        self.0.check("cudaGetDevice", unsafe { (self.0.get_device)(&raw mut device) })?;
        Ok(device)
    }

    /// Sets the device of the calling thread, for new streams, events and communicators.
    pub fn set_device(&self, device: i32) -> Result<(), Error> {
        // SAFETY: the call takes an integer and returns an error for an invalid one.
        self.0.check("cudaSetDevice", unsafe { (self.0.set_device)(device) })
    }

    /// A unique name of the device: `GPU-` and its UUID, as `nvidia-smi` shows it. Without a UUID from the driver it
    /// is the PCI address, which is unique only on one host.
    pub fn device_name(&self, device: i32) -> Result<String, Error> {
        if let Some(uuid) = self.uuid(device) {
            return Ok(uuid);
        }
        let mut text = [0u8; 64];
        let length = text.len() as c_int;
        // SAFETY: the call writes at most `length` bytes, the last one zero.
        let code = unsafe { (self.0.pci_bus_id)(text.as_mut_ptr().cast::<c_char>(), length, device) };
        self.0.check("cudaDeviceGetPCIBusId", code)?;
        // SAFETY: the text is null-terminated, because the buffer is longer than it.
        Ok(format!("PCI {}", unsafe { read_text(text.as_ptr().cast()) }))
    }

    /// The UUID from the driver, or from the runtime library if it exports the functions of the driver too.
    fn uuid(&self, device: i32) -> Option<String> {
        let driver = search::open(DRIVER, &SearchEnvironment::present());
        let mut libraries = std::iter::once(&self.0.opened).chain(driver.as_ref().ok());
        let (get, uuid) = libraries.find_map(|library| {
            let get: ffi::DriverDevice = library.symbol("cuDeviceGet")?;
            let uuid: ffi::DriverUuid = library.symbol("cuDeviceGetUuid")?;
            Some((get, uuid))
        })?;
        let (mut handle, mut bytes) = (0, [0u8; 16]);
        // SAFETY: both calls write one value of the given type, or nothing after an error.
        let codes = unsafe { [get(&raw mut handle, device), uuid(&raw mut bytes, handle)] };
        (codes == [CUDA_SUCCESS; 2]).then(|| format_uuid(bytes))
    }

    /// A new stream on the calling thread's device, not ordered with the default stream.
    pub fn stream(&self) -> Result<CudaStream, Error> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the call writes one handle.
        let code = unsafe { (self.0.stream_create)(&raw mut raw, ffi::STREAM_NON_BLOCKING) };
        self.0.check("cudaStreamCreateWithFlags", code)?;
        Ok(CudaStream { cuda: self.0.clone(), raw, owned: true })
    }

    /// A new event on the calling thread's device.
    pub fn event(&self) -> Result<CudaEvent, Error> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the call writes one handle.
        let code = unsafe { (self.0.event_create)(&raw mut raw, ffi::EVENT_FLAGS) };
        self.0.check("cudaEventCreateWithFlags", code)?;
        Ok(CudaEvent { cuda: self.0.clone(), raw })
    }

    /// Whether the library exports `symbol`.
    pub fn has_symbol(&self, symbol: &str) -> bool {
        self.0.opened.symbol::<*const c_void>(symbol).is_some()
    }
}

fn format_uuid(bytes: [u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (index, byte) in bytes.iter().enumerate() {
        if [0, 4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Cuda {
    fn check(&self, call: &'static str, code: c_int) -> Result<(), Error> {
        if code == CUDA_SUCCESS {
            return Ok(());
        }
        // SAFETY: the call returns null or a text that stays valid.
        let message = unsafe { read_text((self.error_string)(code)) };
        Err(Error::Cuda { call, code, message })
    }
}

/// A CUDA stream: a queue of work that a device runs in order.
pub struct CudaStream {
    cuda: Arc<Cuda>,
    raw: ffi::RawStream,
    owned: bool,
}

// SAFETY: several threads may use a CUDA stream concurrently.
unsafe impl Send for CudaStream {}
// SAFETY: as above.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// Wraps a stream that is not destroyed when this value is dropped.
    ///
    /// # Safety
    /// `raw` must be a `cudaStream_t` that outlives the returned value (null is the default stream).
    pub unsafe fn borrowed(runtime: &CudaRuntime, raw: *mut c_void) -> Self {
        Self { cuda: runtime.0.clone(), raw, owned: false }
    }

    /// `cudaStream_t`.
    pub fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// Makes later work of the stream wait for `event`.
    pub fn wait(&self, event: &CudaEvent) -> Result<(), Error> {
        // SAFETY: both handles are alive.
        let code = unsafe { (self.cuda.stream_wait_event)(self.raw, event.raw, 0) };
        self.cuda.check("cudaStreamWaitEvent", code)
    }

    /// Blocks the calling thread until the stream is empty.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the handle is alive.
        self.cuda.check("cudaStreamSynchronize", unsafe { (self.cuda.stream_synchronize)(self.raw) })
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: the runtime created the stream, and no other value uses it. CUDA completes the queued work.
            unsafe { (self.cuda.stream_destroy)(self.raw) };
        }
    }
}

/// A CUDA event: a point in a stream.
pub struct CudaEvent {
    cuda: Arc<Cuda>,
    raw: ffi::RawEvent,
}

// SAFETY: several threads may use a CUDA event concurrently.
unsafe impl Send for CudaEvent {}
// SAFETY: as above.
unsafe impl Sync for CudaEvent {}

impl CudaEvent {
    /// Records the current end of `stream`, which replaces an earlier record.
    pub fn record(&self, stream: &CudaStream) -> Result<(), Error> {
        // SAFETY: both handles are alive.
        self.cuda.check("cudaEventRecord", unsafe { (self.cuda.event_record)(self.raw, stream.raw) })
    }

    /// Whether all work before the event is done; also true if the event was never recorded.
    pub fn is_done(&self) -> Result<bool, Error> {
        // SAFETY: the handle is alive.
        match unsafe { (self.cuda.event_query)(self.raw) } {
            CUDA_NOT_READY => Ok(false),
            code => self.cuda.check("cudaEventQuery", code).map(|()| true),
        }
    }

    /// Blocks the calling thread until all work before the event is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the handle is alive.
        self.cuda.check("cudaEventSynchronize", unsafe { (self.cuda.event_synchronize)(self.raw) })
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        // SAFETY: the runtime created the event, and no other value uses it; a pending record is discarded.
        unsafe { (self.cuda.event_destroy)(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_format_of_nvidia_smi() {
        let bytes = std::array::from_fn(|index| index as u8);
        assert_eq!(format_uuid(bytes), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}

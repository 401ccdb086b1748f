//! A GPU as the driver knows it, and libtorch's stream on it.

use super::error::CompiledError;
use super::libraries::{Driver, RawContext, RawStream, driver};
use collectives::gpu::current_stream;
use std::ffi::c_int;
use std::fmt;

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];

/// A GPU with its primary context, which libtorch uses too.
#[derive(Clone, Copy)]
pub struct Gpu {
    pub(super) driver: &'static Driver,
    context: RawContext,
    index: usize,
    capability: [i32; 2],
}

impl Gpu {
    /// The GPU with this number among those that the process sees.
    pub fn open(index: usize) -> Result<Self, CompiledError> {
        let driver = driver()?;
        let mut device = 0;
        // SAFETY: the call writes one number, and returns an error for a number without GPU.
        driver.check("cuDeviceGet", unsafe { (driver.device)(&raw mut device, index as c_int) })?;
        let mut capability = [0; 2];
        for (attribute, value) in CAPABILITY.into_iter().zip(&mut capability) {
            // SAFETY: the call writes one number.
            let code = unsafe { (driver.attribute)(value, attribute, device) };
            driver.check("cuDeviceGetAttribute", code)?;
        }
        let mut context = std::ptr::null_mut();
        // SAFETY: the call writes one handle. The context is never released: it lives as long as libtorch's, the process.
        let code = unsafe { (driver.retain_context)(&raw mut context, device) };
        driver.check("cuDevicePrimaryCtxRetain", code)?;
        Ok(Self { driver, context, index, capability })
    }

    /// Its architecture in the words of NVRTC, e.g. `sm_90`.
    pub fn architecture(&self) -> String {
        let [major, minor] = self.capability;
        format!("sm_{major}{minor}")
    }

    /// Makes it the calling thread's GPU. The runtime, and with it libtorch, takes over this context.
    pub(super) fn enter(&self) -> Result<(), CompiledError> {
        // SAFETY: the context is alive.
        self.driver.check("cuCtxSetCurrent", unsafe { (self.driver.set_context)(self.context) })
    }

    /// The stream in which libtorch queues the work of the calling thread.
    pub(super) fn stream(&self) -> Result<RawStream, CompiledError> {
        current_stream(self.index).map_err(|_| CompiledError::Stream { index: self.index })
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.library.path().display();
        write!(f, "Gpu({}, {}, {driver})", self.index, self.architecture())
    }
}

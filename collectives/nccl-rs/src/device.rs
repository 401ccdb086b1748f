//! The devices that the CUDA runtime shows to this process: how many, which, and by which versions.

use crate::error::Error;
use crate::ffi::{self, CUDA_SUCCESS};
use crate::library::read_text;
use crate::runtime::CudaRuntime;
use crate::search::{self, LibraryRequest, LoadedLibrary, SearchEnvironment};
use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};

const DRIVER: LibraryRequest = LibraryRequest {
    library: "the CUDA driver",
    variable: "NCCL_RS_CUDA_DRIVER",
    names: &["libcuda.so.1"],
    wheels: &[],
    remedy: "install NVIDIA's driver",
};

/// A version of CUDA, e.g. 13.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl CudaVersion {
    /// From CUDA's single number: `12040` is 12.4.
    const fn from_code(code: c_int) -> Self {
        let code = code as u32;
        Self { major: code / 1000, minor: code % 1000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What tells a device from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// As `nvidia-smi -L` shows it: `GPU-` and a UUID, or `MIG-` and a UUID for a slice of a GPU. Where the driver gives no
    /// UUID, `PCI` and the address.
    pub name: String,
    /// PCI address, which is unique on one host only. All MIG slices of a GPU have the same.
    pub address: String,
}

impl CudaRuntime {
    /// Version of the runtime.
    pub fn version(&self) -> Result<CudaVersion, Error> {
        let mut code: c_int = 0;
        // SAFETY: the call writes one integer.
        let answer = unsafe { (self.functions().runtime_version)(&raw mut code) };
        self.functions().check("cudaRuntimeGetVersion", answer)?;
        Ok(CudaVersion::from_code(code))
    }

    /// The newest version that the driver supports; `None` without a driver.
    pub fn driver_version(&self) -> Result<Option<CudaVersion>, Error> {
        let mut code: c_int = 0;
        // SAFETY: the call writes one integer.
        let answer = unsafe { (self.functions().driver_version)(&raw mut code) };
        self.functions().check("cudaDriverGetVersion", answer)?;
        Ok((code > 0).then(|| CudaVersion::from_code(code)))
    }

    /// Number of devices. The error says why there is none: no driver, one that is too old, no GPU, and so on.
    pub fn device_count(&self) -> Result<usize, Error> {
        let mut count: c_int = 0;
        // SAFETY: the call writes one integer.
        let code = unsafe { (self.functions().device_count)(&raw mut count) };
        if code != CUDA_SUCCESS {
            // CUDA remembers the error; the next user of the runtime must not take it for its own.
            // SAFETY: takes no arguments.
            unsafe { (self.functions().last_error)() };
        }
        self.functions().check("cudaGetDeviceCount", code)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// The device's name and address.
    pub fn identity(&self, device: i32) -> Result<DeviceIdentity, Error> {
        let address = self.pci_address(device)?;
        let name = self.uuid(device).unwrap_or_else(|| format!("PCI {address}"));
        Ok(DeviceIdentity { name, address })
    }

    fn pci_address(&self, device: i32) -> Result<String, Error> {
        let mut text = [0u8; 64];
        let length = text.len() as c_int;
        let functions = self.functions();
        // SAFETY: the call writes at most `length` bytes, the last one zero.
        let code = unsafe { (functions.pci_bus_id)(text.as_mut_ptr().cast::<c_char>(), length, device) };
        functions.check("cudaDeviceGetPCIBusId", code)?;
        // SAFETY: the buffer is longer than what was written, so that it ends with a zero byte.
        Ok(unsafe { read_text(text.as_ptr().cast()) })
    }

    /// The UUID by the driver, or by the runtime where that has the driver's functions too.
    fn uuid(&self, device: i32) -> Option<String> {
        let driver = search::open(DRIVER, &SearchEnvironment::present());
        let mut libraries = std::iter::once(&self.functions().opened).chain(driver.as_ref().ok());
        let library =
            libraries.find(|library| library.symbol::<ffi::DriverDevice>("cuDeviceGet").is_some())?;
        let gpu = driver_uuid(library, "cuDeviceGetUuid", device);
        let slice = driver_uuid(library, "cuDeviceGetUuid_v2", device);
        Some(name_of(gpu, slice.or(gpu)?))
    }
}

/// The UUID of a device, by one of the driver's two functions for it.
fn driver_uuid(driver: &LoadedLibrary, function: &str, device: i32) -> Option<[u8; 16]> {
    let get: ffi::DriverDevice = driver.symbol("cuDeviceGet")?;
    let uuid: ffi::DriverUuid = driver.symbol(function)?;
    let (mut handle, mut bytes) = (0, [0u8; 16]);
    // SAFETY: both calls write one value of the given type; an error leaves it alone.
    let codes = unsafe { [get(&raw mut handle, device), uuid(&raw mut bytes, handle)] };
    (codes == [CUDA_SUCCESS; 2]).then_some(bytes)
}

/// The name of a device. The first function gives the UUID of the GPU also for a slice of it, so that the two differ for a
/// slice only.
fn name_of(gpu: Option<[u8; 16]>, device: [u8; 16]) -> String {
    let is_slice = gpu.is_some_and(|gpu| gpu != device);
    let mut text = String::from(if is_slice { "MIG" } else { "GPU" });
    for (index, byte) in device.iter().enumerate() {
        if [0, 4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_nvidia_smi_shows_it() {
        let bytes: [u8; 16] = std::array::from_fn(|index| index as u8);
        assert_eq!(name_of(Some(bytes), bytes), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(name_of(None, bytes), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(name_of(Some([0; 16]), bytes), "MIG-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn versions_read_as_cuda_writes_them() {
        let text = |code| CudaVersion::from_code(code).to_string();
        assert_eq!([text(12_040), text(13_000), text(11_080)], ["12.4", "13.0", "11.8"]);
    }
}

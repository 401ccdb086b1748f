//! NVIDIA GPUs and their driver, as its management library (NVML) reports them.

use super::child::{ChildEnd, ask};
use super::probes::ProbeCommand;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};
use protocol::gpus::{ALLOTMENTS, VISIBLE, device_files, driver_version, promise};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// Time for the driver to answer. Without its persistence mode it initialises every GPU first.
const LIMIT: Duration = Duration::from_secs(4);

/// GPUs and their driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriverFacts {
    /// Device files of GPUs: `/dev/nvidia0` and so on.
    pub device_files: usize,
    /// Variables that promise GPUs to this process, such as `NVIDIA_VISIBLE_DEVICES=all`.
    pub promised_by: Vec<String>,
    /// Version of the driver.
    pub driver: Option<String>,
    /// Newest CUDA version that the driver supports, such as `13.0`.
    pub driver_cuda: Option<String>,
    /// The GPUs.
    pub devices: Vec<GpuFact>,
    /// Why NVML does not list them.
    pub error: Option<String>,
    /// Whether the driver did not answer in time.
    pub timed_out: bool,
}

/// A GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFact {
    /// Its number for NVML and for `nvidia-smi`.
    pub index: u32,
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
    /// Memory in use, including that of the driver.
    pub used_bytes: Option<u64>,
    /// Processes that compute on it.
    pub processes: Option<u32>,
    /// Its MIG slices; none if it is not divided.
    pub slices: Vec<SliceFact>,
}

/// A MIG slice of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceFact {
    /// Its name, such as `NVIDIA H200 MIG 1g.18gb`.
    pub name: String,
    /// Its UUID, for `--gpus`.
    pub uuid: Option<String>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
}

/// Asks the driver in a child process.
pub(super) fn look() -> DriverFacts {
    let own = DriverFacts {
        device_files: device_files(Path::new("/dev")).count(),
        promised_by: promised_by(),
        ..DriverFacts::default()
    };
    let mut command = match ProbeCommand::Gpus.command() {
        Ok(command) => command,
        Err(error) => return DriverFacts { error: Some(error.to_string()), ..own },
    };
    let answer = ask(&mut command, LIMIT);
    let told: DriverFacts = answer.facts();
    DriverFacts {
        device_files: own.device_files,
        promised_by: own.promised_by,
        timed_out: matches!(answer.end, ChildEnd::TimedOut(_)),
        driver: told.driver.or_else(driver_of_kernel),
        error: told.error.or_else(|| answer.failure()),
        ..told
    }
}

/// Inside the child: prints what the driver tells.
pub(super) fn probe(tell: &mut dyn FnMut(serde_json::Value)) {
    // Without development packages there is no unversioned name.
    let nvml = match Nvml::builder().lib_path(OsStr::new("libnvidia-ml.so.1")).init() {
        Ok(nvml) => nvml,
        Err(error) => return tell(serde_json::json!({ "error": told(&error) })),
    };
    if let Ok(version) = nvml.sys_driver_version() {
        tell(serde_json::json!({ "driver": version }));
    }
    if let Ok(version) = nvml.sys_cuda_driver_version() {
        let cuda = format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version));
        tell(serde_json::json!({ "driver_cuda": cuda }));
    }
    let mut devices = Vec::new();
    for index in 0..nvml.device_count().unwrap_or(0) {
        match nvml.device_by_index(index) {
            Ok(device) => devices.push(gpu(index, &device)),
            Err(error) => tell(serde_json::json!({ "error": format!("GPU {index}: {}", told(&error)) })),
        }
        // As far as the driver has answered.
        tell(serde_json::json!({ "devices": devices }));
    }
}

fn gpu(index: u32, device: &Device) -> GpuFact {
    let memory = device.memory_info().ok();
    GpuFact {
        index,
        name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
        uuid: device.uuid().ok(),
        memory_bytes: memory.as_ref().map(|memory| memory.total),
        used_bytes: memory.map(|memory| memory.used),
        processes: device.running_compute_processes_count().ok(),
        slices: slices(device),
    }
}

fn slices(device: &Device) -> Vec<SliceFact> {
    // An error says that the GPU cannot be divided, or is not.
    let count = device.mig_device_count().unwrap_or(0);
    let each = (0..count).filter_map(|index| device.mig_device_by_index(index).ok());
    let fact = |slice: Device| SliceFact {
        name: slice.name().unwrap_or_else(|_| "unknown".to_owned()),
        uuid: slice.uuid().ok(),
        memory_bytes: slice.memory_info().ok().map(|memory| memory.total),
    };
    each.map(fact).collect()
}

/// NVML's error in a few words.
fn told(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) => "libnvidia-ml.so.1 is not installed".to_owned(),
        other => other.to_string(),
    }
}

/// Version of the driver by its kernel module, for a container without NVML.
fn driver_of_kernel() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/driver/nvidia/version")).ok()?;
    driver_version(&text).map(str::to_owned)
}

/// Variables by which a container runtime or a scheduler promises GPUs.
fn promised_by() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok();
    VISIBLE.into_iter().chain(ALLOTMENTS).filter_map(|name| promise(name, variable)).collect()
}

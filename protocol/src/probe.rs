//! What `lift-trainer probe` reports of this machine, for `lift doctor`.
//!
//! Only the trainer can tell which libtorch, MPI and NCCL it uses: `lift` links none of them. It reports one JSON object
//! per line, the quick parts first, so that a part that hangs in a driver costs only itself and what follows.
//!
//! ```
//! use protocol::probe::{TrainerReport, merged};
//!
//! let lines = "{\"version\":\"0.1.0\"}\n{\"mpi\":{\"version\":\"Open MPI v4.1.4\",\"path\":null}}\n{\"cud";
//! let report: TrainerReport = merged(lines);
//! assert_eq!(report.version.as_deref(), Some("0.1.0"));
//! assert_eq!(report.mpi.map(|mpi| mpi.version).as_deref(), Some("Open MPI v4.1.4"));
//! assert!(report.cuda.is_none());
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The sub-command of the trainer that reports.
pub const PROBE: &str = "probe";

/// The report of the trainer; a part that it could not report is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerReport {
    /// Version of the trainer.
    pub version: Option<String>,
    /// The MPI library that it is linked with.
    pub mpi: Option<LibraryReport>,
    /// Its share of the cores, if it is the only rank of this host.
    pub cores: Option<CoresReport>,
    /// The libtorch that it is linked with.
    pub libtorch: Option<LibtorchReport>,
    /// Version of libtorch.
    pub libtorch_version: Option<String>,
    /// What libtorch can do with GPUs.
    pub cuda: Option<CudaReport>,
    /// The device of a run with `train.device = "auto"`.
    pub device: Option<DeviceReport>,
    /// NCCL.
    pub nccl: Option<NcclReport>,
}

/// A library that is loaded into the trainer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryReport {
    /// Its file.
    pub path: Option<PathBuf>,
    /// What it says of its version.
    pub version: String,
}

/// Threads of a single rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoresReport {
    /// Threads that compute.
    pub threads: usize,
    /// Threads that read and transform images.
    pub workers: usize,
}

/// Where libtorch is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibtorchReport {
    /// The file of its CPU part.
    pub path: Option<PathBuf>,
    /// Whether its CUDA part lies beside it.
    pub has_cuda_part: bool,
}

/// What libtorch can do with GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaReport {
    /// CUDA runtime that libtorch uses, such as `13.0`; none if its CUDA part is not loaded.
    pub runtime: Option<String>,
    /// GPUs that it can use.
    pub gpus: usize,
    /// Why it can use none.
    pub reason: Option<String>,
}

/// The device that the trainer chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceReport {
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Gpu(usize),
    /// None: why the run would be refused.
    Refused(String),
}

/// NCCL as the trainer finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NcclReport {
    /// It is loaded.
    Loaded(LibraryReport),
    /// It cannot be used, and why.
    Unusable(String),
}

/// Merges the lines of a report. Lines that are not JSON objects are skipped: the last one may be cut.
pub fn merged<T: DeserializeOwned + Default>(lines: &str) -> T {
    let objects = lines.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let all: Map<String, Value> = objects.flatten().collect();
    serde_json::from_value(Value::Object(all)).unwrap_or_default()
}

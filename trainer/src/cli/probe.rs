//! `lift-trainer probe`: what this process would use here, for `lift doctor`. It starts neither MPI nor a run.

use crate::engine::failure::Failure;
use crate::engine::setup::device::{self, DeviceChoice};
use crate::engine::setup::loader_plan::LoaderPlan;
use collectives::{host, installed};
use protocol::probe::{CoresReport, CudaReport, DeviceReport, LibraryReport, LibtorchReport, NcclReport};
use protocol::terminal;
use serde::Serialize;
use serde_json::json;

/// Prints one line per part, in the order of the time that they take.
pub(super) fn run() -> Result<(), Failure> {
    tell("version", env!("CARGO_PKG_VERSION"))?;
    tell("mpi", LibraryReport { path: installed::loaded_file("libmpi"), version: installed::mpi_version() })?;
    let share = host::share_cores(1)
        .map_err(|error| Failure::run(format!("cannot read or set the cores of this process: {error}")))?;
    let workers = LoaderPlan::default_workers(share.threads);
    tell("cores", CoresReport { threads: share.threads, workers })?;
    let path = installed::loaded_file("libtorch_cpu.so");
    tell("libtorch", LibtorchReport { path, has_cuda_part: device::cuda_part().is_some() })?;
    let cuda = device::open_cuda();
    tell("libtorch_version", installed::libtorch_version().map_err(Failure::run)?)?;
    tell("nccl", nccl())?;
    tell("device", chosen(&cuda))?;
    tell("cuda", gpus(cuda))
}

/// Prints one part. Its name is a field of [`TrainerReport`](protocol::probe::TrainerReport).
fn tell(part: &str, value: impl Serialize) -> Result<(), Failure> {
    terminal::print_json(&format!("{}\n", json!({ part: value }))).map(drop).map_err(Failure::run)
}

fn nccl() -> NcclReport {
    match installed::nccl() {
        Ok(nccl) => NcclReport::Loaded(LibraryReport { path: Some(nccl.path), version: nccl.version }),
        Err(reason) => NcclReport::Unusable(reason),
    }
}

fn chosen(cuda: &Result<(), String>) -> DeviceReport {
    match device::choose(DeviceChoice::Auto, 0, cuda) {
        Ok(tch::Device::Cuda(index)) => DeviceReport::Gpu(index),
        Ok(_) => DeviceReport::Cpu,
        Err(refusal) => DeviceReport::Refused(refusal.to_string()),
    }
}

fn gpus(cuda: Result<(), String>) -> CudaReport {
    let Err(reason) = cuda else {
        let gpus = if tch::Cuda::is_available() { tch::Cuda::device_count().max(0) as usize } else { 0 };
        let reason = (gpus == 0).then(|| "libtorch's CUDA part finds no usable driver or GPU".to_owned());
        return CudaReport { runtime: Some(runtime(tch::utils::version_cudart())), gpus, reason };
    };
    CudaReport { runtime: None, gpus: 0, reason: Some(reason) }
}

/// CUDA numbers its versions 1000 * major + 10 * minor.
fn runtime(number: i64) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_cuda_are_written_with_a_point() {
        assert_eq!([runtime(13000), runtime(12080)], ["13.0", "12.8"]);
    }

    #[test]
    fn without_cuda_the_reason_is_told_and_no_runtime() {
        let report = gpus(Err("no CUDA part".to_owned()));
        assert_eq!((report.runtime, report.gpus, report.reason.as_deref()), (None, 0, Some("no CUDA part")));
    }
}

//! `lift-trainer probe`: what this process would use here, for `lift doctor`. It starts neither MPI nor a run.

use crate::engine::failure::Failure;
use crate::engine::setup::device::{device_report, has_cuda_part, open_cuda_part};
use crate::engine::setup::loader_plan::workers;
use collectives::{host, installed};
use protocol::probe::{CoresReport, LibraryReport, LibtorchReport, NcclReport};
use protocol::terminal;
use serde::Serialize;
use serde_json::json;

/// Prints one line per part, in the order of the time that they take.
pub(super) fn run() -> Result<(), Failure> {
    print_part("version", env!("CARGO_PKG_VERSION"))?;
    print_part(
        "mpi",
        LibraryReport { path: installed::loaded_file("libmpi"), version: installed::mpi_version() },
    )?;
    let share = host::share_cores(1)
        .map_err(|error| Failure::run(format!("cannot read or set the cores of this process: {error}")))?;
    let workers = workers(tch::Device::Cpu, share.threads, share.threads);
    print_part("cores", CoresReport { threads: share.threads, workers })?;
    let path = installed::loaded_file("libtorch_cpu.so");
    print_part("libtorch", LibtorchReport { path, has_cuda_part: has_cuda_part() })?;
    // Before anything asks libtorch for a device.
    open_cuda_part();
    print_part("libtorch_version", installed::libtorch_version().map_err(Failure::run)?)?;
    print_part("nccl", nccl())?;
    let (device, cuda) = device_report();
    print_part("device", device)?;
    print_part("cuda", cuda)
}

/// Prints one part. Its name is a field of [`TrainerReport`](protocol::probe::TrainerReport).
fn print_part(part: &str, value: impl Serialize) -> Result<(), Failure> {
    terminal::print_json(&format!("{}\n", json!({ part: value }))).map(drop).map_err(Failure::run)
}

fn nccl() -> NcclReport {
    match installed::nccl() {
        Ok(nccl) => NcclReport::Loaded(LibraryReport { path: Some(nccl.path), version: nccl.version }),
        Err(reason) => NcclReport::Unusable(reason),
    }
}

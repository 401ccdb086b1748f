//! Everything that `lift doctor` finds out, gathered at the same time.

use super::cores::{self, CoreFacts};
use super::folder::{self, FolderFacts, FolderUsage};
use super::gpus::{self, DriverFacts};
use super::limits::{self, LimitFacts};
use super::mpi::{self, MpiFacts};
use super::slurm::{self, SlurmFacts};
use super::trainer::{self, TrainerFacts};
use protocol::memory::{self, MemoryFacts};
use serde::Serialize;
use std::path::Path;
use std::thread::ScopedJoinHandle;

/// Where ranks of a host share memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// The facts, by group. The names of the fields are those of `--json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Cores.
    pub cores: CoreFacts,
    /// Memory.
    pub memory: MemoryFacts,
    /// `/dev/shm`.
    pub shared_memory: FolderFacts,
    /// Limits of a process.
    pub limits: LimitFacts,
    /// GPUs and their driver.
    pub gpus: DriverFacts,
    /// The trainer, with libtorch, MPI and NCCL as it uses them.
    pub trainer: TrainerFacts,
    /// `mpirun`.
    pub mpi: MpiFacts,
    /// Slurm.
    pub slurm: SlurmFacts,
    /// The folder for runs.
    pub output: FolderFacts,
    /// The data, if they were named.
    pub data: Option<FolderFacts>,
}

impl Facts {
    /// Gathers all facts. Each probe has its own time limit, so this takes as long as the longest of them.
    pub(super) fn gather(output: &Path, data: Option<&Path>) -> Self {
        std::thread::scope(|scope| {
            let trainer = scope.spawn(trainer::look);
            let gpus = scope.spawn(gpus::look);
            let slurm = scope.spawn(slurm::look);
            let mpi = scope.spawn(mpi::look);
            let shared_memory = scope.spawn(|| folder::look(Path::new(SHARED_MEMORY), FolderUsage::Memory));
            let output = scope.spawn(|| folder::look(output, FolderUsage::Output));
            let data = data.map(|data| scope.spawn(|| folder::look(data, FolderUsage::Data)));
            Self {
                cores: cores::look(),
                memory: memory::look(),
                limits: limits::look(),
                shared_memory: joined(shared_memory),
                gpus: joined(gpus),
                trainer: joined(trainer),
                mpi: joined(mpi),
                slurm: joined(slurm),
                output: joined(output),
                data: data.map(joined),
            }
        })
    }
}

/// The facts of a probe. A probe does not panic; if it did, its facts would be unknown.
fn joined<T: Default>(probe: ScopedJoinHandle<'_, T>) -> T {
    probe.join().unwrap_or_default()
}

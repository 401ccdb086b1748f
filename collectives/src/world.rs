//! Initialisation and finalisation of MPI.

use crate::activity::Activity;
use crate::control::Control;
use crate::error::{CollectiveError, LaunchError};
use crate::launch::expected_world;
use crate::process_group::{MpiGroup, NcclGroup, NcclOptions, ProcessGroup, Solo};
use crate::raw::MpiComm;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{AsRaw, Root};

/// All ranks of this job. MPI ends when it is dropped, so keep it until the program's last line.
pub struct World {
    // Fields drop in this order: communicators before MPI.
    tensors: SimpleCommunicator,
    progress: SimpleCommunicator,
    control: SimpleCommunicator,
    _universe: Universe,
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    node: usize,
    activity: Activity,
}

impl World {
    /// Starts MPI and determines the rank of this process.
    ///
    /// Fails if MPI reports fewer ranks than the variables of the launcher.
    pub fn start() -> Result<Self, LaunchError> {
        let threading = mpi::Threading::Multiple;
        let (universe, provided) = mpi::initialize_with_threading(threading).ok_or(LaunchError::MpiInit)?;
        if provided < threading {
            return Err(LaunchError::Threading { found: format!("{provided:?}") });
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if let Some(expected) = expected_world(|name| std::env::var(name).ok())
            && size == 1
            && expected.size > 1
        {
            return Err(LaunchError::WorldSize {
                variable: expected.variable.to_owned(),
                expected: expected.size,
                found: size,
                hint: expected.hint.to_owned(),
            });
        }
        let host = world.split_shared(rank as i32);
        let (local_rank, local_size) = (host.rank() as usize, host.size() as usize);
        let mut node = rank;
        host.process_at_rank(0).broadcast_into(&mut node);
        let (tensors, progress, control) = (world.duplicate(), world.duplicate(), world.duplicate());
        let activity = Activity::default();
        Ok(Self {
            tensors,
            progress,
            control,
            _universe: universe,
            rank,
            size,
            local_rank,
            local_size,
            node,
            activity,
        })
    }

    /// Rank of this process, `0..size`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// World size.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Local rank: rank of this process on its host.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Number of ranks on this host.
    pub fn local_size(&self) -> usize {
        self.local_size
    }

    /// Number of this host: its lowest rank.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Activity of this process, in which every collective is recorded.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The tensor plane: [`Solo`] for one rank, else MPI.
    pub fn process_group(&self) -> Result<Box<dyn ProcessGroup>, LaunchError> {
        if self.size == 1 {
            return Ok(Box::new(Solo));
        }
        Ok(Box::new(MpiGroup::new(self.comm(&self.tensors)?, self.comm(&self.progress)?)))
    }

    /// The tensor plane over NCCL, for ranks with one GPU each; see [`NcclGroup`]. All ranks must call it; either all
    /// receive a group or all receive the same error.
    pub fn nccl_group(
        &self,
        control: &Control,
        options: NcclOptions,
    ) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        Ok(Box::new(NcclGroup::start(control, &self.activity, options)?))
    }

    /// The control plane.
    pub fn control(&self) -> Result<Control, LaunchError> {
        Ok(Control::new(self.comm(&self.control)?))
    }

    fn comm(&self, on: &SimpleCommunicator) -> Result<MpiComm, LaunchError> {
        Ok(MpiComm::new(on.as_raw(), (self.rank, self.size), self.activity.clone())?)
    }
}

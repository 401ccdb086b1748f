//! Latency and bandwidth of the collectives that training uses, by size.

use super::exchange::greatest;
use super::statistics::median;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use serde::Serialize;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// A measured operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchedOperation {
    /// `all_reduce`.
    AllReduce,
    /// `start_all_reduce`, followed by a wait: the call of a training step.
    StartedAllReduce,
    /// `all_gather`.
    AllGather,
    /// `reduce_scatter`.
    ReduceScatter,
    /// `broadcast`.
    Broadcast,
    /// `barrier`.
    Barrier,
}

impl BenchedOperation {
    const WITH_BYTES: [Self; 5] =
        [Self::AllReduce, Self::StartedAllReduce, Self::AllGather, Self::ReduceScatter, Self::Broadcast];

    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::StartedAllReduce => "start_all_reduce",
            Self::AllGather => "all_gather",
            Self::ReduceScatter => "reduce_scatter",
            Self::Broadcast => "broadcast",
            Self::Barrier => "barrier",
        }
    }

    /// Bytes that cross each rank's link for one byte of the tensor, whatever the algorithm: what makes worlds of
    /// different sizes comparable.
    pub fn bus_factor(self, ranks: usize) -> f64 {
        let others = (ranks as f64 - 1.0) / ranks as f64;
        match self {
            Self::AllReduce | Self::StartedAllReduce => 2.0 * others,
            Self::AllGather | Self::ReduceScatter => others,
            Self::Broadcast => 1.0,
            Self::Barrier => 0.0,
        }
    }
}

/// Extent of the measurement.
#[derive(Debug, Clone, Copy)]
pub struct CollectiveOptions {
    /// The largest tensor.
    pub max_bytes: u64,
    /// Rounds in which operations and sizes take turns.
    pub rounds: usize,
    /// Seconds for which the calls of one operation and size are repeated in a round; at least one call.
    pub seconds: f64,
}

/// Figures of one operation and size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectiveRow {
    /// Its name.
    pub operation: &'static str,
    /// Bytes of the full tensor: the output of a gather, the input of a scatter.
    pub bytes: u64,
    /// Seconds per call: the median over rounds of the slowest rank's mean.
    pub seconds: f64,
    /// Bytes per second over each rank's link; none if nothing is sent.
    pub bus_bytes_per_second: Option<f64>,
}

/// Figures of all operations and sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectiveReport {
    /// The backend of the tensor plane.
    pub backend: &'static str,
    /// The device of the tensors.
    pub device: String,
    /// Number of ranks.
    pub world_size: usize,
    /// Rounds.
    pub rounds: usize,
    /// One row per operation and size.
    pub rows: Vec<CollectiveRow>,
}

/// An operation with its tensors.
struct CollectiveCase {
    operation: BenchedOperation,
    whole: Tensor,
    part: Tensor,
    rounds: Vec<f64>,
}

/// Runs the measurement. Collective.
pub fn measure(rank: &Rank, options: CollectiveOptions) -> Result<CollectiveReport, Failure> {
    let (ranks, device) = (rank.world_size(), rank.device);
    let sizes = sizes(options.max_bytes);
    let case = |operation, bytes| CollectiveCase::new(operation, bytes, ranks, device);
    let with_bytes = BenchedOperation::WITH_BYTES;
    let mut cases: Vec<CollectiveCase> =
        sizes.iter().flat_map(|&bytes| with_bytes.map(|operation| case(operation, bytes))).collect();
    cases.push(case(BenchedOperation::Barrier, 0));
    for round in 0..=options.rounds {
        for case in &mut cases {
            let seconds = case.run(rank, options.seconds)?;
            // The first round allocates memory and opens connections.
            if round > 0 {
                case.rounds.push(seconds);
            }
        }
    }
    let rows = cases.iter().map(|case| case.row(ranks)).collect();
    Ok(CollectiveReport {
        backend: rank.group.backend(),
        device: rank.device_name().to_owned(),
        world_size: ranks,
        rounds: options.rounds,
        rows,
    })
}

/// From 4 bytes to `max`, each four times the one before.
fn sizes(max: u64) -> Vec<u64> {
    std::iter::successors(Some(4_u64), |size| size.checked_mul(4)).take_while(|&size| size <= max).collect()
}

impl CollectiveCase {
    fn new(operation: BenchedOperation, bytes: u64, ranks: usize, device: Device) -> Self {
        let element = Kind::Float.elt_size_in_bytes() as u64;
        let tensor = |elements: u64| Tensor::zeros([elements.max(1) as i64], (Kind::Float, device));
        let parted = matches!(operation, BenchedOperation::AllGather | BenchedOperation::ReduceScatter);
        let part = if parted { (bytes / element).div_ceil(ranks as u64).max(1) } else { 1 };
        let whole = if parted { part * ranks as u64 } else { bytes / element };
        Self { operation, whole: tensor(whole), part: tensor(part), rounds: Vec::new() }
    }

    /// Seconds per call of the slowest rank.
    fn run(&mut self, rank: &Rank, seconds: f64) -> Result<f64, Failure> {
        let once = self.calls(rank, 1)?;
        let calls = if once > 0.0 { (seconds / once).clamp(1.0, 1000.0) as usize } else { 1000 };
        self.calls(rank, calls)
    }

    /// The same number of calls on every rank, which start together.
    fn calls(&mut self, rank: &Rank, calls: usize) -> Result<f64, Failure> {
        settle(rank.device);
        rank.control.barrier()?;
        let start = Instant::now();
        for _ in 0..calls {
            self.call(rank.group.as_ref())?;
        }
        settle(rank.device);
        greatest(&rank.control, start.elapsed().as_secs_f64() / calls as f64)
    }

    fn call(&mut self, group: &dyn ProcessGroup) -> Result<(), CollectiveError> {
        match self.operation {
            BenchedOperation::AllReduce => group.all_reduce(&mut self.whole, ReduceOp::Sum),
            BenchedOperation::StartedAllReduce => group.start_all_reduce(&self.whole, ReduceOp::Sum)?.wait(),
            BenchedOperation::AllGather => group.all_gather(&self.part, &mut self.whole),
            BenchedOperation::ReduceScatter => group.reduce_scatter(&self.whole, &mut self.part),
            BenchedOperation::Broadcast => group.broadcast(&mut self.whole, 0),
            BenchedOperation::Barrier => group.barrier(),
        }
    }

    fn row(&self, ranks: usize) -> CollectiveRow {
        let seconds = median(&self.rounds);
        let bytes = if self.operation == BenchedOperation::Barrier {
            0
        } else {
            (self.whole.numel() * self.whole.kind().elt_size_in_bytes()) as u64
        };
        let crossing = bytes as f64 * self.operation.bus_factor(ranks);
        let bus_bytes_per_second = (ranks > 1 && crossing > 0.0 && seconds > 0.0).then(|| crossing / seconds);
        CollectiveRow { operation: self.operation.name(), bytes, seconds, bus_bytes_per_second }
    }
}

/// Waits for queued work of a GPU.
pub(crate) fn settle(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use collectives::Solo;

    #[test]
    fn sizes_go_from_four_bytes_to_the_largest() {
        assert_eq!(sizes(300), [4, 16, 64, 256]);
        assert_eq!(sizes(64 << 20).last(), Some(&(64 << 20)));
        assert!(sizes(3).is_empty());
    }

    #[test]
    fn bus_bandwidth_follows_the_usual_formula() {
        assert_eq!(BenchedOperation::AllReduce.bus_factor(4), 1.5);
        assert_eq!(BenchedOperation::AllGather.bus_factor(4), 0.75);
        assert_eq!(BenchedOperation::ReduceScatter.bus_factor(2), 0.5);
        assert_eq!(BenchedOperation::Broadcast.bus_factor(8), 1.0);
        let mut case = CollectiveCase::new(BenchedOperation::AllReduce, 4000, 4, Device::Cpu);
        case.rounds = vec![1e-3, 3e-3, 2e-3];
        let row = case.row(4);
        assert_eq!((row.bytes, row.seconds, row.bus_bytes_per_second), (4000, 2e-3, Some(3e6)));
    }

    #[test]
    fn every_operation_runs_on_any_size() {
        for operation in BenchedOperation::WITH_BYTES.into_iter().chain([BenchedOperation::Barrier]) {
            for bytes in [4, 16, 1024] {
                let mut case = CollectiveCase::new(operation, bytes, 1, Device::Cpu);
                case.call(&Solo).unwrap();
                assert_eq!(case.row(1).bus_bytes_per_second, None);
            }
        }
        assert_eq!(CollectiveCase::new(BenchedOperation::AllGather, 4, 3, Device::Cpu).row(3).bytes, 12);
    }
}

//! The model for ViT-B/16 on clusters of GPUs, with constants that are assumptions.

use super::{ComputeTime, Interconnect, all_reduce_bytes};
use serde::Serialize;
use trainer::engine::setup::placement::{PlacementSizes, wire_bytes};
use trainer::model::loading::block_elements;
use trainer::model::slices::RING;
use trainer::model::tuners::adaptformer::adaptformer_numbers;
use trainer::model::tuners::bottleneck::auto_adapter_dim;

/// Bytes of a trained or reduced scalar, and of a frozen one in bf16.
const TRAINED: f64 = 4.0;
const FROZEN: f64 = 2.0;

/// Micro-batches on a GPU: `train.micro_batch_size`.
const AT_ONCE: u64 = 128;

/// The trained model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingJob {
    /// Images of an epoch.
    pub images: u64,
    /// Classes.
    pub classes: u64,
    /// Blocks.
    pub depth: u64,
    /// Width of the features.
    pub width: i64,
    /// Multiplications and additions of the frozen tower for one image, forward.
    pub forward_operations: u64,
    /// Tokens of an image.
    pub tokens: u64,
}

impl TrainingJob {
    /// LIFT on iNaturalist 2018 with ViT-B/16 at 224 pixels.
    pub const INATURALIST: Self = Self {
        images: 437_513,
        classes: 8142,
        depth: 12,
        width: 768,
        forward_operations: 35_200_000_000,
        tokens: 197,
    };

    /// Bottleneck of the modules, LIFT's formula.
    pub fn adapter_dim(&self) -> u64 {
        auto_adapter_dim(self.classes, self.depth)
    }

    /// Trained numbers of one block's module.
    pub fn module_parameters(&self) -> u64 {
        adaptformer_numbers(self.width, self.adapter_dim() as i64)
    }

    /// Trained numbers of the head.
    pub fn head_parameters(&self) -> u64 {
        self.classes * self.width as u64
    }

    /// Bytes of the gradients of all modules.
    pub fn module_bytes(&self) -> f64 {
        (self.depth * self.module_parameters()) as f64 * TRAINED
    }

    /// Bytes of the gradient of the whole head.
    pub fn head_bytes(&self) -> f64 {
        self.head_parameters() as f64 * TRAINED
    }

    /// Bytes of a frozen block.
    pub fn block_bytes(&self) -> f64 {
        block_elements(self.width, 4 * self.width) as f64 * FROZEN
    }

    /// Blocks that are gathered in a step: each before its forward and before its backward pass, except those that are
    /// still in the ring when the direction changes.
    pub fn gathers(&self) -> u64 {
        2 * self.depth.saturating_sub(RING as u64)
    }

    /// Operations for one image: forward and the gradient of the activations through the frozen tower, which has the
    /// same cost, and forward and two gradients of the modules and the head.
    pub fn operations(&self) -> f64 {
        let modules = self.depth * self.tokens * 2 * self.adapter_dim() * self.width as u64;
        (2 * self.forward_operations + 3 * 2 * (modules + self.head_parameters())) as f64
    }
}

/// The machines. Every value is an assumption; `docs/scaling.md` gives the sources.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cluster {
    /// Achieved operations per second of a GPU.
    pub operations_per_second: f64,
    /// Seconds of a step that do not depend on the images: the kernel launches.
    pub fixed_seconds: f64,
    /// GPUs of a host.
    pub gpus_per_host: u64,
    /// Bytes per second of a collective inside a host, over each GPU's link.
    pub host_bandwidth: f64,
    /// The same between hosts: each GPU has a network card.
    pub network_bandwidth: f64,
    /// Seconds from GPU to GPU inside a host.
    pub host_hop: f64,
    /// Seconds from host to host.
    pub network_hop: f64,
    /// Seconds to start a collective.
    pub call: f64,
    /// Share of the backward pass in the computation of a step, which overlaps with the reduction of gradients.
    pub backward_share: f64,
    /// Images per second that the cores of one GPU decode.
    pub decoded_per_second: f64,
}

impl Cluster {
    /// Hosts with eight H100, `NVLink` 4 and a 400 Gb/s card per GPU.
    pub const H100: Self = Self {
        operations_per_second: 0.3 * 989e12,
        fixed_seconds: 6e-3,
        gpus_per_host: 8,
        host_bandwidth: 300e9,
        network_bandwidth: 40e9,
        host_hop: 3.4e-6,
        network_hop: 14e-6,
        call: 20e-6,
        backward_share: 0.5,
        decoded_per_second: 4000.0,
    };

    /// All-reduces use the faster of ring and tree; gathers and scatters use the ring.
    fn link(&self, ranks: u64, all_reduce: bool) -> Interconnect {
        let hosts = ranks.div_ceil(self.gpus_per_host);
        let inside = ranks.min(self.gpus_per_host) - 1;
        let ring = (ranks - hosts) as f64 * self.host_hop
            + if hosts > 1 { hosts as f64 * self.network_hop } else { 0.0 };
        let tree = inside as f64 * self.host_hop + (hosts as f64).log2().ceil() * self.network_hop;
        let way = if all_reduce { 2.0 * ring.min(tree) } else { ring };
        let bandwidth = if hosts > 1 { self.network_bandwidth } else { self.host_bandwidth };
        Interconnect { latency: self.call + way, bandwidth }
    }
}

/// Placement of classifier and backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterPlacement {
    /// Everything on every GPU.
    Replicated,
    /// `head.placement=sharded`.
    ShardedHead,
    /// `backbone.placement=sharded`, with a replicated head.
    ShardedBackbone,
}

/// A prediction of the model; seconds and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// Placement of classifier and backbone.
    pub placement: ClusterPlacement,
    /// Images per step over all GPUs.
    pub batch_size: u64,
    /// GPUs.
    pub ranks: u64,
    /// Computation of the slowest GPU.
    pub compute: f64,
    /// Decoding of the slowest GPU's images.
    pub data: f64,
    /// Bytes that a GPU sends.
    pub sent: f64,
    /// Collectives without overlap.
    pub communication: f64,
    /// Their exposed part.
    pub exposed: f64,
    /// The whole step.
    pub step: f64,
    /// Images per second over all GPUs.
    pub images_per_second: f64,
    /// The throughput divided by that of one GPU with the same batch and by the number of GPUs.
    pub efficiency: f64,
    /// Seconds of an epoch.
    pub epoch: f64,
}

/// The prediction; none if there are more GPUs than images per step.
pub fn forecast(
    job: &TrainingJob,
    cluster: &Cluster,
    placement: ClusterPlacement,
    batch_size: u64,
    ranks: u64,
) -> Option<Forecast> {
    if ranks == 0 || batch_size < ranks {
        return None;
    }
    let alone = ForecastStep { job, cluster, placement: ClusterPlacement::Replicated, batch_size, ranks: 1 }
        .seconds();
    let step = ForecastStep { job, cluster, placement, batch_size, ranks };
    let (compute, data) = (step.compute(), step.data());
    let (sent, communication, exposed) = step.communication();
    let seconds = step.seconds();
    let images_per_second = batch_size as f64 / seconds;
    Some(Forecast {
        placement,
        batch_size,
        ranks,
        compute,
        data,
        sent,
        communication,
        exposed,
        step: seconds,
        images_per_second,
        efficiency: alone / seconds / ranks as f64,
        epoch: job.images as f64 / images_per_second,
    })
}

#[derive(Clone, Copy)]
struct ForecastStep<'a> {
    job: &'a TrainingJob,
    cluster: &'a Cluster,
    placement: ClusterPlacement,
    batch_size: u64,
    ranks: u64,
}

impl ForecastStep<'_> {
    fn own(&self) -> u64 {
        self.batch_size.div_ceil(self.ranks)
    }

    /// Micro-batches of a step.
    fn passes(&self) -> f64 {
        self.own().div_ceil(AT_ONCE) as f64
    }

    fn compute(&self) -> f64 {
        let each = self.job.operations() / self.cluster.operations_per_second;
        // Each micro-batch launches all kernels.
        let time = ComputeTime { fixed: self.cluster.fixed_seconds * self.passes(), each };
        time.seconds(self.own() as f64)
    }

    fn data(&self) -> f64 {
        self.own() as f64 / self.cluster.decoded_per_second
    }

    fn seconds(&self) -> f64 {
        self.compute().max(self.data()) + self.communication().2
    }

    /// Bytes that a GPU sends, seconds, and their exposed part.
    fn communication(&self) -> (f64, f64, f64) {
        if self.ranks == 1 {
            return (0.0, 0.0, 0.0);
        }
        let gradients = self.gradients();
        let more = match self.placement {
            ClusterPlacement::Replicated => (0.0, 0.0, 0.0),
            ClusterPlacement::ShardedHead => self.sharded_head(),
            ClusterPlacement::ShardedBackbone => self.sharded_backbone(),
        };
        (gradients.0 + more.0, gradients.1 + more.1, gradients.2 + more.2)
    }

    /// One bucket per block and one for the head, overlapped with the backward pass of the last micro-batch; the bucket
    /// of the first block and the row of scalars are exposed.
    fn gradients(&self) -> (f64, f64, f64) {
        let (job, ranks) = (self.job, self.ranks as f64);
        let link = self.cluster.link(self.ranks, true);
        let whole_head = self.placement != ClusterPlacement::ShardedHead;
        let bytes = job.module_bytes() + if whole_head { job.head_bytes() } else { 0.0 };
        let calls = job.depth as f64 + 1.0 + f64::from(u8::from(whole_head));
        let sent = all_reduce_bytes(bytes, ranks);
        let seconds = link.seconds(calls, sent);
        let last = link.seconds(2.0, all_reduce_bytes(job.module_bytes() / job.depth as f64, ranks));
        let room = self.cluster.backward_share * self.compute() / self.passes();
        (sent, seconds, last.max(seconds - room))
    }

    /// Features and labels gathered, two reductions, gradients scattered back, for each micro-batch; the features wait
    /// for them, so they are exposed.
    fn sharded_head(&self) -> (f64, f64, f64) {
        let job = self.job;
        let sizes = PlacementSizes {
            blocks: 0,
            classes: job.classes as i64,
            width: job.width,
            element: TRAINED as u64,
        };
        let (_, sent) = wire_bytes((self.batch_size, AT_ONCE), self.ranks as f64, sizes);
        let (reduce, gather) = (self.cluster.link(self.ranks, true), self.cluster.link(self.ranks, false));
        let passes = self.passes();
        let seconds = reduce.seconds(2.0 * passes + 1.0, 0.0) + gather.seconds(3.0 * passes, sent);
        (sent, seconds, seconds)
    }

    /// Each block is gathered while its neighbour is computed.
    fn sharded_backbone(&self) -> (f64, f64, f64) {
        let (job, ranks) = (self.job, self.ranks as f64);
        let link = self.cluster.link(self.ranks, false);
        let gathers = job.gathers() as f64 * self.passes();
        let sent = (ranks - 1.0) / ranks * job.block_bytes();
        let seconds = link.seconds(1.0, sent);
        let blocks = 2.0 * job.depth as f64 * self.passes();
        let exposed = (seconds - self.compute() / blocks).max(0.0);
        (gathers * sent, gathers * seconds, gathers * exposed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: TrainingJob = TrainingJob::INATURALIST;

    #[test]
    fn trained_bytes_are_those_of_the_published_shapes() {
        assert_eq!((JOB.adapter_dim(), JOB.head_parameters()), (256, 6_253_056));
        // scale, two of a norm, down with bias, up with bias
        assert_eq!(JOB.module_parameters(), 1 + 2 * 768 + 256 * 768 + 256 + 768 * 256 + 768);
        assert_eq!(JOB.module_bytes() + JOB.head_bytes(), 44_009_520.0);
        assert_eq!(JOB.block_bytes(), 2.0 * 7_087_872.0);
    }

    #[test]
    fn one_gpu_sends_nothing_and_has_full_efficiency() {
        let one = forecast(&JOB, &Cluster::H100, ClusterPlacement::Replicated, 128, 1).unwrap();
        assert_eq!((one.sent, one.exposed, one.efficiency), (0.0, 0.0, 1.0));
        assert!(one.step >= one.compute && one.step >= one.data);
    }

    #[test]
    fn more_gpus_than_images_are_refused() {
        assert_eq!(forecast(&JOB, &Cluster::H100, ClusterPlacement::Replicated, 128, 512), None);
        assert!(forecast(&JOB, &Cluster::H100, ClusterPlacement::Replicated, 512, 512).is_some());
    }

    #[test]
    fn a_sharded_head_sends_less_with_small_batches() {
        let sent =
            |placement, batch, ranks| forecast(&JOB, &Cluster::H100, placement, batch, ranks).unwrap().sent;
        assert!(sent(ClusterPlacement::ShardedHead, 128, 8) < sent(ClusterPlacement::Replicated, 128, 8));
        assert!(
            sent(ClusterPlacement::ShardedHead, 65_536, 512)
                > sent(ClusterPlacement::Replicated, 65_536, 512)
        );
        assert!(sent(ClusterPlacement::ShardedBackbone, 128, 8) > sent(ClusterPlacement::Replicated, 128, 8));
    }

    #[test]
    fn efficiency_falls_with_ranks_and_rises_with_the_batch() {
        let of = |batch, ranks| {
            forecast(&JOB, &Cluster::H100, ClusterPlacement::Replicated, batch, ranks).unwrap().efficiency
        };
        assert!(of(1024, 1) > of(1024, 8) && of(1024, 8) > of(1024, 64));
        assert!(of(8192, 64) > of(1024, 64));
    }
}

//! CUDA graphs of whole passes: forward, loss and backward of a micro-batch, one graph for each number of images.
//!
//! The first pass of a size runs as without graphs, so that libraries choose and load their kernels. The next one is captured,
//! and from then on a pass is a copy of pixels and labels into fixed tensors and one call. A graph has the addresses of its
//! tensors and the numbers that the host knew at the capture, so what changes between two steps is outside of it (the row of
//! scalars, the division, the learning rate, collectives) or in a fixed tensor (the factor on the loss). The loss is a part of
//! the graph: another loss needs another graph.
//!
//! All graphs share one pool of memory: none of them runs while another one does, and nothing that is in the pool outlives a
//! pass.

use crate::engine::gpu::cuda_graph::{CudaGraph, CudaGraphError};
use crate::engine::step::classifier::SampleLoss;
use crate::engine::step::local_batch::MicroBatch;
use collectives::CollectiveError;
use tch::{Device, Kind, Tensor};

/// The most sizes with a graph. A rank's parts of full and last batches, cut into micro-batches, have five sizes, unless the
/// length of an epoch changes.
const MOST: usize = 8;

/// The graphs of one rank.
pub(super) struct PassGraphs {
    index: usize,
    /// Sizes of which a pass has run, and their graphs. The size of the last pass comes first.
    sizes: Vec<(i64, Option<PassGraph>)>,
    /// The factor on the loss, where the graphs read it, and its value.
    scale: (Tensor, f64),
}

/// A captured pass with its fixed tensors.
struct PassGraph {
    graph: CudaGraph,
    input: MicroBatch,
    loss: SampleLoss,
}

impl PassGraphs {
    /// None on the CPU, which has no graphs.
    pub fn new(device: Device) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        Some(Self { index, sizes: Vec::new(), scale: (Tensor::ones([], (Kind::Double, device)), 1.0) })
    }

    /// Forgets the captured passes, before something is freed or replaced that they use.
    pub fn forget(&mut self) {
        for (_, graph) in &mut self.sizes {
            *graph = None;
        }
    }

    /// Runs `pass` on these images by a graph, with this factor on the loss; none if it has to run without one. The result is
    /// valid until the next pass of this size.
    ///
    /// # Panics
    /// As every operation of tch: if libtorch refuses.
    pub fn run(
        &mut self,
        part: &MicroBatch,
        factor: f64,
        pass: impl FnOnce(&MicroBatch, &Tensor) -> Result<Option<SampleLoss>, CollectiveError>,
    ) -> Result<Option<SampleLoss>, CollectiveError> {
        let images = part.labels.numel() as i64;
        let Some(place) = self.sizes.iter().position(|(size, _)| *size == images) else {
            self.sizes.insert(0, (images, None));
            self.sizes.truncate(MOST);
            return Ok(None);
        };
        self.sizes[..=place].rotate_right(1);
        let (scale, present) = &mut self.scale;
        if *present != factor {
            let _ = scale.fill_(factor);
            *present = factor;
        }
        if self.sizes[0].1.is_none() {
            let beside = self.sizes.iter().find_map(|(_, graph)| graph.as_ref());
            let beside = beside.map(|captured| &captured.graph);
            let captured = PassGraph::capture(self.index, beside, part, |input| pass(input, scale))?;
            self.sizes[0].1 = Some(captured);
        }
        Ok(self.sizes[0].1.as_mut().map(|captured| captured.run(part)))
    }
}

impl PassGraph {
    fn capture(
        index: usize,
        beside: Option<&CudaGraph>,
        part: &MicroBatch,
        pass: impl FnOnce(&MicroBatch) -> Result<Option<SampleLoss>, CollectiveError>,
    ) -> Result<Self, CollectiveError> {
        let input = MicroBatch { bytes: part.bytes.copy(), labels: part.labels.copy() };
        let number = || Tensor::zeros([], (Kind::Double, part.labels.device()));
        let mut loss = SampleLoss { sum: number(), normaliser: number() };
        let work = || {
            if let Some(found) = pass(&input)? {
                loss.sum.copy_(&found.sum);
                loss.normaliser.copy_(&found.normaliser);
            }
            Ok(())
        };
        let graph = granted(CudaGraph::capture(index, beside, work))?;
        Ok(Self { graph, input, loss })
    }

    fn run(&mut self, part: &MicroBatch) -> SampleLoss {
        self.input.bytes.copy_(&part.bytes);
        self.input.labels.copy_(&part.labels);
        granted(self.graph.replay());
        let SampleLoss { sum, normaliser } = &self.loss;
        SampleLoss { sum: sum.shallow_clone(), normaliser: normaliser.shallow_clone() }
    }
}

fn granted<T>(result: Result<T, CudaGraphError>) -> T {
    #[expect(clippy::panic, reason = "as every operation of tch that libtorch refuses")]
    result.unwrap_or_else(|error| panic!("{error}"))
}

//! Forward and backward pass through the model, block by block.
//!
//! Each block runs under its own autograd graph: its input is a leaf, and its backward pass starts from the gradient of
//! its output. The caller is therefore notified when the gradients of a block are complete, while the blocks below
//! still have to run; sharded weights are gathered just before they are used; and nothing below the first trained
//! module is recorded.

use crate::aten::backward_from;
use crate::engine::gpu::pass_memory::PassMemory;
use crate::engine::step::block_gather::BlockGather;
use crate::model::Model;
use crate::model::graph::BlockGraph;
use collectives::CollectiveError;
use tch::{Tensor, no_grad};

/// Forward and backward pass through a model whose blocks are replicated, or sharded over ranks.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    model: &'a Model,
    shards: Option<&'a BlockGather>,
    recomputes: bool,
}

/// State that a forward pass stores for the backward pass.
pub struct Tape {
    /// The blocks from the first trained one on.
    blocks: Vec<BlockTape>,
    /// Output of the last block, and the features computed from it.
    end: Option<(Tensor, Tensor)>,
    /// The features, detached from the graph that computed them.
    features: Option<Tensor>,
    /// The note of the memory that this pass takes.
    memory: Option<PassMemory>,
}

/// What one block keeps: its input, and its output with the graph between them unless the block is computed again.
struct BlockTape {
    input: Tensor,
    recorded: Option<(Tensor, BlockGraph)>,
}

impl Tape {
    /// Features `[n, width]`; [`Pass::backward`] starts from their gradient. None without samples.
    pub fn features(&self) -> Option<&Tensor> {
        self.features.as_ref()
    }
}

impl<'a> Pass<'a> {
    /// A pass through `model`; `shards` gathers its blocks if they are sharded.
    pub fn new(model: &'a Model, shards: Option<&'a BlockGather>) -> Self {
        Self { model, shards, recomputes: false }
    }

    /// Whether the backward pass computes each block again, so that only the inputs of blocks are kept.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// Number of blocks whose activations a forward pass keeps for the backward pass.
    pub fn blocks_kept(&self) -> u64 {
        (self.depth() - self.model.first_tuned().min(self.depth())) as u64
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// Features `[n, width]` of images, without gradients; with or without the tuner. A rank without samples must call
    /// this too.
    pub fn features(&self, bytes: Option<&Tensor>, tuned: bool) -> Result<Option<Tensor>, CollectiveError> {
        no_grad(|| {
            let _memory = self.memory(bytes, 0);
            let mut x = bytes.map(|bytes| self.model.stem(bytes));
            for block in 0..self.depth() {
                self.all_gather_block(block, Some((block + 1) % self.depth()))?;
                x = x.map(|x| self.model.block(block, &x, tuned));
            }
            Ok(x.map(|x| self.model.tower().finish(&x)))
        })
    }

    /// Forward, storing what the backward pass needs.
    pub fn forward(&self, bytes: Option<&Tensor>) -> Result<Tape, CollectiveError> {
        let (model, first) = (self.model, self.model.first_tuned());
        let kept = if self.recomputes { 0 } else { self.depth() - first.min(self.depth()) };
        let memory = self.memory(bytes, kept);
        let mut x = bytes.map(|bytes| no_grad(|| model.stem(bytes)));
        let mut blocks = Vec::new();
        for block in 0..self.depth() {
            let after = if block + 1 < self.depth() { Some(block + 1) } else { self.first_after_forward() };
            self.all_gather_block(block, after)?;
            let Some(before) = x.take() else { continue };
            x = Some(if block < first {
                no_grad(|| model.block(block, &before, true))
            } else {
                let input = if block > first { leaf(&before) } else { before };
                // Also where it is computed again it is computed as it will be then, so that the results have the same bits.
                let (output, graph) = self.recorded(block, &input);
                let recorded = (!self.recomputes).then(|| (output.shallow_clone(), graph));
                let output = if self.recomputes { output.detach() } else { output };
                blocks.push(BlockTape { input, recorded });
                memory.iter().for_each(PassMemory::part_done);
                output
            });
        }
        let trained = first < self.depth();
        let end = x.map(|x| {
            let input = if trained { leaf(&x) } else { x };
            let features = model.tower().finish(&input);
            (input, features)
        });
        let features = end.as_ref().map(|(_, f)| if trained { leaf(f) } else { f.shallow_clone() });
        Ok(Tape { blocks, end, features, memory })
    }

    /// Backward from the gradient of the tape's features, which autograd has accumulated there. Calls `unit_done` for
    /// each block whose gradients are complete, from the last to the first trained one, even without samples.
    pub fn backward(
        &self,
        tape: Tape,
        unit_done: &mut dyn FnMut(usize) -> Result<(), CollectiveError>,
    ) -> Result<(), CollectiveError> {
        let first = self.model.first_tuned();
        let Tape { mut blocks, end, features, memory: _memory } = tape;
        let mut gradient = None;
        if let (Some((input, output)), Some(features)) = (end, features)
            && first < self.depth()
        {
            backward_from(&output, &features.grad(), false);
            gradient = Some(input.grad());
        }
        for block in (first..self.depth()).rev() {
            let after = if block > first { block - 1 } else { 0 };
            self.all_gather_block(block, Some(after))?;
            if let (Some(BlockTape { input, recorded }), Some(of_output)) = (blocks.pop(), gradient.take()) {
                let (output, graph) = recorded.unwrap_or_else(|| self.recorded(block, &input));
                graph.backward(output, &of_output);
                gradient = (block > first).then(|| input.grad());
            }
            unit_done(block)?;
        }
        Ok(())
    }

    /// The output of a block, and its graph.
    fn recorded(&self, block: usize, input: &Tensor) -> (Tensor, BlockGraph) {
        let graph = BlockGraph::default();
        (self.model.trained_block(block, input, &graph), graph)
    }

    /// SHA-256 over the frozen weights of the tower, by all ranks together.
    pub fn frozen_fingerprint(&self) -> Result<String, CollectiveError> {
        self.model.frozen_fingerprint(|block| self.all_gather_block(block, None))
    }

    /// Notes the memory of a pass; on a GPU only.
    fn memory(&self, bytes: Option<&Tensor>, parts: usize) -> Option<PassMemory> {
        PassMemory::begin(self.model.device(), bytes?.size()[0] as u64, parts)
    }

    fn depth(&self) -> usize {
        self.model.tower().shape().layers
    }

    /// The block whose weights are needed after those of the last block and are no longer in the ring.
    fn first_after_forward(&self) -> Option<usize> {
        (self.model.first_tuned() == self.depth()).then_some(0)
    }

    fn all_gather_block(&self, block: usize, next: Option<usize>) -> Result<(), CollectiveError> {
        match (self.shards, self.model.slices()) {
            (Some(shards), Some(slices)) => shards.all_gather_block(slices, block, next),
            _ => Ok(()),
        }
    }
}

/// The same values as a leaf of a new graph.
fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

//! Sharded blocks: each process stores one shard of each block.
//!
//! The weights of a block are stored one after the other in one byte buffer, which is split into equal shards, one per
//! process. Before a block runs, its shards are gathered into one of the buffers of a small ring. The block's tensors
//! are views of that buffer, so nothing is copied to use them, and tensors saved by autograd are valid again once the
//! buffer contains the same block.

use crate::weights::uploaded;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The shard of each block on this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPart {
    /// Its number, `0..count`.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
}

/// Buffers for full blocks: one in use, one being filled.
pub const RING: usize = 2;

/// Alignment of the tensors of a block, in bytes.
const ALIGNMENT: usize = 64;
/// The size of a shard is a multiple of the largest element.
const LARGEST_ELEMENT: usize = 8;

/// One of the tensors of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BlockField {
    bytes: Range<usize>,
    shape: Vec<i64>,
    kind: Kind,
}

/// The layout of the frozen tensors of a block in its byte buffer. Trained tensors are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLayout {
    fields: Vec<BlockField>,
    part: BlockPart,
    part_bytes: usize,
}

impl BlockLayout {
    /// For tensors of these shapes and kinds.
    pub fn new(tensors: &[(Vec<i64>, Kind)], part: BlockPart) -> Self {
        let mut end = 0;
        let mut fields = Vec::with_capacity(tensors.len());
        for (shape, kind) in tensors {
            let start = usize::next_multiple_of(end, ALIGNMENT);
            end = start + shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
            fields.push(BlockField { bytes: start..end, shape: shape.clone(), kind: *kind });
        }
        let part_bytes = end.div_ceil(part.count).next_multiple_of(LARGEST_ELEMENT);
        Self { fields, part, part_bytes }
    }

    /// Bytes of a full block, including the padding of its shards.
    pub fn whole_bytes(&self) -> usize {
        self.part_bytes * self.part.count
    }

    /// This process's shard of a block, from its tensors. Only the elements of the shard are read and converted.
    fn cut(&self, tensors: &[Tensor], device: Device) -> Tensor {
        let own = self.part.index * self.part_bytes..(self.part.index + 1) * self.part_bytes;
        let part = Tensor::zeros([self.part_bytes as i64], (Kind::Uint8, device));
        for (field, tensor) in self.fields.iter().zip(tensors) {
            let (start, end) = (field.bytes.start.max(own.start), field.bytes.end.min(own.end));
            if start >= end {
                continue;
            }
            let element = field.kind.elt_size_in_bytes();
            let count = ((end - start) / element) as i64;
            let numbers =
                tensor.reshape([-1]).narrow(0, ((start - field.bytes.start) / element) as i64, count);
            let place = part.narrow(0, (start - own.start) as i64, (end - start) as i64);
            place.view_dtype(field.kind).copy_(&uploaded(&numbers, field.kind, device));
        }
        part
    }

    /// The tensors of a block as views of a buffer.
    fn views(&self, place: &Tensor) -> Vec<Tensor> {
        let view = |field: &BlockField| {
            let bytes = place.narrow(0, field.bytes.start as i64, field.bytes.len() as i64);
            bytes.view_dtype(field.kind).view(field.shape.as_slice())
        };
        self.fields.iter().map(view).collect()
    }
}

/// The shards of all blocks with frozen tensors, and the buffers that they are gathered into.
#[derive(Debug)]
pub struct Slices {
    device: Device,
    /// By block; `None` for a block that is fully trained and therefore replicated.
    layouts: Vec<Option<BlockLayout>>,
    parts: Vec<Option<Tensor>>,
    places: [Tensor; RING],
}

impl Slices {
    /// Without shards yet. `layouts` are those of the blocks, `None` for a block without frozen tensors.
    pub fn new(layouts: Vec<Option<BlockLayout>>, device: Device) -> Self {
        let longest = layouts.iter().flatten().map(BlockLayout::whole_bytes).max().unwrap_or(0) as i64;
        let place = || Tensor::zeros([longest], (Kind::Uint8, device));
        Self { places: [place(), place()], layouts, device, parts: Vec::new() }
    }

    /// Stores this process's shard of the frozen tensors of the next block, and returns views of the block's buffer.
    pub fn push(&mut self, tensors: &[Tensor]) -> Vec<Tensor> {
        let block = self.parts.len();
        let Some(layout) = &self.layouts[block] else {
            self.parts.push(None);
            return Vec::new();
        };
        let views = layout.views(&self.place(block));
        self.parts.push(Some(layout.cut(tensors, self.device)));
        views
    }

    /// This process's shard of a block; `None` if the block is replicated.
    pub fn part(&self, block: usize) -> Option<&Tensor> {
        self.parts.get(block)?.as_ref()
    }

    /// The number of the buffer that a block is gathered into: consecutive blocks use different buffers.
    pub fn place_of(&self, block: usize) -> usize {
        block % RING
    }

    /// The buffer that a block is gathered into.
    pub fn place(&self, block: usize) -> Tensor {
        let place = &self.places[self.place_of(block)];
        let bytes = self.layouts[block].as_ref().map_or(0, BlockLayout::whole_bytes);
        place.narrow(0, 0, bytes as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<Tensor> {
        let numbers = |n: i64, kind| Tensor::arange(n, (Kind::Float, Device::Cpu)).to_kind(kind) + 1.0;
        vec![numbers(35, Kind::Float).view([5, 7]), numbers(9, Kind::BFloat16), numbers(1, Kind::Double)]
    }

    #[test]
    fn the_parts_of_all_processes_make_the_whole() {
        let tensors = tensors();
        let shapes: Vec<_> = tensors.iter().map(|t| (t.size(), t.kind())).collect();
        for count in [1, 2, 3, 4, 7] {
            let parts: Vec<Tensor> = (0..count)
                .map(|index| BlockLayout::new(&shapes, BlockPart { index, count }).cut(&tensors, Device::Cpu))
                .collect();
            let whole = Tensor::cat(&parts, 0);
            let layout = BlockLayout::new(&shapes, BlockPart { index: 0, count });
            assert_eq!(whole.numel(), layout.whole_bytes());
            assert_eq!(layout.views(&whole), tensors, "{count} parts");
        }
    }

    #[test]
    fn a_part_is_read_in_the_kind_it_is_kept_in() {
        let halves = Tensor::from_slice(&[0.5f32, 1.5, -2.0, 4.0]).to_kind(Kind::Half);
        let shapes = [(vec![4], Kind::Float)];
        let layout = BlockLayout::new(&shapes, BlockPart { index: 1, count: 2 });
        let part = layout.cut(&[halves], Device::Cpu).view_dtype(Kind::Float);
        assert_eq!(Vec::<f32>::try_from(part).unwrap(), [-2.0, 4.0]);
    }
}

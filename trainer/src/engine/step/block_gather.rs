//! Sharded blocks of the backbone, which are gathered when they are needed.
//!
//! A block is gathered one block ahead, while the previous block is computed. The tensors that autograd saves for a
//! block are views into its slot of the ring; before the backward pass of the block the slot is filled with the same
//! weights again, so no weights are stored.

use crate::model::slices::{RING, Slices};
use collectives::{CollectiveError, Pending, ProcessGroup};
use std::cell::RefCell;
use std::rc::Rc;
use tch::Tensor;

/// The ranks that share one backbone, and the ring of slots of this rank.
pub struct BlockGather {
    group: Rc<dyn ProcessGroup>,
    places: RefCell<[RingSlot; RING]>,
}

#[derive(Default)]
struct RingSlot {
    /// The block whose weights are in the slot.
    holds: Option<usize>,
    /// The block that is being gathered into the slot.
    coming: Option<(usize, Pending)>,
}

impl BlockGather {
    /// Blocks that are sharded over the ranks of `group`.
    pub fn new(group: Rc<dyn ProcessGroup>) -> Self {
        Self { group, places: RefCell::default() }
    }

    /// Returns when `block` is gathered, and starts to gather `next`, which is needed after it.
    ///
    /// All ranks of the group make the same calls in the same order.
    pub fn all_gather_block(
        &self,
        slices: &Slices,
        block: usize,
        next: Option<usize>,
    ) -> Result<(), CollectiveError> {
        let mut places = self.places.borrow_mut();
        let place = slices.place_of(block);
        if let Some(part) = slices.part(block) {
            self.fetch(&mut places[place], &slices.place(block), block, part)?;
            places[place].arrive()?;
        }
        let next = next.filter(|&next| slices.place_of(next) != place || slices.part(block).is_none());
        if let Some((next, part)) = next.and_then(|next| Some((next, slices.part(next)?))) {
            self.fetch(&mut places[slices.place_of(next)], &slices.place(next), next, part)?;
        }
        Ok(())
    }

    /// Starts to gather `block` into a slot, unless it is there or being gathered.
    fn fetch(
        &self,
        place: &mut RingSlot,
        whole: &Tensor,
        block: usize,
        part: &Tensor,
    ) -> Result<(), CollectiveError> {
        let coming = place.coming.as_ref().map(|(block, _)| *block);
        if coming == Some(block) || (coming.is_none() && place.holds == Some(block)) {
            return Ok(());
        }
        place.arrive()?;
        place.holds = None;
        // Does not increment autograd's version counter: the saved tensors of the block are valid again once the slot
        // is filled.
        let whole = whole.data();
        place.coming = Some((block, self.group.start_all_gather(part, &whole)?));
        Ok(())
    }
}

impl RingSlot {
    /// Waits for a gather in progress.
    fn arrive(&mut self) -> Result<(), CollectiveError> {
        if let Some((block, pending)) = self.coming.take() {
            pending.wait()?;
            self.holds = Some(block);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::slices::{BlockLayout, BlockPart};
    use collectives::Solo;
    use tch::{Device, Kind};

    /// On one rank the gather is a copy, which autograd would count as a change of its saved tensors.
    #[test]
    fn what_autograd_kept_is_used_after_the_place_was_filled_with_another_block_and_again() {
        let layout = BlockLayout::new(&[(vec![2, 2], Kind::Float)], BlockPart { index: 0, count: 1 });
        let mut slices = Slices::new(vec![Some(layout); 4], Device::Cpu);
        let weight = |block: f64| Tensor::full([2, 2], block + 1.0, tch::kind::FLOAT_CPU);
        let views: Vec<Tensor> =
            (0..4).map(|block| slices.push(&[weight(f64::from(block))]).swap_remove(0)).collect();
        let shards = BlockGather::new(Rc::new(Solo));
        let x = Tensor::ones([1, 2], tch::kind::FLOAT_CPU).set_requires_grad(true);
        shards.all_gather_block(&slices, 1, None).unwrap();
        let y = x.matmul(&views[1]).sum(Kind::Float);
        shards.all_gather_block(&slices, 3, None).unwrap();
        shards.all_gather_block(&slices, 1, None).unwrap();
        y.backward();
        assert_eq!(x.grad(), Tensor::full([1, 2], 4.0, tch::kind::FLOAT_CPU));
    }
}

//! Blocks of the backbone that the ranks hold in parts, and that become whole when they are needed.
//!
//! The parts of a block are gathered one block ahead, while the block before is computed. What autograd keeps of a
//! block views its place in the ring; before the block's backward pass the place is filled with the same weights
//! again, so no weight is kept.

use crate::model::slices::{RING, Slices};
use collectives::{CollectiveError, Pending, ProcessGroup};
use std::cell::RefCell;
use std::rc::Rc;
use tch::Tensor;

/// The ranks that hold one backbone together, and what is in the places of this one.
pub struct BlockGather {
    group: Rc<dyn ProcessGroup>,
    places: RefCell<[RingSlot; RING]>,
}

#[derive(Default)]
struct RingSlot {
    /// The block whose weights are there.
    holds: Option<usize>,
    /// The block whose weights are on their way there.
    coming: Option<(usize, Pending)>,
}

impl BlockGather {
    /// Blocks in parts over the ranks of `group`.
    pub fn new(group: Rc<dyn ProcessGroup>) -> Self {
        Self { group, places: RefCell::default() }
    }

    /// Returns when `block` is whole; `next`, which is needed after it, is on its way then.
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

    /// Starts to gather `block` into a place, unless it is there or on its way.
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
        // Without autograd's count of changes: what it kept of the block is valid again once the place is filled.
        let whole = whole.data();
        place.coming = Some((block, self.group.start_all_gather(part, &whole)?));
        Ok(())
    }
}

impl RingSlot {
    /// Waits for what is on its way.
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

    /// On one rank the gather is a copy, which autograd would count as a change of what it kept.
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

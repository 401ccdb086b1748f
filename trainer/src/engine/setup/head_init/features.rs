//! Frozen features of listed images, distributed over ranks.

use crate::engine::eval::bad_images::BadImages;
use crate::engine::eval::dataset_pass::DatasetPass;
use crate::engine::failure::Failure;
use crate::engine::step::pass::Pass;
use crate::engine::step::shard_tree::ShardTree;
use collectives::{CollectiveError, ReduceOp};
use std::cell::RefCell;
use std::ops::Range;
use tch::{Tensor, no_grad};

/// A list of images; its features are computed again for each call.
///
/// Each rank has some parts of the list: one, or with a tree those of its virtual shards. The results of the parts are
/// added in the order of the tree, so that the sum is bitwise the same on any number of ranks.
pub struct Features<'a> {
    /// How the images are read.
    pub walk: DatasetPass<'a>,
    /// Forward pass through the model.
    pub pass: Pass<'a>,
    /// Number of classes.
    pub classes: i64,
    /// The tree in which virtual shards are added, under `any_world`.
    pub tree: Option<ShardTree>,
    /// Images that are left out so far; a pass adds those that it encounters.
    pub bad_images: &'a RefCell<BadImages>,
}

impl Features<'_> {
    /// Width of a feature.
    pub fn width(&self) -> i64 {
        self.pass.model().tower().shape().width
    }

    /// Parts of this rank.
    pub fn parts(&self) -> usize {
        let own = self.own();
        (own.end - own.start) as usize
    }

    /// Calls `each` batch by batch with the index of a part among this rank's, features `[n, width]` and labels `[n]`.
    /// All ranks call this.
    pub fn for_each(&self, mut each: impl FnMut(usize, &Tensor, &Tensor)) -> Result<(), Failure> {
        let own = self.own();
        for place in 0..self.tree.map_or(1, |tree| tree.most()) {
            let part = Some(own.start + place).filter(|part| own.contains(part));
            self.walk.through(part, &mut self.bad_images.borrow_mut(), |batch| {
                let batch = batch.map(|(_, on_device)| on_device);
                let features = self.pass.features(batch.map(|batch| &batch.bytes), false)?;
                if let Some((features, batch)) = features.zip(batch) {
                    no_grad(|| each(place as usize, &features, &batch.labels));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Adds one tensor per part over all ranks.
    pub fn sum(&self, mut parts: Vec<Tensor>) -> Result<Tensor, CollectiveError> {
        let group = self.walk.rank.group.as_ref();
        if let Some(tree) = self.tree {
            return tree.sum(parts, group);
        }
        let mut sum = parts.swap_remove(0);
        group.all_reduce(&mut sum, ReduceOp::Sum)?;
        Ok(sum)
    }

    fn own(&self) -> Range<u64> {
        let rank = self.walk.rank.number() as u64;
        self.tree.map_or(rank..rank + 1, |tree| tree.of_rank(rank))
    }
}

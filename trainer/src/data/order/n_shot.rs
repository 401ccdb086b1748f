//! N-shot order: at most `shots` images of each class, then instance-balanced over these.
//!
//! Length, class counts and "each image at most once" are those of LIFT's `DownSampler`
//! (`utils/samplers.py`), which the official code uses for class means. Unlike there the images are chosen
//! once by the seed and stay the same in all epochs, as few-shot training asks. With `shots` at or above the
//! largest class the order is the instance-balanced one.

use super::EpochOrder;
use super::class_index::ClassIndex;
use super::instance::Instance;
use super::key::{Key, KeyPurpose};
use super::permutation::Permutation;

/// An instance-balanced order over a chosen subset.
#[derive(Debug)]
pub(super) struct NShot {
    /// The chosen samples, in rising order.
    chosen: Box<[u32]>,
    instance: Instance,
    shots: u32,
}

impl NShot {
    pub(super) fn new(index: &ClassIndex, shots: u32, seed: u64) -> Self {
        let key = Key::new(seed, KeyPurpose::Shots);
        let kept = |count: u64| count.min(u64::from(shots));
        let total: u64 = index.iter().map(|class| kept(class.count)).sum();
        let mut chosen = Vec::with_capacity(total as usize);
        for (row, class) in (0..).zip(index.iter()) {
            let order = Permutation::new(class.count, key.with(row));
            chosen
                .extend((0..kept(class.count)).map(|shot| index.sample(class.start + order.at(shot)) as u32));
        }
        chosen.sort_unstable();
        Self { chosen: chosen.into_boxed_slice(), instance: Instance::new(total, seed), shots }
    }
}

impl EpochOrder for NShot {
    fn len(&self, epoch: u64) -> u64 {
        self.instance.len(epoch)
    }

    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        self.instance.places(epoch)
    }

    fn sample(&self, place: u64) -> u64 {
        u64::from(self.chosen[place as usize])
    }

    fn class_weight(&self, _epoch: u64, count: u32) -> f64 {
        f64::from(count.min(self.shots))
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.chosen)
    }
}

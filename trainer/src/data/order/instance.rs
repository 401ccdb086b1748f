//! Instance-balanced order: each image once per epoch, in a keyed permutation.

use super::EpochOrder;
use super::key::{Key, KeyPurpose};
use super::permutation::Permutation;

/// One permutation of all images per epoch. It needs no memory.
#[derive(Debug)]
pub(super) struct Instance {
    samples: u64,
    key: Key,
}

impl Instance {
    pub(super) fn new(samples: u64, seed: u64) -> Self {
        Self { samples, key: Key::new(seed, KeyPurpose::Instance) }
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples
    }
}

impl EpochOrder for Instance {
    fn len(&self, _epoch: u64) -> u64 {
        self.samples
    }

    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let permutation = Permutation::new(self.samples, self.key.with(epoch));
        move |position| permutation.at(position)
    }

    fn class_weight(&self, _epoch: u64, count: u32) -> f64 {
        f64::from(count)
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

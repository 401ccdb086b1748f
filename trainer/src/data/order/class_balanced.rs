//! Class-balanced order: at each position a class, uniform over those that have images, then one of its
//! images, uniform, both with replacement (Kang et al., "Decoupling representation and classifier for
//! long-tailed recognition", ICLR 2020, equation 1 with q = 0).

use super::EpochOrder;
use super::class_index::ClassIndex;
use super::key::{Key, KeyPurpose, below};

/// Independent keyed draws of a class and an image.
#[derive(Debug)]
pub(super) struct ClassBalanced {
    index: ClassIndex,
    samples: u64,
    key: Key,
}

impl ClassBalanced {
    pub(super) fn new(index: ClassIndex, samples: u64, seed: u64) -> Self {
        Self { index, samples, key: Key::new(seed, KeyPurpose::Draw) }
    }

    /// The number of classes that have images.
    pub(super) fn classes(&self) -> u64 {
        self.index.rows()
    }
}

impl EpochOrder for ClassBalanced {
    fn len(&self, _epoch: u64) -> u64 {
        self.samples
    }

    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let key = self.key.with(epoch);
        move |position| {
            let bits = key.with(position).bits();
            self.index.row(below(bits, self.index.rows())).draw(bits)
        }
    }

    fn sample(&self, place: u64) -> u64 {
        self.index.sample(place)
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
    }
}

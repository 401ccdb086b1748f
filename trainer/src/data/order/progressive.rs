//! Progressively balanced order (Kang et al., ICLR 2020, equation 2): in epoch e of E the class probabilities
//! are (1 - t) * instance-balanced + t * class-balanced with t = e / (E - 1).
//!
//! At each position a key decides between the two orders, and the chosen one answers for that position. So
//! the first epoch is the instance-balanced one, each image once, and epoch E - 1 and all later ones are
//! class-balanced. With E = 1 the only epoch is the first.

use super::EpochOrder;
use super::class_balanced::ClassBalanced;
use super::instance::Instance;
use super::key::{Key, KeyPurpose};

/// A mixture of the instance-balanced and the class-balanced order.
#[derive(Debug)]
pub(super) struct Progressive {
    instance: Instance,
    balanced: ClassBalanced,
    epochs: u64,
    key: Key,
}

impl Progressive {
    pub(super) fn new(instance: Instance, balanced: ClassBalanced, epochs: u64, seed: u64) -> Self {
        Self { instance, balanced, epochs, key: Key::new(seed, KeyPurpose::Mixture) }
    }

    /// t, the probability of the class-balanced order.
    fn balanced_share(&self, epoch: u64) -> f64 {
        if epoch == 0 { 0.0 } else { (epoch as f64 / (self.epochs.max(2) - 1) as f64).min(1.0) }
    }
}

impl EpochOrder for Progressive {
    fn len(&self, epoch: u64) -> u64 {
        self.instance.len(epoch)
    }

    /// The places are samples: the two orders have no table in common.
    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let mut instance = self.instance.places(epoch);
        let mut balanced = self.balanced.places(epoch);
        let key = self.key.with(epoch);
        // 2^64 for t = 1, which is above every draw.
        let below = (self.balanced_share(epoch) * 18_446_744_073_709_551_616.0) as u128;
        move |position| {
            if u128::from(key.with(position).bits()) < below {
                self.balanced.sample(balanced(position))
            } else {
                instance(position)
            }
        }
    }

    fn class_weight(&self, epoch: u64, count: u32) -> f64 {
        let t = self.balanced_share(epoch);
        (1.0 - t) * self.instance.class_weight(epoch, count) / self.instance.samples() as f64
            + t * self.balanced.class_weight(epoch, count) / self.balanced.classes() as f64
    }

    fn memory_bytes(&self) -> usize {
        self.balanced.memory_bytes()
    }
}

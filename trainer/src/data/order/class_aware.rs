//! Class-aware order, the rule of LIFT's `ClassAwareSampler` (`utils/samplers.py`; first in Shen, Lin and
//! Huang, "Relay backpropagation for effective learning of deep convolutional neural networks", ECCV 2016).
//!
//! The classes that have images are visited in a shuffled cycle, newly shuffled each time round. A visit
//! yields `samples_per_class` images of its class in a row, taken from the class's own shuffled cycle of
//! images. An epoch has (largest class count) x (number of classes that have images) positions.
//!
//! **Epoch boundary**, as in LIFT: cycles of classes and of images continue over epochs. Each epoch
//! starts with a new visit. When the epoch's length is no multiple of `samples_per_class` its last visit is
//! cut short, and the images that it would still have yielded have had their turn.
//!
//! So every position is computed by arithmetic. With `V` visits per epoch, the epoch's visit `v` is the
//! run's visit `epoch * V + v`: the remainder by the number of classes is its place in the class cycle, the
//! quotient the number of the cycle. A class is visited once in each cycle: cycle `k` is its visit `k`, and
//! image `j` of that visit is the class's draw `k * samples_per_class + j`: the remainder by its image count
//! is the place in the image cycle, the quotient the number of the pass.

use super::EpochOrder;
use super::class_index::{ClassIndex, ClassRow};
use super::key::{Key, KeyPurpose};
use super::permutation::Permutation;

/// Shuffled cycles over the classes and over each class's images.
#[derive(Debug)]
pub(super) struct ClassAware {
    index: ClassIndex,
    samples_per_class: u64,
    len: u64,
    cycle_key: Key,
    pass_key: Key,
}

/// A visit of an epoch to a class.
#[derive(Clone, Copy, Debug)]
struct Visit {
    /// Its number in the epoch.
    number: u64,
    /// The class's draw that it starts with, counted over the run.
    first_draw: u64,
    row: u64,
    class: ClassRow,
}

impl ClassAware {
    pub(super) fn new(index: ClassIndex, samples_per_class: u32, seed: u64) -> Self {
        let largest = index.iter().map(|row| row.count).max().unwrap_or(0);
        Self {
            // Both factors are below 2^32.
            len: largest * index.rows(),
            index,
            samples_per_class: u64::from(samples_per_class),
            cycle_key: Key::new(seed, KeyPurpose::ClassCycle),
            pass_key: Key::new(seed, KeyPurpose::ClassPass),
        }
    }
}

impl EpochOrder for ClassAware {
    fn len(&self, _epoch: u64) -> u64 {
        self.len
    }

    /// Cycle and draw numbers are kept modulo 2^64, which no run of fewer than 2^31 epochs reaches.
    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let (rows, per_visit) = (self.index.rows(), self.samples_per_class);
        let first_visit = u128::from(epoch) * u128::from(self.len.div_ceil(per_visit));
        let first_cycle = (first_visit / u128::from(rows)) as u64;
        let first_place = (first_visit % u128::from(rows)) as u64;
        let visit = move |number: u64| {
            let visit = first_place + number;
            let cycle = first_cycle.wrapping_add(visit / rows);
            let row = Permutation::new(rows, self.cycle_key.with(cycle)).at(visit % rows);
            Visit { number, first_draw: cycle.wrapping_mul(per_visit), row, class: self.index.row(row) }
        };
        // Consecutive positions mostly belong to one visit. When access is sequential, visits are computed one ahead,
        // so that the look-up of the class has time to finish.
        let (mut current, mut ahead): (Option<Visit>, Option<Visit>) = (None, None);
        move |position| {
            let number = position / per_visit;
            let Visit { first_draw, row, class, .. } = match current {
                Some(known) if known.number == number => known,
                before => {
                    let found = ahead.filter(|next| next.number == number).unwrap_or_else(|| visit(number));
                    ahead = before.map(|_| visit(number + 1));
                    *current.insert(found)
                }
            };
            let draw = first_draw.wrapping_add(position % per_visit);
            let pass_key = self.pass_key.with(row).with(draw / class.count);
            class.start + Permutation::new(class.count, pass_key).at(draw % class.count)
        }
    }

    fn sample(&self, place: u64) -> u64 {
        self.index.sample(place)
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The visits kept between positions change the cost, not the answer.
    #[test]
    fn positions_may_come_in_any_order() {
        let labels: Vec<u32> = (0..60).map(|sample| sample % 11 % 7).collect();
        let mut counts = [0; 7];
        for &label in &labels {
            counts[label as usize] += 1;
        }
        let order = ClassAware::new(ClassIndex::new(&labels, &counts), 3, 5);
        let mut places = order.places(2);
        for step in [1, 2, 3, 7, order.len(2) - 1] {
            for i in 0..order.len(2) {
                let position = i * step % order.len(2);
                assert_eq!(places(position), order.places(2)(position), "step {step}, position {position}");
            }
        }
    }
}

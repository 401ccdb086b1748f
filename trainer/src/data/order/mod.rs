//! The global sample order: which sample is trained at which position of which epoch.
//!
//! [`Order`] is a pure function of (seed, epoch, position) and the labels (laws 3 and 6). It knows nothing of
//! ranks, threads, models or of what was asked before, and reaches any position without walking to it, in
//! constant time (`repeat_factor` adds a short search among the classes). No list per epoch exists. Beside
//! the caller's labels it keeps a count per class and, where a sampler draws by class, the sample indices
//! sorted by class (four bytes each); [`Order::memory_bytes`] returns the total.
//!
//! [`shard`] divides the positions of a global batch over ranks. One sampler a file, all with the same items;
//! `key` and `permutation` hold the keyed draws that they are made of.
//!
//! Classes without images are never drawn: samplers that visit or draw classes pass over them, so their
//! probability in [`Order::distribution`] is zero.

mod class_aware;
mod class_balanced;
mod class_index;
mod instance;
mod key;
mod n_shot;
mod permutation;
mod progressive;
mod repeat_factor;
pub mod shard;
mod square_root;

#[cfg(test)]
mod tests;

use std::ops::Range;

use class_aware::ClassAware;
use class_balanced::ClassBalanced;
use class_index::ClassIndex;
use instance::Instance;
use n_shot::NShot;
use progressive::Progressive;
use repeat_factor::RepeatFactor;
use square_root::SquareRoot;

/// How samples are chosen for an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// `instance`: each image once per epoch, shuffled.
    Instance,
    /// `class_aware`: classes in a shuffled cycle, each visit yielding some images of the class from its own
    /// shuffled cycle, as LIFT's `ClassAwareSampler`.
    ClassAware {
        /// Images that a visit yields in a row; LIFT's default is 4.
        samples_per_class: u32,
    },
    /// `class_balanced`: a class uniformly, then one of its images, with replacement.
    ClassBalanced,
    /// `square_root`: a class with probability proportional to the square root of its image count, then one
    /// of its images, with replacement.
    SquareRoot,
    /// `repeat_factor`: each image of class c max(1, sqrt(threshold / f(c))) times per epoch in expectation,
    /// as LVIS.
    RepeatFactor {
        /// The share of images below which a class is repeated, above 0 and at most 1; LVIS uses 0.001.
        threshold: f64,
    },
    /// `progressive`: from instance-balanced in the first epoch to class-balanced in the last.
    Progressive {
        /// Epochs of the run.
        epochs: u64,
    },
    /// `n_shot`: at most some images of each class, the same in all epochs, shuffled.
    NShot {
        /// Images kept of each class.
        shots: u32,
    },
}

impl Sampler {
    /// All names, as `data.sampler` has them.
    pub const NAMES: [&'static str; 7] = [
        "instance",
        "class_aware",
        "class_balanced",
        "square_root",
        "repeat_factor",
        "progressive",
        "n_shot",
    ];

    /// The name in the configuration.
    pub fn name(&self) -> &'static str {
        let place = match self {
            Self::Instance => 0,
            Self::ClassAware { .. } => 1,
            Self::ClassBalanced => 2,
            Self::SquareRoot => 3,
            Self::RepeatFactor { .. } => 4,
            Self::Progressive { .. } => 5,
            Self::NShot { .. } => 6,
        };
        Self::NAMES[place]
    }
}

/// Labels or sampler settings for which there is no order.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// The list of labels is empty.
    #[error(
        "the training list has no samples: expected at least one\nhint: check the list file and the data root"
    )]
    NoSamples,
    /// More samples than a 32-bit index can represent.
    #[error("the training list has {found} samples: expected at most {}\nhint: split the list", u32::MAX)]
    TooManySamples {
        /// Samples in the list.
        found: usize,
    },
    /// More classes than a 32-bit label can represent.
    #[error(
        "the data set declares {found} classes: expected at most {}\nhint: check the class names",
        u32::MAX
    )]
    TooManyClasses {
        /// Classes declared.
        found: usize,
    },
    /// A label outside the classes.
    #[error(
        "sample {sample} has label {label}: expected a label below the number of classes, {classes}\nhint: \
         correct the list or the class names"
    )]
    LabelOutOfRange {
        /// Index of the sample in the list, from 0.
        sample: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A class-aware order whose visits yield nothing.
    #[error("sampler `class_aware` takes 0 samples per class: expected at least 1; LIFT uses 4")]
    ZeroSamplesPerClass,
    /// A threshold outside (0, 1].
    #[error(
        "sampler `repeat_factor` has threshold {threshold}: expected a share of the images, above 0 and \
         at most 1; LVIS uses 0.001"
    )]
    RepeatThreshold {
        /// The threshold given.
        threshold: f64,
    },
    /// Repeats add up to more positions than can be counted.
    #[error(
        "sampler `repeat_factor` with threshold {threshold} makes an epoch of more positions than 2^44: \
         expected fewer\nhint: lower the threshold"
    )]
    EpochTooLong {
        /// The threshold given.
        threshold: f64,
    },
    /// A progressive order over no epochs.
    #[error(
        "sampler `progressive` runs over 0 epochs: expected at least 1\nhint: set it to the epochs of the run"
    )]
    ZeroEpochs,
    /// An n-shot order that keeps no image.
    #[error("sampler `n_shot` keeps 0 images of each class: expected at least 1")]
    ZeroShots,
}

/// The order of samples of a whole run.
#[derive(Debug)]
pub struct Order {
    sampler: Sampler,
    /// Images per class.
    counts: Box<[u32]>,
    kind: EpochKind,
}

#[derive(Debug)]
enum EpochKind {
    Instance(Instance),
    ClassAware(ClassAware),
    ClassBalanced(ClassBalanced),
    SquareRoot(SquareRoot),
    RepeatFactor(RepeatFactor),
    Progressive(Progressive),
    NShot(NShot),
}

/// The interface of all samplers.
trait EpochOrder {
    /// The number of positions in an epoch.
    fn len(&self, epoch: u64) -> u64;

    /// From a position of the epoch to a place in the sampler's table of samples. What the whole epoch has in
    /// common is computed once.
    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64;

    /// The sample at a place of the table; the place itself where a sampler has no table.
    fn sample(&self, place: u64) -> u64 {
        place
    }

    /// How often a class of `count` images comes in an epoch, up to a factor common to all classes. By default, all
    /// classes that have images come equally often.
    fn class_weight(&self, epoch: u64, count: u32) -> f64 {
        let _ = epoch;
        f64::from(count.min(1))
    }

    /// Heap memory held, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// Evaluates an expression that reads alike for every sampler.
macro_rules! for_each_kind {
    ($kind:expr, $inner:ident => $value:expr) => {
        match $kind {
            EpochKind::Instance($inner) => $value,
            EpochKind::ClassAware($inner) => $value,
            EpochKind::ClassBalanced($inner) => $value,
            EpochKind::SquareRoot($inner) => $value,
            EpochKind::RepeatFactor($inner) => $value,
            EpochKind::Progressive($inner) => $value,
            EpochKind::NShot($inner) => $value,
        }
    };
}

impl Order {
    /// The order of `sampler` over samples whose class is `labels[sample]`. The labels are read here and not
    /// kept.
    pub fn new(sampler: Sampler, labels: &[u32], classes: usize, seed: u64) -> Result<Self, OrderError> {
        check(sampler)?;
        let counts = count(labels, classes)?;
        let samples = labels.len() as u64;
        let index = || ClassIndex::new(labels, &counts);
        let instance = || Instance::new(samples, seed);
        let balanced = || ClassBalanced::new(index(), samples, seed);
        let kind = match sampler {
            Sampler::Instance => EpochKind::Instance(instance()),
            Sampler::ClassAware { samples_per_class } => {
                EpochKind::ClassAware(ClassAware::new(index(), samples_per_class, seed))
            }
            Sampler::ClassBalanced => EpochKind::ClassBalanced(balanced()),
            Sampler::SquareRoot => EpochKind::SquareRoot(SquareRoot::new(index(), samples, seed)),
            Sampler::RepeatFactor { threshold } => {
                EpochKind::RepeatFactor(RepeatFactor::new(index(), samples, threshold, seed)?)
            }
            Sampler::Progressive { epochs } => {
                EpochKind::Progressive(Progressive::new(instance(), balanced(), epochs, seed))
            }
            Sampler::NShot { shots } => EpochKind::NShot(NShot::new(&index(), shots, seed)),
        };
        Ok(Self { sampler, counts, kind })
    }

    /// The number of positions in an epoch. Only `repeat_factor` has epochs of different lengths.
    pub fn len(&self, epoch: u64) -> u64 {
        for_each_kind!(&self.kind, order => order.len(epoch))
    }

    /// The sample at a position of an epoch.
    ///
    /// # Panics
    /// If `position` is not below `len(epoch)`.
    pub fn sample_at(&self, epoch: u64, position: u64) -> u64 {
        self.check_end(epoch, position.saturating_add(1));
        for_each_kind!(&self.kind, order => order.sample(order.places(epoch)(position)))
    }

    /// Replaces the content of `samples` by the samples at `positions` of an epoch: `sample_at` for many at
    /// less cost.
    ///
    /// # Panics
    /// If `positions` ends after `len(epoch)`.
    pub fn fill(&self, epoch: u64, positions: Range<u64>, samples: &mut Vec<u64>) {
        self.check_end(epoch, positions.end);
        samples.clear();
        for_each_kind!(&self.kind, order => {
            samples.extend(positions.map(order.places(epoch)));
            // A loop of its own, so that the cache misses of many look-ups overlap.
            for place in samples.iter_mut() {
                *place = order.sample(*place);
            }
        });
    }

    /// The probability of each class at a position of an epoch, which is what a loss that corrects for class
    /// frequencies must take as its prior.
    pub fn distribution(&self, epoch: u64) -> Vec<f64> {
        let weight = |&count: &u32| for_each_kind!(&self.kind, order => order.class_weight(epoch, count));
        let mut weights: Vec<f64> = self.counts.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        weights
    }

    /// The sampler that it was made with.
    pub fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// Images per class of the whole list, before any sampling.
    pub fn class_counts(&self) -> &[u32] {
        &self.counts
    }

    /// Heap memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.counts) + for_each_kind!(&self.kind, order => order.memory_bytes())
    }

    fn check_end(&self, epoch: u64, end: u64) {
        let len = self.len(epoch);
        assert!(end <= len, "positions up to {end} asked of epoch {epoch}, which has {len}");
    }
}

/// Refuses settings that are invalid for every list of samples.
fn check(sampler: Sampler) -> Result<(), OrderError> {
    match sampler {
        Sampler::ClassAware { samples_per_class: 0 } => Err(OrderError::ZeroSamplesPerClass),
        Sampler::RepeatFactor { threshold } if !(threshold > 0.0 && threshold <= 1.0) => {
            Err(OrderError::RepeatThreshold { threshold })
        }
        Sampler::Progressive { epochs: 0 } => Err(OrderError::ZeroEpochs),
        Sampler::NShot { shots: 0 } => Err(OrderError::ZeroShots),
        _ => Ok(()),
    }
}

/// Images per class.
fn count(labels: &[u32], classes: usize) -> Result<Box<[u32]>, OrderError> {
    if labels.is_empty() {
        return Err(OrderError::NoSamples);
    }
    if u32::try_from(labels.len()).is_err() {
        return Err(OrderError::TooManySamples { found: labels.len() });
    }
    if u32::try_from(classes).is_err() {
        return Err(OrderError::TooManyClasses { found: classes });
    }
    let mut counts = vec![0_u32; classes].into_boxed_slice();
    for (sample, &label) in labels.iter().enumerate() {
        let count =
            counts.get_mut(label as usize).ok_or(OrderError::LabelOutOfRange { sample, label, classes })?;
        *count += 1;
    }
    Ok(counts)
}

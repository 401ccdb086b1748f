//! Class frequencies, and the rule for classes with frequency zero.

use crate::options::{section, words};

section! {
    /// Source of the class frequencies of losses.
    pub struct FrequencyOptions in "loss" {
        /// Class frequencies that are used as the prior. `ldam` and `class_balanced` are defined by image counts and
        /// always use the counts of the training list.
        pub prior: Prior = Prior::Sampler,
    }
}

words! {
    /// Class frequencies.
    pub enum Prior {
        /// Frequencies of the classes that the sampler draws.
        Sampler = "sampler",
        /// Image counts of the training list.
        Counts = "counts",
    }
}

/// The frequency of each class in training, up to a common factor: counts of images, or probabilities.
///
/// **A class with frequency zero gets the frequency of the rarest class that occurs.** So priors, margins and weights
/// are finite. Those of the other classes do not change, because the class does not count in the total.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    values: Vec<f64>,
    total: f64,
}

impl Frequencies {
    /// Of classes in the order of their labels; 0 stands for a class that never comes.
    pub fn new(found: &[f64]) -> Self {
        let rarest = found.iter().copied().filter(|&value| value > 0.0).reduce(f64::min).unwrap_or(1.0);
        let values = found.iter().map(|&value| if value > 0.0 { value } else { rarest }).collect();
        let total: f64 = found.iter().sum();
        Self { values, total: if total > 0.0 { total } else { rarest } }
    }

    /// A positive number for each class.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The share of each class in what comes.
    pub fn shares(&self) -> Vec<f64> {
        self.values.iter().map(|value| value / self.total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_never_comes_is_as_rare_as_the_rarest_and_changes_no_other() {
        let (with, without) = (Frequencies::new(&[6.0, 0.0, 2.0]), Frequencies::new(&[6.0, 2.0]));
        assert_eq!(with.values(), [6.0, 2.0, 2.0]);
        assert_eq!(with.shares(), [0.75, 0.25, 0.25]);
        assert_eq!(without.shares(), [0.75, 0.25]);
    }

    #[test]
    fn classes_that_all_never_come_have_finite_shares() {
        assert_eq!(Frequencies::new(&[0.0, 0.0]).shares(), [1.0, 1.0]);
    }
}

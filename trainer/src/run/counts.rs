//! Integer counts of an evaluation. All accuracy figures follow from them.
//!
//! Integer sums do not depend on their order. Counts that any number of ranks take over any partition of the test
//! images and then sum are therefore bitwise equal to those of one process (law 2).

/// For each class: its correctly classified test images, its test images, and how often it was predicted.
///
/// All arrays have one entry per class of the data set, also for classes without a test image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    classes: usize,
    /// `correct`, `total` and `predicted`, concatenated, so that one reduction sums all of them.
    flat: Vec<i64>,
}

/// Predictions and labels that cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    /// Every image needs one prediction and one label.
    #[error("expected as many predictions as labels, found {predictions} predictions and {labels} labels")]
    Lengths {
        /// Number of predictions.
        predictions: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A class number outside the data set.
    #[error("{what} {found} of image {image} of the batch is not a class; expected 0 to {} of {classes} classes",
        classes.saturating_sub(1))]
    Class {
        /// `prediction` or `label`.
        what: &'static str,
        /// Its index in the batch.
        image: usize,
        /// The number found.
        found: i64,
        /// Number of classes.
        classes: usize,
    },
    /// Counts of data sets with different classes.
    #[error("expected counts of {expected} classes, found {found}; the counts belong to another data set")]
    Classes {
        /// Number of classes here.
        expected: usize,
        /// Number of classes of the other counts.
        found: usize,
    },
}

impl ClassCounts {
    /// Counts that are all zero.
    pub fn new(classes: usize) -> Self {
        Self { classes, flat: vec![0; 3 * classes] }
    }

    /// Adds a batch: the predicted class and the true class of each image. On an error nothing is added.
    pub fn add(&mut self, predictions: &[i64], labels: &[i64]) -> Result<(), CountsError> {
        if predictions.len() != labels.len() {
            return Err(CountsError::Lengths { predictions: predictions.len(), labels: labels.len() });
        }
        self.check("prediction", predictions)?;
        self.check("label", labels)?;
        let (correct, rest) = self.flat.split_at_mut(self.classes);
        let (total, predicted) = rest.split_at_mut(self.classes);
        for (prediction, label) in predictions.iter().zip(labels) {
            total[*label as usize] += 1;
            predicted[*prediction as usize] += 1;
            correct[*label as usize] += i64::from(prediction == label);
        }
        Ok(())
    }

    /// Adds the counts of other images of the same data set.
    pub fn merge(&mut self, other: &Self) -> Result<(), CountsError> {
        if self.classes != other.classes {
            return Err(CountsError::Classes { expected: self.classes, found: other.classes });
        }
        for (mine, theirs) in self.flat.iter_mut().zip(&other.flat) {
            *mine += theirs;
        }
        Ok(())
    }

    /// Number of classes of the data set.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Per class: its correctly classified images.
    pub fn correct(&self) -> &[i64] {
        &self.flat[..self.classes]
    }

    /// Per class: its images.
    pub fn total(&self) -> &[i64] {
        &self.flat[self.classes..2 * self.classes]
    }

    /// Per class: how many images were predicted as it.
    pub fn predicted(&self) -> &[i64] {
        &self.flat[2 * self.classes..]
    }

    /// All counts in one row of `3 * classes` integers, to be summed over the ranks in place.
    pub fn flat_mut(&mut self) -> &mut [i64] {
        &mut self.flat
    }

    fn check(&self, what: &'static str, numbers: &[i64]) -> Result<(), CountsError> {
        let valid = |number: &i64| usize::try_from(*number).is_ok_and(|class| class < self.classes);
        match numbers.iter().position(|number| !valid(number)) {
            None => Ok(()),
            Some(image) => {
                Err(CountsError::Class { what, image, found: numbers[image], classes: self.classes })
            }
        }
    }
}

/// The class with the greatest logit; of equal maxima the first, as in libtorch on the CPU and in the official code.
/// None for an empty row. A row with NaN has the first NaN as its maximum, also as in libtorch.
pub fn first_maximum(logits: &[f64]) -> Option<usize> {
    if let Some(nan) = logits.iter().position(|logit| logit.is_nan()) {
        return Some(nan);
    }
    let mut best = None;
    for (class, logit) in logits.iter().enumerate() {
        if best.is_none_or(|(_, greatest)| *logit > greatest) {
            best = Some((class, *logit));
        }
    }
    best.map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_by_label_and_by_prediction() {
        let mut counts = ClassCounts::new(4);
        counts.add(&[0, 1, 1, 3], &[0, 0, 1, 1]).unwrap();
        assert_eq!(counts.correct(), [1, 1, 0, 0]);
        assert_eq!(counts.total(), [2, 2, 0, 0]);
        assert_eq!(counts.predicted(), [1, 2, 0, 1]);
        assert_eq!(counts.flat_mut(), [1, 1, 0, 0, 2, 2, 0, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn what_cannot_be_counted_is_refused_and_changes_nothing() {
        let mut counts = ClassCounts::new(3);
        let refusals: [(&[i64], &[i64], &str); 4] = [
            (&[0], &[0, 1], "expected as many predictions as labels, found 1 predictions and 2 labels"),
            (
                &[0, 3],
                &[0, 1],
                "prediction 3 of image 1 of the batch is not a class; expected 0 to 2 of 3 classes",
            ),
            (
                &[0, 1],
                &[-1, 1],
                "label -1 of image 0 of the batch is not a class; expected 0 to 2 of 3 classes",
            ),
            (
                &[0],
                &[i64::MAX],
                "label 9223372036854775807 of image 0 of the batch is not a class; expected 0 to 2 of 3 classes",
            ),
        ];
        for (predictions, labels, message) in refusals {
            assert_eq!(counts.add(predictions, labels).unwrap_err().to_string(), message);
        }
        assert_eq!(
            counts.merge(&ClassCounts::new(2)).unwrap_err().to_string(),
            "expected counts of 3 classes, found 2; the counts belong to another data set"
        );
        assert_eq!(counts, ClassCounts::new(3));
        assert!(ClassCounts::new(0).add(&[0], &[0]).is_err());
    }

    #[test]
    fn of_equal_maxima_the_first() {
        assert_eq!(first_maximum(&[]), None);
        assert_eq!(first_maximum(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(first_maximum(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
        assert_eq!(first_maximum(&[-0.0, 0.0]), Some(0));
        assert_eq!(first_maximum(&[1.0, f64::NAN, 3.0, f64::NAN]), Some(1));
    }

    proptest! {
        /// Any partition of the images over any number of ranks, in any batches and summed in any order, equals one
        /// process.
        #[test]
        fn any_split_over_ranks_is_one_process(
            classes in 1_i64..12,
            images in proptest::collection::vec((any::<u32>(), any::<u32>(), 0_usize..9, any::<bool>()), 0..200),
            world in 1_usize..9,
        ) {
            let image = |at: usize| {
                let (prediction, label, ..) = images[at];
                (i64::from(prediction) % classes, i64::from(label) % classes)
            };
            let (predictions, labels): (Vec<i64>, Vec<i64>) = (0..images.len()).map(image).unzip();
            let mut whole = ClassCounts::new(classes as usize);
            whole.add(&predictions, &labels).unwrap();

            let mut ranks = vec![ClassCounts::new(classes as usize); world];
            for (rank, counts) in ranks.iter_mut().enumerate() {
                let (mut predictions, mut labels) = (Vec::new(), Vec::new());
                for (at, (.., owner, cut)) in images.iter().enumerate() {
                    if owner % world != rank {
                        continue;
                    }
                    predictions.push(image(at).0);
                    labels.push(image(at).1);
                    if *cut {
                        counts.add(&predictions, &labels).unwrap();
                        (predictions, labels) = (Vec::new(), Vec::new());
                    }
                }
                counts.add(&predictions, &labels).unwrap();
            }

            let mut merged = ClassCounts::new(classes as usize);
            for counts in ranks.iter().rev() {
                merged.merge(counts).unwrap();
            }
            prop_assert_eq!(&merged, &whole);

            let mut reduced = ranks[0].clone();
            for other in &mut ranks[1..] {
                for (sum, part) in reduced.flat_mut().iter_mut().zip(other.flat_mut()) {
                    *sum += *part;
                }
            }
            prop_assert_eq!(&reduced, &whole);
            prop_assert_eq!(whole.total().iter().sum::<i64>(), images.len() as i64);
            prop_assert_eq!(whole.predicted().iter().sum::<i64>(), images.len() as i64);
        }
    }
}

//! Figures of one run that its tables and charts share.

use crate::records::result::ResultRecord;
use protocol::evaluation::{CERTAIN, EvaluationRecord, GroupReliability, ReliabilityBin};
use std::collections::BTreeMap;

/// A class and the classes that its images were taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenFor {
    /// Its label.
    pub label: usize,
    /// Predicted classes and numbers of images, the most frequent first.
    pub predicted: Vec<(usize, u64)>,
}

/// What became of the images of each group of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOutcome {
    /// Evaluated images.
    pub images: u64,
    /// Those correctly classified.
    pub correct: u64,
    /// Those taken for another class, by the group of that class, in the order of [`protocol::evaluation::Shot::ALL`].
    pub wrong: [u64; 3],
}

/// Expected calibration error in percent: the mean distance of confidence and accuracy over bins, weighted by images.
/// None without an image.
pub fn calibration_error(bins: &[ReliabilityBin]) -> Option<f64> {
    let images: u64 = bins.iter().map(|bin| bin.images).sum();
    let distance = |bin: &ReliabilityBin| (bin.confidence as f64 / CERTAIN as f64 - bin.correct as f64).abs();
    (images > 0).then(|| 100.0 * bins.iter().map(distance).sum::<f64>() / images as f64)
}

/// The bins of all groups together.
pub fn all_bins(groups: &[GroupReliability]) -> Vec<ReliabilityBin> {
    let most = groups.iter().map(|group| group.bins.len()).max().unwrap_or(0);
    let mut sums = vec![ReliabilityBin::default(); most];
    for bins in groups.iter().map(|group| &group.bins) {
        for (sum, bin) in sums.iter_mut().zip(bins) {
            sum.images += bin.images;
            sum.correct += bin.correct;
            sum.confidence += bin.confidence;
        }
    }
    sums
}

/// For each class, what its images were taken for.
pub fn taken_for(evaluation: &EvaluationRecord) -> Vec<TakenFor> {
    let mut wrong: BTreeMap<u32, Vec<(usize, u64)>> = BTreeMap::new();
    for &(label, predicted, images) in &evaluation.confusion {
        wrong.entry(label).or_default().push((predicted as usize, images));
    }
    let classes = (0..evaluation.classes).map(|label| {
        let mut predicted = wrong.remove(&(label as u32)).unwrap_or_default();
        predicted.sort_by_key(|(class, images)| (std::cmp::Reverse(*images), *class));
        TakenFor { label, predicted }
    });
    classes.collect()
}

/// How often each class was predicted.
pub fn predicted_counts(result: &ResultRecord, evaluation: &EvaluationRecord) -> Vec<u64> {
    let mut counts: Vec<u64> = result.per_class.iter().map(|class| class.correct).collect();
    for &(_, predicted, images) in &evaluation.confusion {
        counts[predicted as usize] += images;
    }
    counts
}

/// Labels of the classes with test images, the lowest accuracy first; of equal ones, that with more test images.
pub fn from_worst(result: &ResultRecord) -> Vec<usize> {
    let classes = &result.per_class;
    let mut labels: Vec<usize> = (0..classes.len()).filter(|label| classes[*label].test_count > 0).collect();
    let share = |label: usize| classes[label].correct as f64 / classes[label].test_count as f64;
    labels.sort_by(|one, other| {
        let by_size = classes[*other].test_count.cmp(&classes[*one].test_count);
        share(*one).total_cmp(&share(*other)).then(by_size).then(one.cmp(other))
    });
    labels
}

/// What became of the images of each group, in the order of [`protocol::evaluation::Shot::ALL`].
pub fn outcomes(result: &ResultRecord, evaluation: &EvaluationRecord) -> [GroupOutcome; 3] {
    let group = |label: usize| result.groups.group(result.per_class[label].train_count) as usize;
    let mut outcomes = [GroupOutcome::default(); 3];
    for (label, class) in result.per_class.iter().enumerate() {
        outcomes[group(label)].images += class.test_count;
        outcomes[group(label)].correct += class.correct;
    }
    for &(label, predicted, images) in &evaluation.confusion {
        outcomes[group(label as usize)].wrong[group(predicted as usize)] += images;
    }
    outcomes
}

/// Shares of the images of each part of the classes that were predicted as a class of each part: `[true][predicted]`.
/// The parts have equally many classes, the largest classes first. None for fewer classes than parts.
pub fn size_confusion(
    result: &ResultRecord,
    evaluation: &EvaluationRecord,
    parts: usize,
) -> Option<Vec<Vec<f64>>> {
    let classes = result.per_class.len();
    if classes < parts {
        return None;
    }
    let mut by_size: Vec<usize> = (0..classes).collect();
    by_size.sort_by_key(|label| (std::cmp::Reverse(result.per_class[*label].train_count), *label));
    let mut part = vec![0; classes];
    for (position, label) in by_size.into_iter().enumerate() {
        part[label] = position * parts / classes;
    }
    let mut images = vec![vec![0_u64; parts]; parts];
    for (label, class) in result.per_class.iter().enumerate() {
        images[part[label]][part[label]] += class.correct;
    }
    for &(label, predicted, count) in &evaluation.confusion {
        images[part[label as usize]][part[predicted as usize]] += count;
    }
    let share = |row: Vec<u64>| {
        let all = row.iter().sum::<u64>().max(1) as f64;
        row.into_iter().map(|count| count as f64 / all).collect()
    };
    Some(images.into_iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{evaluation, result};
    use super::*;

    #[test]
    fn calibration_error_is_the_weighted_distance() {
        let bin = |images, correct, confidence| ReliabilityBin { images, correct, confidence };
        // Three images of confidence 0.9 of which two are correct, one of 0.5 that is wrong: (0.7 + 0.5) / 4.
        let error = calibration_error(&[bin(3, 2, 2_700_000), bin(1, 0, 500_000)]).unwrap();
        assert!((error - 30.0).abs() < 1e-9, "{error}");
        assert_eq!(calibration_error(&[bin(0, 0, 0)]), None);
    }

    #[test]
    fn the_worst_classes_are_named_with_what_they_are_taken_for() {
        let (result, evaluation) = (result(), evaluation());
        assert_eq!(from_worst(&result), [2, 0, 1]);
        let taken = taken_for(&evaluation);
        assert_eq!(taken[2].predicted, [(0, 2), (1, 1)]);
        assert_eq!(predicted_counts(&result, &evaluation), [11, 6, 1, 0]);
    }

    #[test]
    fn images_of_the_tail_go_to_the_head() {
        let [many, medium, few] = outcomes(&result(), &evaluation());
        assert_eq!((many.images, many.correct, many.wrong), (10, 9, [0, 1, 0]));
        assert_eq!(medium.wrong, [0, 0, 0]);
        assert_eq!((few.images, few.correct, few.wrong), (4, 1, [2, 1, 0]));
        let shares = size_confusion(&result(), &evaluation(), 2).unwrap();
        assert_eq!(shares[1], [0.75, 0.25]);
        assert_eq!(size_confusion(&result(), &evaluation(), 9), None);
    }
}

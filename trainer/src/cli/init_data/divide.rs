//! Divides pictures into training and test by class, seed and content.

use crate::data::source::{Half, Split};
use crate::data::survey::Survey;
use sha2::{Digest, Sha256};

/// Which pictures train and which test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Division {
    pub(super) halves: Vec<Half>,
    pub(super) train: usize,
    pub(super) test: usize,
    /// Copies of a picture under one label, which are left out but for the first.
    pub(super) copies: usize,
    /// Pictures with copies under another label, which are left out.
    pub(super) contradictions: Vec<usize>,
    /// Classes with one picture, which trains.
    pub(super) single: Vec<u32>,
}

/// Divides each class: of `n` usable pictures, `share * n` test, rounded, but one at least trains, and one tests if
/// there are two. The draw of a picture depends on the seed and its name only, so new pictures move few others.
pub(super) fn divide(split: &Split, survey: &Survey, classes: usize, share: f64, seed: u64) -> Division {
    let mut halves = vec![Half::Train; split.len()];
    let labels = split.labels();
    for &(index, _) in &survey.broken {
        halves[index] = Half::Skip;
    }
    let (mut copies, mut contradictions) = (0, Vec::new());
    for same in &survey.copies {
        let is_one_class = same.iter().all(|&index| labels[index] == labels[same[0]]);
        let left_out = if is_one_class { &same[1..] } else { &same[..] };
        for &index in left_out {
            halves[index] = Half::Skip;
        }
        if is_one_class {
            copies += left_out.len();
        } else {
            contradictions.extend(left_out);
        }
    }
    let mut of_class = vec![Vec::new(); classes];
    for index in (0..split.len()).filter(|&index| halves[index] != Half::Skip) {
        of_class[labels[index] as usize].push(index);
    }
    let mut single = Vec::new();
    for (class, mut images) in of_class.into_iter().enumerate() {
        if images.len() == 1 {
            single.push(class as u32);
            continue;
        }
        images.sort_by_cached_key(|&index| draw(seed, &split.name(index)));
        let count = images.len();
        let tests = ((share * count as f64).round() as usize).clamp(1, count.saturating_sub(1).max(1));
        for &index in images.iter().take(tests) {
            halves[index] = Half::Test;
        }
    }
    let count = |wanted| halves.iter().filter(|&&half| half == wanted).count();
    let (train, test) = (count(Half::Train), count(Half::Test));
    Division { halves, train, test, copies, contradictions, single }
}

fn draw(seed: u64, name: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::{DataSet, DataSpec, Halves};

    fn split(counts: &[(&str, usize)]) -> Split {
        let root = tempfile::tempdir().unwrap();
        for &(class, count) in counts {
            std::fs::create_dir(root.path().join(class)).unwrap();
            for number in 0..count {
                std::fs::write(root.path().join(class).join(format!("{number}.png")), "").unwrap();
            }
        }
        let spec = DataSpec { root: root.path().into(), halves: Halves::Whole, ..DataSpec::default() };
        DataSet::open(&spec).unwrap().train
    }

    fn tests_of(division: &Division, split: &Split, class: u32) -> usize {
        let pairs = division.halves.iter().zip(split.labels());
        pairs.filter(|&(&half, &label)| half == Half::Test && label == class).count()
    }

    #[test]
    fn every_class_is_divided_by_the_seed() {
        let split = split(&[("many", 50), ("one", 1), ("three", 3), ("two", 2)]);
        let by = |seed| divide(&split, &Survey::default(), 4, 0.2, seed);
        let division = by(0);
        let tests: Vec<usize> = (0..4).map(|class| tests_of(&division, &split, class)).collect();
        assert_eq!((tests, division.single.clone()), (vec![10, 0, 1, 1], vec![1]));
        assert_eq!((division.train, division.test), (44, 12));
        assert_eq!(by(0), division);
        assert_ne!(by(1).halves, division.halves);
    }

    #[test]
    fn broken_pictures_copies_and_contradictions_are_left_out() {
        let split = split(&[("a", 6), ("b", 6)]);
        let survey = Survey { broken: vec![(0, "broken".into())], copies: vec![vec![1, 2, 3], vec![4, 7]] };
        let division = divide(&split, &survey, 2, 0.5, 3);
        let skipped: Vec<usize> = (0..12).filter(|&index| division.halves[index] == Half::Skip).collect();
        assert_eq!((skipped, division.copies, division.contradictions), (vec![0, 2, 3, 4, 7], 2, vec![4, 7]));
        assert_eq!((division.train, division.test), (3, 4));
    }
}

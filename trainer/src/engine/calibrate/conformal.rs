//! Conformal sets: sets of classes that contain the label with a chosen probability, whatever the model.
//!
//! Split conformal prediction (Vovk et al., 2005; Papadopoulos et al., 2002): a score says how strange a label is for an
//! image, and the set of an image is every class whose score is at most a threshold. The threshold is the
//! `ceil((n + 1) coverage)`-th smallest score of `n` images that nothing else was fitted on; then a further image of the same
//! distribution is covered with at least that probability. With a threshold for all classes this holds on average, so rare
//! classes may pay for common ones. With one for each group of classes or each class (Mondrian sets) it holds for each of
//! them; a class with too few images has no finite threshold and is in every set.
//!
//! Under another class distribution each score counts with the weight of its class (Podkopaev and Ramdas, "Distribution-free
//! uncertainty quantification for classification under label shift", UAI 2021).

use super::figures::place;
use super::probabilities::Calibrated;
use crate::run::{ConformalFigures, GroupSets, Shot};
use clap::ValueEnum;
use std::fmt;

/// Weight of the penalty of RAPS (Angelopoulos et al., ICLR 2021, appendix), for each rank beyond `RAPS_FREE`.
const RAPS_PENALTY: f64 = 0.01;
/// Ranks without a penalty.
const RAPS_FREE: usize = 5;

/// How strange a class is for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Score {
    /// 1 minus the probability of the class (Sadinle et al., 2019): the smallest sets, some of them empty
    Lac,
    /// The probability of the class and of all classes before it (Romano et al., 2020): larger sets for hard images
    Aps,
    /// The same with a penalty for classes far down the list (Angelopoulos et al., 2021): smaller sets than aps
    Raps,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lac => "lac",
            Self::Aps => "aps",
            Self::Raps => "raps",
        })
    }
}

/// The classes that share a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Partition {
    /// One threshold: covers the wanted share of all images, rare classes perhaps less
    Marginal,
    /// One for many, medium and few training images each: covers the wanted share in each group
    ByGroup,
    /// One for each class: covers the wanted share in each class, with larger sets
    ByClass,
}

impl Partition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Marginal, Self::ByGroup, Self::ByClass];

    fn cell(self, class: usize, groups: &[Shot]) -> usize {
        match self {
            Self::Marginal => 0,
            Self::ByGroup => place(groups[class]),
            Self::ByClass => class,
        }
    }
}

impl Score {
    /// The scores of all classes of an image with these probabilities.
    pub(super) fn of_row(self, probabilities: &[f64], scores: &mut Vec<f64>) {
        scores.clear();
        if self == Self::Lac {
            scores.extend(probabilities.iter().map(|p| 1.0 - p));
            return;
        }
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        scores.resize(probabilities.len(), 0.0);
        let mut sum = 0.0;
        for (rank, class) in order.into_iter().enumerate() {
            sum += probabilities[class];
            let beyond = (rank + 1).saturating_sub(RAPS_FREE) as f64;
            scores[class] = if self == Self::Raps { sum + RAPS_PENALTY * beyond } else { sum };
        }
    }
}

/// The labels of images, each with its score.
pub(super) fn scores(probabilities: Calibrated<'_>, score: Score, images: &[usize]) -> Vec<(usize, f64)> {
    let (mut row, mut scores) = (Vec::new(), Vec::new());
    let of_image = |&image: &usize| {
        probabilities.of(image, &mut row);
        score.of_row(&row, &mut scores);
        let label = probabilities.table.label(image);
        (label, scores[label])
    };
    images.iter().map(of_image).collect()
}

/// The threshold of each class.
#[derive(Debug, Clone, PartialEq)]
pub struct SetRule {
    thresholds: Vec<f64>,
}

impl SetRule {
    /// Thresholds from the labels and scores of images that nothing else was fitted on. `weights` are those of the classes.
    pub fn fit(
        scores: &[(usize, f64)],
        partition: Partition,
        groups: &[Shot],
        (coverage, weights): (f64, &[f64]),
    ) -> Self {
        let cells = (0..groups.len()).map(|class| partition.cell(class, groups) + 1).max().unwrap_or(0);
        let mut of_cell: Vec<Vec<(f64, f64)>> = vec![Vec::new(); cells];
        for &(label, score) in scores {
            of_cell[partition.cell(label, groups)].push((score, weights[label]));
        }
        for cell in &mut of_cell {
            cell.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let threshold =
            |class: usize| quantile(&of_cell[partition.cell(class, groups)], coverage, weights[class]);
        Self { thresholds: (0..groups.len()).map(threshold).collect() }
    }

    /// The threshold of each class; infinite where there were too few images.
    pub fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }
}

/// The smallest score such that it and all smaller ones have `coverage` of the weight, where a further image of weight
/// `own` has an infinite score. With equal weights this is the `ceil((n + 1) coverage)`-th smallest of `n`.
fn quantile(sorted: &[(f64, f64)], coverage: f64, own: f64) -> f64 {
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum::<f64>() + own;
    // A sum of equal weights may be off in its last digits.
    let needed = coverage * total * (1.0 - 1e-12);
    let mut sum = 0.0;
    for (score, weight) in sorted {
        sum += weight;
        if sum >= needed {
            return *score;
        }
    }
    f64::INFINITY
}

/// Sums over the images of all classes, and of each group.
#[derive(Clone, Copy, Default)]
struct Tally {
    weight: f64,
    covered: f64,
    size: f64,
    empty: f64,
}

impl Tally {
    fn add(&mut self, weight: f64, is_covered: bool, size: usize) {
        self.weight += weight;
        self.covered += if is_covered { weight } else { 0.0 };
        self.size += weight * size as f64;
        self.empty += if size == 0 { weight } else { 0.0 };
    }

    fn figures(self) -> Option<GroupSets> {
        (self.weight > 0.0).then(|| GroupSets {
            coverage: 100.0 * self.covered / self.weight,
            mean_size: self.size / self.weight,
            empty: 100.0 * self.empty / self.weight,
        })
    }
}

/// Coverage and size of the sets of images, by each of the rules.
pub(super) fn report<const N: usize>(
    probabilities: Calibrated<'_>,
    score: Score,
    rules: &[SetRule; N],
    (images, weights): (&[usize], &[f64]),
    groups: &[Shot],
) -> [ConformalFigures; N] {
    let mut tallies = [[Tally::default(); 4]; N];
    let (mut row, mut scores) = (Vec::new(), Vec::new());
    for (&image, &weight) in images.iter().zip(weights) {
        probabilities.of(image, &mut row);
        score.of_row(&row, &mut scores);
        let label = probabilities.table.label(image);
        for (rule, tallies) in rules.iter().zip(&mut tallies) {
            let within = |class: usize| scores[class] <= rule.thresholds[class];
            let size = (0..scores.len()).filter(|&class| within(class)).count();
            for at in [0, 1 + place(groups[label])] {
                tallies[at].add(weight, within(label), size);
            }
        }
    }
    std::array::from_fn(|at| {
        let [all, many, medium, few] = tallies[at].map(Tally::figures);
        let infinite = |threshold: &&f64| threshold.is_infinite();
        let without_threshold = rules[at].thresholds.iter().filter(infinite).count();
        ConformalFigures { all, many, medium, few, without_threshold }
    })
}

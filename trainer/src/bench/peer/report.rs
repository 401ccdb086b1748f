//! Figures of the sides, and their ratios.

use crate::bench::statistics::median;
use serde::Serialize;

/// One side of a comparison, as measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub name: String,
    pub loss: f64,
    batch: f64,
    /// Median seconds of a step, by round.
    rounds: Vec<f64>,
    peak_bytes: f64,
    /// The matrix products alone, by round; of our side only.
    pub bounds: Vec<Bound>,
}

/// Images a second of the matrix products of a step alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    /// By the fastest of libtorch's ways.
    pub fastest: f64,
    /// As libtorch computes them by itself.
    pub plain: f64,
}

impl Measured {
    pub fn new(name: &str, loss: f64, batch: f64, bound: Option<Bound>) -> Self {
        let (rounds, bounds) = (Vec::new(), bound.into_iter().collect());
        Self { name: name.to_owned(), loss, batch, rounds, peak_bytes: 0.0, bounds }
    }

    pub fn add(&mut self, seconds: &[f64], peak_bytes: f64) {
        self.rounds.push(median(seconds));
        self.peak_bytes = self.peak_bytes.max(peak_bytes);
    }

    fn images_per_second(&self) -> f64 {
        self.batch / median(&self.rounds)
    }
}

/// One side in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerRow {
    /// Precision.
    pub precision: String,
    /// `lift`, or how PyTorch computes.
    pub side: String,
    /// Images a second.
    pub images_per_second: f64,
    /// Speed over that of PyTorch without compilation: the median over rounds.
    pub ratio_to_eager: f64,
    /// Most resident memory of the process.
    pub peak_bytes: f64,
    /// That memory over PyTorch's without compilation.
    pub memory_ratio_to_eager: f64,
    /// Speed over that of the step's matrix products alone, at the best rate that this machine reached in the same run.
    pub share_of_bound: f64,
    /// The loss of the first step.
    pub loss: f64,
}

/// Images a second of the matrix products of a step alone, at the best rate of all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerBound {
    /// Precision.
    pub precision: String,
    /// By the fastest of libtorch's ways. [`PeerRow::share_of_bound`] refers to it.
    pub images_per_second: f64,
    /// As libtorch computes them by itself.
    pub plain_images_per_second: f64,
}

/// All sides in all precisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PeerReport {
    /// Steps of each round.
    pub steps: usize,
    /// Rounds.
    pub rounds: usize,
    /// Images of a step.
    pub batch_size: f64,
    /// The matrix products of a step alone, by precision.
    pub bounds: Vec<PeerBound>,
    /// The sides.
    pub rows: Vec<PeerRow>,
}

impl PeerReport {
    pub(super) fn add(&mut self, precision: &str, sides: &[Measured]) {
        let best = |of: fn(&Bound) -> f64| {
            sides.iter().flat_map(|side| &side.bounds).map(of).fold(f64::NAN, f64::max)
        };
        let (bound, plain) = (best(|bound| bound.fastest), best(|bound| bound.plain));
        self.bounds.push(PeerBound {
            precision: precision.to_owned(),
            images_per_second: bound,
            plain_images_per_second: plain,
        });
        let Some(eager) = sides.iter().find(|side| side.name == "eager") else { return };
        for side in sides {
            let ratios: Vec<f64> =
                eager.rounds.iter().zip(&side.rounds).map(|(eager, own)| eager / own).collect();
            self.batch_size = side.batch;
            self.rows.push(PeerRow {
                precision: precision.to_owned(),
                side: side.name.clone(),
                images_per_second: side.images_per_second(),
                ratio_to_eager: median(&ratios),
                peak_bytes: side.peak_bytes,
                memory_ratio_to_eager: side.peak_bytes / eager.peak_bytes,
                share_of_bound: side.images_per_second() / bound,
                loss: side.loss,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let mut ours = Measured::new("lift", 4.0, 8.0, Some(Bound { fastest: 10.0, plain: 9.0 }));
        let mut eager = Measured::new("eager", 4.0, 8.0, None);
        // The third round is disturbed on both sides.
        for (own, theirs) in [(1.0, 2.0), (1.0, 2.0), (5.0, 10.0)] {
            ours.add(&[own, own, 9.0], 100.0);
            eager.add(&[theirs], 200.0);
        }
        ours.bounds.push(Bound { fastest: 16.0, plain: 8.0 });
        let mut report = PeerReport::default();
        report.add("fp32", &[ours, eager]);
        let [ours, eager] = &report.rows[..] else { panic!() };
        assert_eq!((ours.images_per_second, ours.ratio_to_eager, ours.share_of_bound), (8.0, 2.0, 0.5));
        assert_eq!(
            (ours.memory_ratio_to_eager, eager.ratio_to_eager, eager.share_of_bound),
            (0.5, 1.0, 0.25)
        );
        let PeerBound { precision, images_per_second, plain_images_per_second } = &report.bounds[0];
        assert_eq!((precision.as_str(), *images_per_second, *plain_images_per_second), ("fp32", 16.0, 9.0));
    }
}

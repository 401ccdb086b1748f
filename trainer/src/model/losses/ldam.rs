//! LDAM (LIFT: `LDAM`; Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
//! `NeurIPS` 2019).
//!
//! Cross entropy in which the label's logit is lowered by `scale` times a margin, `margin[c] = max_margin
//! (rarest / n[c])^(1/4)`: the rarer the class, the more its samples have to be right by. The bound from which the
//! margins follow is in the number of images that there are, so counts decide, whatever the sampler draws.

use super::Loss;
use super::registry::{Entry, Reads};
use std::ops::Range;
use tch::Tensor;

pub(super) const ENTRY: Entry = Entry {
    word: "ldam",
    official: "LDAM",
    about: "LDAM: cross entropy with a margin for each class, `loss.max_margin` for the rarest.",
    reads: Reads::Counts,
    build: |build| {
        let Options { max_margin, scale } = build.options.ldam;
        let counts = build.frequencies.values();
        let rarest = counts.iter().copied().fold(f64::INFINITY, f64::min);
        let shift = |count: &f64| -(scale * max_margin * (rarest / count).powf(0.25));
        Box::new(Ldam { shifts: build.tensor(&counts.iter().map(shift).collect::<Vec<_>>()) })
    },
};

/// Options of LDAM.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The margin of the rarest class, in cosines.
    pub max_margin: f64,
    /// Factor on cosines in the logits, and so on the margins.
    pub scale: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_margin: 0.5, scale: 30.0 }
    }
}

/// What is added to the logit of a sample's own class.
#[derive(Debug)]
struct Ldam {
    /// `-scale margin`, `[classes]`.
    shifts: Tensor,
}

impl Loss for Ldam {
    fn adjust(&self, logits: Tensor, labels: &Tensor, own: &Range<i64>) -> Tensor {
        let place = labels.clamp(own.start, own.end - 1);
        // A label of another range of classes is moved there.
        let shifts = self.shifts.index_select(0, &place) * place.eq_tensor(labels).to_kind(logits.kind());
        logits.scatter_add(1, &(place - own.start).unsqueeze(1), &shifts.unsqueeze(1))
    }
}

//! LDAM (LIFT: `LDAM`; Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
//! `NeurIPS` 2019).
//!
//! Cross entropy in which the label's logit is lowered by `scale` times a margin, `margin[c] = max_margin
//! (rarest / n[c])^(1/4)`: the rarer the class, the more its samples have to be right by. The bound from which the
//! margins follow is in the number of images that there are, so counts decide, whatever the sampler draws.

use super::frequencies::Prior;
use super::{Loss, MakeLoss};
use crate::model::heads::cosine;
use crate::options::{Declared, Method, section};
use std::ops::Range;
use tch::Tensor;

section! {
    /// Options of LDAM.
    pub struct LdamOptions in "loss" {
        /// Margin of the rarest class, as a cosine.
        #[range(0.0..)]
        pub max_margin: f64 = 0.5,
        /// Scale of the margins; 0 uses `head.scale`, the scale of the logits.
        #[range(0.0..)]
        pub scale: f64 = 0.0,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "ldam",
    about: "LDAM: cross entropy with a margin per class, `loss.max_margin` for the rarest.",
    official: &["LDAM"],
    options: &[&LdamOptions::SECTION],
    make: |values, site| {
        let LdamOptions { max_margin, scale } = values.read();
        let scale = if scale > 0.0 { scale } else { values.read::<cosine::CosineOptions>().scale };
        let counts = (site.frequencies)(Prior::Counts);
        let rarest = counts.values().iter().copied().fold(f64::INFINITY, f64::min);
        let shift = |count: &f64| -(scale * max_margin * (rarest / count).powf(0.25));
        Box::new(Ldam { shifts: site.tensor(&counts.values().iter().map(shift).collect::<Vec<_>>()) })
    },
};

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

//! LADE (LIFT: `LADE`; Hong et al., "Disentangling Label Distribution for Long-Tailed Visual Recognition", CVPR 2021).
//!
//! Balanced softmax, and `estimation_weight` times a term that makes the logits of each class estimate the density ratio
//! of its images under a uniform label distribution:
//!
//! `-sum_c prior[c] (T[c] - S[c] - remine_lambda S[c]^2)`, where `T[c]` is the mean logit `z[c]` over the batch's
//! samples of class c, and `S[c]` the logarithm of the mean over the whole batch of `exp(z[c]) uniform / prior[c]`.
//!
//! `S` is a logarithm of a mean over the batch, so the term is no sum over samples. Here the batch is the global one,
//! whatever ranks and micro-batches make of it; only `train.accumulation = "official"` takes each micro-batch for a
//! batch. A class without samples in the batch has `T[c] = 0`.

use super::columns::{ColumnTerm, Columns, Term};
use super::logit_adjusted::LogitAdjusted;
use super::{Loss, LossContext, MakeLoss, frequencies};
use crate::options::{Declared, Method, Values, section};
use std::ops::Range;
use tch::{Kind, Tensor, no_grad};

section! {
    /// Options of LADE.
    pub struct LadeOptions in "loss" {
        /// Weight of the squared logarithm that keeps the estimated density ratios near one.
        #[range(0.0..)]
        pub remine_lambda: f64 = 0.1,
        /// Weight of the density ratio estimation relative to the balanced softmax.
        #[range(0.0..)]
        pub estimation_weight: f64 = 0.1,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "lade",
    about: "LADE: balanced softmax plus density ratio estimation, weighted by `loss.estimation_weight`.",
    official: &["LADE"],
    options: &[&LadeOptions::SECTION, &frequencies::FrequencyOptions::SECTION],
    make: |values, site| Box::new(Lade::new(values, site)),
};

/// Keeps the mean over no samples from being 0/0.
const FEW: f64 = 1e-8;
/// Keeps logarithms of shares finite.
const SMALL: f64 = 1e-9;

/// Balanced softmax and the estimates' term.
#[derive(Debug)]
struct Lade {
    softmax: LogitAdjusted,
    options: LadeOptions,
    /// Shares of the classes, `[classes]`, in double precision.
    prior: Tensor,
    /// `log(uniform / prior)`, `[classes]`, in double precision.
    shift: Tensor,
}

impl Lade {
    fn new(values: &Values, site: &LossContext<'_>) -> Self {
        let prior = Tensor::from_slice(&site.prior(values).shares()).to_device(site.device);
        let uniform = 1.0 / prior.numel() as f64;
        let shift = (uniform + SMALL).ln() - (&prior + SMALL).log();
        Self { softmax: LogitAdjusted::new(values, site, 1.0), options: values.read(), prior, shift }
    }
}

impl Loss for Lade {
    fn adjust(&self, logits: Tensor, labels: &Tensor, own: &Range<i64>) -> Tensor {
        self.softmax.adjust(logits, labels, own)
    }

    fn column_term(&self) -> Option<&dyn ColumnTerm> {
        Some(self)
    }
}

impl ColumnTerm for Lade {
    fn of_part(&self, columns: &Columns, logits: &Tensor, labels: &Tensor) -> Term {
        let (kind, lambda) = (logits.kind(), self.options.remine_lambda);
        no_grad(|| {
            let (samples, counts) = (columns.samples(), columns.counts() + FEW);
            let log_means = columns.log_sums() + &self.shift - samples.log();
            let estimates = columns.of_labels() / &counts - &log_means - log_means.square() * lambda;
            let mean = (&self.prior * estimates).sum(Kind::Double) * -self.options.estimation_weight;
            let share = mean * labels.numel() as f64;
            // Of the sum over the batch, which is the mean times the number of its samples.
            let weights = &self.prior * samples * self.options.estimation_weight;
            let of_means = (&weights * (log_means * (2.0 * lambda) + 1.0)).to_kind(kind);
            let of_labels = -(weights / counts).index_select(0, labels).to_kind(kind);
            let gradient = (columns.softmax(logits) * of_means).scatter_add(
                1,
                &labels.unsqueeze(1),
                &of_labels.unsqueeze(1),
            );
            Term { share: share.to_kind(kind), gradient }
        })
    }
}

//! Losses: one per file, each with its source, its equation, its options and its tests. [`Losses`] lists them.
//!
//! A loss returns the sum over its samples and its normaliser, so that the mean over a global batch is exact for any
//! division of the batch (law 1). Nothing here synchronises with the device.
//!
//! All but one are cross entropy with a change before or after the softmax: [`Loss::adjust`] changes single logits,
//! [`Loss::of_nll`] the negative log-likelihood of a sample. So there is one softmax for replicated and one for sharded
//! classes, and a loss works on sharded classes without code of its own. LADE has a further
//! [`ColumnTerm`], which is a function of the whole batch.
//!
//! A class without training images takes part as the rarest class that has some: see [`Frequencies`].

pub mod balanced_softmax;
pub mod class_balanced;
mod class_weighted;
mod columns;
pub mod cross_entropy;
pub mod focal;
pub mod frequencies;
pub mod lade;
pub mod ldam;
pub mod logit_adjusted;
pub mod reweighted;

pub use columns::{ColumnTerm, Columns, Term};
pub use frequencies::{Frequencies, Prior};

use crate::options::{Method, Registry, Values};
use std::fmt::{self, Debug};
use std::ops::Range;
use tch::{Device, Kind, Reduction, Tensor};

/// The context in which a loss is constructed.
pub struct LossContext<'a> {
    /// How often each class comes.
    pub frequencies: &'a dyn Fn(Prior) -> Frequencies,
    /// Element type of the logits.
    pub kind: Kind,
    /// Device of the logits.
    pub device: Device,
}

impl LossContext<'_> {
    /// The class frequencies that `loss.prior` chooses.
    fn prior(&self, values: &Values) -> Frequencies {
        (self.frequencies)(values.read::<frequencies::FrequencyOptions>().prior)
    }

    /// A number for each class, `[classes]`.
    fn tensor(&self, of_classes: &[f64]) -> Tensor {
        Tensor::from_slice(of_classes).to_kind(self.kind).to_device(self.device)
    }
}

impl Debug for LossContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("kind", &self.kind).field("device", &self.device).finish_non_exhaustive()
    }
}

/// Constructs a loss from its options.
pub type MakeLoss = fn(&Values, &LossContext<'_>) -> Box<dyn Loss>;

/// All losses, by `loss.kind`.
#[derive(Debug)]
pub enum Losses {}

impl Registry for Losses {
    type Make = MakeLoss;
    const KEY: &'static str = "loss.kind";
    const METHODS: &'static [&'static Method<MakeLoss>] = &[
        &cross_entropy::METHOD,
        &focal::METHOD,
        &ldam::METHOD,
        &class_balanced::METHOD,
        &reweighted::METHOD,
        &balanced_softmax::METHOD,
        &logit_adjusted::METHOD,
        &lade::METHOD,
    ];
}

/// A loss over some of the samples of a global batch.
#[derive(Debug)]
pub struct LossSum {
    /// Sum over the samples.
    pub sum: Tensor,
    /// The normaliser of the sum over all parts of the batch: one number in double precision, on the samples' device.
    pub normaliser: Tensor,
}

impl LossSum {
    /// The mean over these samples alone.
    pub fn mean(&self) -> Tensor {
        &self.sum / self.normaliser.to_kind(self.sum.kind())
    }
}

/// A training objective. Every default is that of cross entropy.
pub trait Loss: Debug {
    /// Logits that go into the softmax, of `logits` (`[n, own]`) of the classes `own`; labels `[n]`, int64, count from
    /// the first of all classes. A label of -1 stands for a row without a sample.
    fn adjust(&self, logits: Tensor, labels: &Tensor, own: &Range<i64>) -> Tensor {
        let _ = (labels, own);
        logits
    }

    /// The losses of samples, `[n]`, from their negative log-likelihoods; nothing where they are the same.
    fn of_nll(&self, nll: &Tensor, labels: &Tensor) -> Option<Tensor> {
        let _ = (nll, labels);
        None
    }

    /// The contribution of these samples to the normaliser: their number, or the sum of their weights.
    fn normaliser(&self, labels: &Tensor) -> Tensor {
        Tensor::full([] as [i64; 0], labels.numel() as f64, (Kind::Double, labels.device()))
    }

    /// A further term that is not a sum over samples.
    fn column_term(&self) -> Option<&dyn ColumnTerm> {
        None
    }
}

impl dyn Loss + '_ {
    /// The loss of a whole batch: logits `[n, classes]`, labels `[n]`.
    pub fn forward(&self, logits: &Tensor, labels: &Tensor) -> LossSum {
        self.of_part(logits, labels, None)
    }

    /// The loss of a part of a batch whose columns are `columns`; of a batch by itself where there are none.
    pub fn of_part(&self, logits: &Tensor, labels: &Tensor, columns: Option<&Columns>) -> LossSum {
        let adjusted = self.adjust(logits.shallow_clone(), labels, &(0..logits.size()[1]));
        let log_shares = adjusted.log_softmax(1, adjusted.kind());
        let nll = |reduction| log_shares.nll_loss_nd(labels, None::<Tensor>, reduction, -100);
        let mut sum = match self.of_nll(&nll(Reduction::None), labels) {
            Some(losses) => losses.sum(losses.kind()),
            None => nll(Reduction::Sum),
        };
        if let Some(term) = self.column_term() {
            let columns = columns.map_or_else(|| Columns::of(logits, labels), Columns::shallow_clone);
            sum += term.of_part(&columns, logits, labels).with_gradient_at(logits);
        }
        LossSum { sum, normaliser: self.normaliser(labels) }
    }
}

#[cfg(test)]
mod tests;

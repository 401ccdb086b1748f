//! Losses: one a file, each with its source, its equation, its options and its tests. [`Losses`] names them all.
//!
//! A loss gives the sum over its samples and its own normaliser, so that the mean over a global batch is exact however
//! the batch is divided (law 1). Nothing here waits for the device.
//!
//! All but one are cross entropy with something before the softmax or after it: [`Loss::adjust`] changes single
//! logits, [`Loss::of_nll`] the negative log-likelihood of a sample. So the softmax itself is in one place for each
//! way of holding the classes, and a loss works on sharded classes without knowing of them. LADE has a further
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

/// What a loss is made for.
pub struct LossContext<'a> {
    /// How often each class comes.
    pub frequencies: &'a dyn Fn(Prior) -> Frequencies,
    /// Kind of the logits.
    pub kind: Kind,
    /// Where the logits are.
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

/// Makes a loss of its options.
pub type Make = fn(&Values, &LossContext<'_>) -> Box<dyn Loss>;

/// All losses, by `loss.kind`.
#[derive(Debug)]
pub enum Losses {}

impl Registry for Losses {
    type Make = Make;
    const KEY: &'static str = "loss.kind";
    const METHODS: &'static [&'static Method<Make>] = &[
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
    /// What the sum over all parts of the batch is divided by: one number in double precision, where the samples are.
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

    /// What the sum over these samples counts for in the divisor: their number, or their weights.
    fn normaliser(&self, labels: &Tensor) -> Tensor {
        Tensor::full([] as [i64; 0], labels.numel() as f64, (Kind::Double, labels.device()))
    }

    /// A further term that is no sum over samples.
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

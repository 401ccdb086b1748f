//! The list of losses, and what is needed to build one.

use super::{
    Frequencies, Loss, balanced_softmax, class_balanced, cross_entropy, focal, lade, ldam, logit_adjusted,
    reweighted,
};
use tch::{Device, Kind, Tensor};

/// Every loss there is.
pub const LOSSES: [Entry; 8] = [
    cross_entropy::ENTRY,
    focal::ENTRY,
    ldam::ENTRY,
    class_balanced::ENTRY,
    reweighted::ENTRY,
    balanced_softmax::ENTRY,
    logit_adjusted::ENTRY,
    lade::ENTRY,
];

/// What is known of a loss before it is built.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The word for it in `loss.kind`.
    pub word: &'static str,
    /// Its name in the official code.
    pub official: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What it has to know of the classes.
    pub reads: Reads,
    /// Builds it.
    pub build: fn(&Build<'_>) -> Box<dyn Loss>,
}

/// What a loss has to know of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Nothing.
    Nothing,
    /// How many images of each class there are to learn from. Drawing them more often does not make more of them.
    Counts,
    /// How often each class comes, which `loss.prior` says how to tell.
    Prior,
}

/// What a loss is built from.
#[derive(Debug)]
pub struct Build<'a> {
    /// Of the kind that [`Entry::reads`] names.
    pub frequencies: &'a Frequencies,
    /// Options of all losses.
    pub options: &'a Options,
    /// Kind of the logits.
    pub kind: Kind,
    /// Where the logits are.
    pub device: Device,
}

impl Build<'_> {
    /// A number for each class, `[classes]`.
    pub(super) fn tensor(&self, of_classes: &[f64]) -> Tensor {
        Tensor::from_slice(of_classes).to_kind(self.kind).to_device(self.device)
    }
}

/// Options of all losses, each by the names of its paper. The defaults are the official code's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Options {
    /// Of the focal loss.
    pub focal: focal::Options,
    /// Of LDAM.
    pub ldam: ldam::Options,
    /// Of the class-balanced loss.
    pub class_balanced: class_balanced::Options,
    /// Of generalised re-weighting.
    pub reweighted: reweighted::Options,
    /// Of logit adjustment.
    pub logit_adjusted: logit_adjusted::Options,
    /// Of LADE.
    pub lade: lade::Options,
}

impl Entry {
    /// The loss of this word.
    pub fn of_word(word: &str) -> Option<&'static Self> {
        LOSSES.iter().find(|entry| entry.word == word)
    }
}

//! `[loss]`: what is minimised.

use super::super::section::{section, words};

section! {
    /// What is minimised. A class without training images is taken for as rare as the rarest class that has some, in
    /// all losses that ask for class frequencies.
    pub struct Loss in "loss" {
        /// Which loss.
        pub kind: LossKind,
        /// Weight of the logarithm of the prior that is added to the logits, 0 or more. Takes effect with
        /// `loss.kind = "logit_adjusted"`.
        pub tau: f64,
        /// Which class frequencies are the prior. Takes effect with the losses `reweighted`, `balanced_softmax`,
        /// `logit_adjusted` and `lade`. `ldam` and `class_balanced` are about how many images there are, and use the
        /// counts of the training list.
        pub prior: Prior,
        /// Exponent of the probability that the label is missed, 0 or more; 0 is cross entropy. Takes effect with
        /// `loss.kind = "focal"`.
        pub gamma: f64,
        /// Margin of the rarest class in cosines, 0 or more. Takes effect with `loss.kind = "ldam"`.
        pub max_margin: f64,
        /// Factor on the margins; 0 means `head.scale`, as the logits have it. Takes effect with `loss.kind = "ldam"`.
        pub scale: f64,
        /// From 0, which weighs all classes alike, to below 1; near 1, weights are inverse to counts. Takes effect with
        /// `loss.kind = "class_balanced"`.
        pub beta: f64,
        /// Exponent of the inverse class frequencies, 0 or more; 0 is cross entropy. Takes effect with
        /// `loss.kind = "reweighted"`.
        pub exponent: f64,
        /// Weight of the squared logarithm that keeps the estimates near one, 0 or more. Takes effect with
        /// `loss.kind = "lade"`.
        pub remine_lambda: f64,
        /// Weight of the estimates beside the balanced softmax, 0 or more. Takes effect with `loss.kind = "lade"`.
        pub estimation_weight: f64,
    }
}

words! {
    /// Losses.
    pub enum LossKind {
        /// Plain cross entropy.
        CrossEntropy = "cross_entropy",
        /// Focal loss: cross entropy in which samples that are right already count for less, by `loss.gamma`.
        Focal = "focal",
        /// LDAM: cross entropy with a margin for each class, `loss.max_margin` for the rarest.
        Ldam = "ldam",
        /// Class-balanced loss: cross entropy weighted by the inverse effective number of images, by `loss.beta`.
        ClassBalanced = "class_balanced",
        /// Generalised re-weighting: cross entropy weighted by inverse class frequencies to `loss.exponent`.
        Reweighted = "reweighted",
        /// Balanced softmax: logit adjustment with the prior as it is.
        BalancedSoftmax = "balanced_softmax",
        /// Logit adjustment: cross entropy of logits with `loss.tau` times the logarithm of the prior added (LIFT).
        LogitAdjusted = "logit_adjusted",
        /// LADE: balanced softmax, and logits that estimate density ratios, by `loss.estimation_weight`. Not with
        /// `head.placement = "sharded"`.
        Lade = "lade",
    }
}

words! {
    /// Class frequencies.
    pub enum Prior {
        /// Those that the sampler really draws.
        Sampler = "sampler",
        /// Those of the training list.
        Counts = "counts",
    }
}

//! The focal loss (LIFT: `Focal`; Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4).
//!
//! `-(1 - p)^gamma log p` for the probability `p` of the label: samples that are right already count for less.

use super::{Loss, MakeLoss};
use crate::options::{Declared, Method, section};
use tch::Tensor;

section! {
    /// Options of the focal loss.
    pub struct FocalOptions in "loss" {
        /// Exponent of `1 - p`, where `p` is the probability of the label; 0 is cross entropy.
        #[range(0.0..)]
        pub gamma: f64 = 2.0,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "focal",
    about: "Focal loss: cross entropy that gives well-classified samples less weight, by `loss.gamma`.",
    official: &["Focal"],
    options: &[&FocalOptions::SECTION],
    make: |values, _| Box::new(Focal { gamma: values.read::<FocalOptions>().gamma }),
};

/// A factor that falls as the label becomes probable.
#[derive(Debug)]
struct Focal {
    gamma: f64,
}

impl Loss for Focal {
    fn of_nll(&self, nll: &Tensor, _: &Tensor) -> Option<Tensor> {
        // Of a sample with a likelihood of one, the power's derivative is infinite for a gamma below one; times zero
        // that would be NaN where the limit is zero.
        let missed = (-(-nll).expm1()).clamp_min(f64::from(f32::MIN_POSITIVE));
        Some(missed.pow_tensor_scalar(self.gamma) * nll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_sample_that_is_certainly_right_has_a_finite_gradient_for_any_gamma() {
        for gamma in [0.0, 0.5, 1.0, 2.0] {
            let nll = Tensor::from_slice(&[0.0_f32, 1e-30, 1e3]).set_requires_grad(true);
            let losses = Focal { gamma }.of_nll(&nll, &Tensor::new()).unwrap();
            losses.sum(Kind::Float).backward();
            let gradient = Vec::<f32>::try_from(nll.grad()).unwrap();
            assert!(gradient.iter().all(|g| g.is_finite()), "gamma {gamma}: {gradient:?}");
            assert_eq!(gradient[2], 1.0, "gamma {gamma}");
        }
    }
}

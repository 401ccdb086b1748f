//! The factor on the loss that keeps gradients of fp16 within its range (Micikevicius et al., 2018, section 3.2).
//!
//! fp16 loses numbers below 6e-8 and has none above 65504. The loss is multiplied before the backward pass and the gradient divided
//! after it. A gradient that overflows is dropped and the factor halved; after many steps without one, the factor is doubled.

use serde::{Deserialize, Serialize};

/// The factor, and the steps since it last changed. Part of a run's state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    steps: u64,
}

/// The first factor. The loss is a sum over images: this is as much as the usual 65,536 for a mean over 64 of them.
const FIRST: f64 = 1024.0;
/// Steps without an overflow after which the factor is doubled.
const PATIENCE: u64 = 2000;
/// The largest factor: its product with a loss stays finite in fp32.
const MOST: f64 = 16_777_216.0;

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: FIRST, steps: 0 }
    }
}

impl LossScale {
    /// The factor.
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Whether a gradient that is not finite may be finite with a smaller factor.
    pub fn can_shrink(self) -> bool {
        self.factor > 1.0
    }

    /// The scale after a step without overflow, or with one.
    #[must_use]
    pub fn after(self, overflowed: bool) -> Self {
        match (overflowed, self.steps + 1) {
            (true, _) => Self { factor: (self.factor / 2.0).max(1.0), steps: 0 },
            (false, PATIENCE) => Self { factor: (self.factor * 2.0).min(MOST), steps: 0 },
            (false, steps) => Self { steps, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_halves_the_factor_and_many_steps_without_one_double_it() {
        let mut scale = LossScale::default().after(true).after(true);
        assert_eq!(scale.factor(), FIRST / 4.0);
        for _ in 1..PATIENCE {
            scale = scale.after(false);
        }
        assert_eq!(scale.factor(), FIRST / 4.0);
        assert_eq!(scale.after(false).factor(), FIRST / 2.0);
        // An overflow begins the count again.
        assert_eq!(scale.after(true).after(false).factor(), FIRST / 8.0);
    }

    #[test]
    fn the_factor_stays_within_its_limits() {
        let shrunk = (0..100).fold(LossScale::default(), |scale, _| scale.after(true));
        assert!(shrunk.factor() == 1.0 && !shrunk.can_shrink());
        let grown = (0..100 * PATIENCE).fold(shrunk, |scale, _| scale.after(false));
        assert_eq!(grown.factor(), MOST);
    }
}

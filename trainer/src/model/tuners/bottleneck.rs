//! The bottleneck width of adapters, an option that several tuners share.

use crate::options::section;

section! {
    /// The bottleneck of adapters.
    pub struct Bottleneck in "tuner" {
        /// Bottleneck width of the adapters; 0 is LIFT's rule. The rule is 2^max(0, floor(log2(classes / (2 layers)))).
        #[range(..=1 << 20)]
        pub adapter_dim: u32 = 0,
    }
}

impl Bottleneck {
    /// The width for `classes` classes and a model of `layers` blocks.
    pub fn width(&self, classes: u64, layers: u64) -> u64 {
        if self.adapter_dim > 0 { self.adapter_dim.into() } else { auto_adapter_dim(classes, layers) }
    }
}

/// LIFT's bottleneck width for `tuner.adapter_dim = 0`: 2^max(0, floor(log2(classes / (2 layers)))).
///
/// `layers` is the depth of the model, also where `tuner.partial` tunes fewer, as in LIFT's published code.
pub fn auto_adapter_dim(classes: u64, layers: u64) -> u64 {
    let ratio = classes / layers.saturating_mul(2).max(1);
    ratio.checked_ilog2().map_or(1, |power| 1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_dim_is_that_of_the_published_table() {
        let twelve = [(100, 4), (365, 8), (1000, 32), (8142, 256)];
        for (classes, dim) in twelve {
            assert_eq!(auto_adapter_dim(classes, 12), dim, "{classes} classes");
        }
        assert_eq!(auto_adapter_dim(100, 4), 8);
        assert_eq!(auto_adapter_dim(1, 12), 1);
        assert_eq!(auto_adapter_dim(0, 0), 1);
        assert_eq!(auto_adapter_dim(u64::MAX, u64::MAX), 1);
    }

    #[test]
    fn adapter_dim_follows_the_formula() {
        for layers in 1..40_u64 {
            for classes in 1..2000_u64 {
                let power = (classes as f64 / (2 * layers) as f64).log2().floor().max(0.0);
                assert_eq!(auto_adapter_dim(classes, layers), 2_u64.pow(power as u32), "{classes} {layers}");
            }
        }
    }
}

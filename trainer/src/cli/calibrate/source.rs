//! The class distribution that the logits of a run are for, as far as its loss determines it.

use crate::config::{Config, SamplerName};
use crate::engine::calibrate::Distribution;
use crate::engine::failure::Failure;
use crate::model::losses::{balanced_softmax, cross_entropy, lade, logit_adjusted};

/// Cross entropy learns the distribution of the training images; logit adjustment with `tau` takes its power `tau` out, and
/// balanced softmax and LADE all of it. A loss with other weights or margins has no such distribution.
pub(super) fn of_training(config: &Config, counts: &[u64]) -> Result<Distribution, Failure> {
    let (loss, train) = (config.loss.kind, Distribution::of_counts(counts));
    let power = if config.data.sampler != SamplerName::Instance {
        None
    } else if loss.is(&cross_entropy::METHOD) || config.train.epochs == 0 {
        Some(1.0)
    } else if loss.is(&logit_adjusted::METHOD) {
        Some(1.0 - config.options::<logit_adjusted::LogitAdjustedOptions>().tau)
    } else if loss.is(&balanced_softmax::METHOD) || loss.is(&lade::METHOD) {
        Some(0.0)
    } else {
        None
    };
    power.map(|power| train.to_the(power)).ok_or_else(|| {
        Failure::input(format!(
            "the class distribution that the logits are for is not known for a run with loss.kind={loss} and data.sampler={}\nhint: name it with --source, e.g. --source train or --source uniform",
            config.data.sampler
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config;

    #[test]
    fn the_loss_determines_what_the_logits_are_for() {
        let of = |set: &[&str]| of_training(&demo_config(set), &[8, 2]).map_err(|error| error.message);
        let train = Distribution::of_counts(&[8, 2]);
        assert_eq!(of(&["loss.kind=cross_entropy"]).unwrap(), train);
        assert_eq!(of(&["loss.kind=logit_adjusted"]).unwrap(), Distribution::uniform(2));
        assert_eq!(of(&["loss.kind=balanced_softmax"]).unwrap(), Distribution::uniform(2));
        let half = of(&["loss.kind=logit_adjusted", "loss.tau=0.5"]).unwrap();
        assert!((half.shares()[0] - 2.0 / 3.0).abs() < 1e-12, "{half:?}");
        let expected = "the class distribution that the logits are for is not known for a run with loss.kind=ldam and \
                        data.sampler=instance\nhint: name it with --source, e.g. --source train or --source uniform";
        assert_eq!(of(&["loss.kind=ldam"]).unwrap_err(), expected);
        assert!(of(&["loss.kind=cross_entropy", "data.sampler=class_balanced"]).is_err());
    }
}

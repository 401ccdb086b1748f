//! The loss that a configuration names, for the classes of the run's data.

use super::failure::Failure;
use crate::config::{Config, Loss as Settings, Prior};
use crate::data::order::Order;
use crate::model::losses::{
    Build, ClassBalancedOptions, Entry, FocalOptions, Frequencies, LadeOptions, LdamOptions,
    LogitAdjustedOptions, Loss, Options, Reads, ReweightedOptions,
};
use tch::{Device, Kind};

/// The entry of the configured loss in the list of losses.
pub fn entry(config: &Config) -> Result<&'static Entry, Failure> {
    let word = config.loss.kind.word();
    Entry::of_word(word)
        .ok_or_else(|| Failure::input(format!("loss.kind is {word}, which this version cannot compute")))
}

/// The loss of an epoch: with `loss.prior = "sampler"` it may follow what that epoch draws.
pub fn of_epoch(
    entry: &Entry,
    config: &Config,
    order: &Order,
    epoch: u64,
    (kind, device): (Kind, Device),
) -> Box<dyn Loss> {
    let frequencies = &frequencies(entry, config, order, epoch);
    (entry.build)(&Build { frequencies, options: &options(config), kind, device })
}

fn frequencies(entry: &Entry, config: &Config, order: &Order, epoch: u64) -> Frequencies {
    if entry.reads == Reads::Prior && config.loss.prior == Prior::Sampler {
        return Frequencies::new(&order.distribution(epoch));
    }
    Frequencies::new(&order.class_counts().iter().map(|&count| f64::from(count)).collect::<Vec<_>>())
}

fn options(config: &Config) -> Options {
    let Settings { tau, gamma, max_margin, scale, beta, exponent, remine_lambda, estimation_weight, .. } =
        config.loss;
    let scale = if scale > 0.0 { scale } else { config.head.scale };
    Options {
        focal: FocalOptions { gamma },
        ldam: LdamOptions { max_margin, scale },
        class_balanced: ClassBalancedOptions { beta },
        reweighted: ReweightedOptions { exponent },
        logit_adjusted: LogitAdjustedOptions { tau },
        lade: LadeOptions { remine_lambda, estimation_weight },
    }
}

/// What the loss makes of classes without a training image, for people; nothing where it does not ask for them.
pub fn absent_note(entry: &Entry, config: &Config, order: &Order) -> Option<String> {
    let absent = order.class_counts().iter().filter(|&&count| count == 0).count();
    let trains = config.train.epochs > 0 && entry.reads != Reads::Nothing;
    (trains && absent > 0).then(|| {
        let classes = if absent == 1 { "1 class".to_owned() } else { format!("{absent} classes") };
        format!(
            "loss.kind={}: {classes} without a training image, taken for as rare as the rarest class that has some",
            entry.word
        )
    })
}

//! Builds the configured loss for the classes of the run's data.

use crate::config::Config;
use crate::data::order::Order;
use crate::model::losses::{Frequencies, Loss, LossContext, Prior};
use std::cell::Cell;
use tch::{Device, Kind};

/// The loss of an epoch: with `loss.prior = "sampler"` it depends on the samples of that epoch.
pub fn of_epoch(config: &Config, order: &Order, epoch: u64, (kind, device): (Kind, Device)) -> Box<dyn Loss> {
    make(config, &|prior| frequencies(order, epoch, prior), (kind, device))
}

fn make(
    config: &Config,
    frequencies: &dyn Fn(Prior) -> Frequencies,
    (kind, device): (Kind, Device),
) -> Box<dyn Loss> {
    (config.loss.kind.method().make)(&config.methods, &LossContext { frequencies, kind, device })
}

fn frequencies(order: &Order, epoch: u64, prior: Prior) -> Frequencies {
    match prior {
        Prior::Sampler => Frequencies::new(&order.distribution(epoch)),
        Prior::Counts => {
            Frequencies::new(&order.class_counts().iter().map(|&count| f64::from(count)).collect::<Vec<_>>())
        }
    }
}

/// A note on how the loss treats classes without a training image; none if the loss does not use class frequencies.
pub fn absent_note(config: &Config, order: &Order) -> Option<String> {
    let absent = order.class_counts().iter().filter(|&&count| count == 0).count();
    if config.train.epochs == 0 || absent == 0 {
        return None;
    }
    let asked = Cell::new(false);
    let frequencies = |prior| {
        asked.set(true);
        frequencies(order, 0, prior)
    };
    make(config, &frequencies, (Kind::Float, Device::Cpu));
    asked.get().then(|| {
        let classes = if absent == 1 { "1 class".to_owned() } else { format!("{absent} classes") };
        format!(
            "loss.kind={}: {classes} without a training image, taken for as rare as the rarest class that has some",
            config.loss.kind
        )
    })
}

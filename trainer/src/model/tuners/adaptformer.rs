//! AdaptFormer among the tuners. Its module is [`AdaptFormer`](crate::model::adaptformer::AdaptFormer).

use super::bottleneck::Bottleneck;
use super::{Make, TunerKind};
use crate::options::{Declared, Method};

/// AdaptFormer.
pub const METHOD: Method<Make> = Method {
    word: "adaptformer",
    about: "A bottleneck beside the MLP of each block (LIFT).",
    official: &["adaptformer"],
    options: &[&Bottleneck::SECTION],
    // LIFT divides by the full depth, also where `tuner.partial` tunes fewer blocks.
    make: |values, site| TunerKind::AdaptFormer {
        dim: values.read::<Bottleneck>().width(site.classes as u64, site.depth as u64) as i64,
        layers: site.blocks.clone(),
    },
};

//! Configuration: plain TOML in layers, typed, with the origin of each value.
//!
//! [`Config::resolve`] lays `base.toml`, the presets of a data set, a model and a method, and then the user's own
//! files and `--set` flags over each other. What the user typed ([`Selection`]) and what the program uses ([`Config`])
//! are two types; between them every key is known, every value has the right type and lies in its range, and
//! no option of the user is without effect. Each key is declared once, in `sections`, and its doc comment
//! there is what `docs/configuration.md` says.

mod changed;
mod combinations;
mod error;
mod kind;
mod layers;
mod nearest;
mod origin;
mod paths;
mod presets;
mod ranges;
mod reference;
mod resolved;
mod run_folder;
mod section;
mod sections;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use kind::{Word, WordOrFile};
pub use origin::{Origin, PresetKind};
pub use presets::{LIFT_CONFIGS, PresetSource, Presets};
pub use resolved::{Difference, Names, Resolved};
pub use section::{Key, Section};
pub use sections::backbone::{Backbone, BackbonePlacement};
pub use sections::checkpoint::{BestMetric, Checkpoint};
pub use sections::data::{Data, Imbalance, Layout, Sampler};
pub use sections::distributed::{Backend, Distributed, Wire};
pub use sections::eval::Eval;
pub use sections::head::{Head, HeadInit, HeadKind, HeadPlacement, Prompts};
pub use sections::loss::{Loss, LossKind, Prior};
pub use sections::model::{ActivationName, Filter, Model, ModelKind, PoolName};
pub use sections::train::{Accumulation, Determinism, DeviceWish, NonFinite, Precision, Schedule, Train};
pub use sections::tuner::{Partial, TooManyBlocks, Tuner, TunerKind, auto_adapter_dim};

use serde::{Deserialize, Serialize};

/// What the user chose on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Preset of a data set, or the path of a `.toml` file of the user's, which wins over every preset.
    pub data: String,
    /// Preset of a model, or such a file.
    pub model: String,
    /// Preset of a method, or such a file.
    pub method: String,
    /// `--set` flags, as `section.key=value`, in order; a later one wins.
    pub set: Vec<String>,
}

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Images and their order.
    pub data: Data,
    /// Optimiser, schedule, device.
    pub train: Train,
    /// Backbone.
    pub model: Model,
    /// Where the backbone is.
    pub backbone: Backbone,
    /// What is trained beside the head.
    pub tuner: Tuner,
    /// Classifier.
    pub head: Head,
    /// What is minimised.
    pub loss: Loss,
    /// Testing.
    pub eval: Eval,
    /// What is saved on the way.
    pub checkpoint: Checkpoint,
    /// Several ranks.
    pub distributed: Distributed,
}

impl Config {
    /// The configuration of a selection, with the presets and the working directory of this process.
    pub fn resolve(selection: &Selection) -> Result<Resolved, ConfigError> {
        let folder = std::env::current_dir().map_err(|error| presets::cannot_read(".".as_ref(), &error))?;
        Resolved::new(selection, &Presets::find()?, &folder)
    }

    /// The configuration that [`Resolved::to_toml`] wrote into the folder of a run.
    pub fn from_run_folder(text: &str) -> Result<Self, ConfigError> {
        Resolved::from_run_folder(text).map(|resolved| resolved.config)
    }

    /// The reference page of all keys, as Markdown.
    pub fn reference_markdown() -> String {
        reference::markdown()
    }
}

/// All sections, in the order of [`Config`].
pub const SECTIONS: [&Section; 10] = [
    &Data::SECTION,
    &Train::SECTION,
    &Model::SECTION,
    &Backbone::SECTION,
    &Tuner::SECTION,
    &Head::SECTION,
    &Loss::SECTION,
    &Eval::SECTION,
    &Checkpoint::SECTION,
    &Distributed::SECTION,
];

/// All keys with their sections.
fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> + Clone {
    SECTIONS.into_iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

/// The key of a full name, `section.key`.
fn find_key(full: &str) -> Option<(&'static Section, &'static Key)> {
    let (section, key) = full.split_once('.')?;
    keys().find(|(its_section, its_key)| its_section.name == section && its_key.name == key)
}

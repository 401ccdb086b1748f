//! Configuration: plain TOML in layers, typed, with the origin of each value.
//!
//! [`Config::resolve`] applies these layers in order: `base.toml`, the presets of a data set, a model and a method, the
//! user's own files, and `--set` flags. The user's input is a [`Selection`]; the program uses a [`Config`]. Resolving
//! checks that every key is known, that every value has the right type and is in its range, and that every option of
//! the user has an effect. Each key is declared once with all its properties, in `sections` or in the file of the
//! method that it belongs to (see [`crate::options`]); everything else in this module is derived from the declarations.

mod base;
mod changed;
mod combinations;
mod entry;
mod error;
mod idle;
mod layers;
mod nearest;
mod origin;
mod paths;
mod presets;
mod reference;
mod resolved;
mod run_folder;
mod sections;
mod tables;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use origin::{Origin, PresetKind};
pub use presets::{LIFT_CONFIGS, PresetSource, Presets};
pub use resolved::{Resolved, SelectedNames, SettingDifference};
pub use sections::backbone::{BackboneOptions, BackbonePlacement};
pub use sections::checkpoint::{BestMetric, CheckpointOptions};
pub use sections::data::{
    CacheName, DataOptions, DecodeName, DemoStyleName, Imbalance, LayoutName, SamplerName,
};
pub use sections::distributed::{Backend, DistributedOptions, Wire};
pub use sections::eval::{CropsName, EvalOptions, EvalSplit};
pub use sections::head::{HeadOptions, HeadPlacement};
pub use sections::loss::LossOptions;
pub use sections::model::{
    ActivationName, EmbeddedName, FilterName, ModelKind, ModelOptions, PoolName, PositionsName,
};
pub use sections::train::{
    AccumulationName, AttentionName, Determinism, DeviceName, FrozenProductsName, GpuKernelsName,
    KernelsName, MicroBatchSize, NonFinite, PrecisionName, ResidualName, ScheduleName, TrainOptions,
};
pub use sections::tuner::{Partial, TooManyBlocks, TunerOptions};
pub use tables::{OptionTable, methods, tables};

use crate::options::{Declared, OnResume, OptionKey, OptionWord, Values};
use serde::{Serialize, Serializer};
use tables::{find_key, keys};
use toml::Value;

/// The user's choices on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Preset of a data set, or the path of a `.toml` file of the user, which overrides every preset.
    pub data: String,
    /// Preset of a model, or such a file.
    pub model: String,
    /// Preset of a method, or such a file.
    pub method: String,
    /// `--set` flags, as `section.key=value`, in order; a later one overrides an earlier one.
    pub set: Vec<String>,
}

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Images and their order.
    pub data: DataOptions,
    /// Optimiser, schedule, device.
    pub train: TrainOptions,
    /// Backbone.
    pub model: ModelOptions,
    /// Placement of the backbone.
    pub backbone: BackboneOptions,
    /// Tuners, which are trained besides the head.
    pub tuner: TunerOptions,
    /// Classifier.
    pub head: HeadOptions,
    /// Loss.
    pub loss: LossOptions,
    /// Evaluation.
    pub eval: EvalOptions,
    /// Checkpoints.
    pub checkpoint: CheckpointOptions,
    /// Communication between ranks.
    pub distributed: DistributedOptions,
    /// The options of all methods; [`Config::options`] gives those of one.
    pub methods: Values,
}

/// The folder that relative paths of the command line are relative to.
fn working_folder() -> Result<std::path::PathBuf, ConfigError> {
    std::env::current_dir().map_err(|error| presets::cannot_read(".".as_ref(), &error))
}

impl Config {
    /// The configuration of a selection, with the presets and the working directory of this process.
    pub fn resolve(selection: &Selection) -> Result<Resolved, ConfigError> {
        Resolved::new(selection, &Presets::find()?, &working_folder()?)
    }

    /// The same for work that reads images and no weights.
    pub fn resolve_for_images(selection: &Selection) -> Result<Resolved, ConfigError> {
        Resolved::for_images(selection, &Presets::find()?, &working_folder()?)
    }

    /// The configuration that [`Resolved::to_toml`] wrote into the folder of a run.
    pub fn from_run_folder(text: &str) -> Result<Self, ConfigError> {
        Resolved::from_run_folder(text).map(|resolved| resolved.config)
    }

    /// The reference page of all keys, as Markdown.
    pub fn reference_markdown() -> String {
        reference::markdown()
    }

    /// The meaning of a changed value for a resumed run; `None` if there is no such key.
    pub fn on_resume(key: &str) -> Option<OnResume> {
        find_key(key).map(|key| key.on_resume)
    }

    /// The current name of a key that may be given by a former name.
    pub fn name_of_key(key: &str) -> &str {
        find_key(key).map_or(key, |key| key.name)
    }

    /// The options of a method.
    pub fn options<T: Declared>(&self) -> T {
        self.methods.read()
    }

    /// The configuration of these values. Keys without a value have their defaults.
    fn of(values: &Values) -> Self {
        Self {
            data: values.read(),
            train: values.read(),
            model: values.read(),
            backbone: values.read(),
            tuner: values.read(),
            head: values.read(),
            loss: values.read(),
            eval: values.read(),
            checkpoint: values.read(),
            distributed: values.read(),
            methods: values.only(|name| find_key(name).is_some_and(|key| !tables::users(key).is_empty())),
        }
    }

    /// Every value.
    fn values(&self) -> Values {
        let mut values = self.methods.clone();
        values.put_all(&self.data);
        values.put_all(&self.train);
        values.put_all(&self.model);
        values.put_all(&self.backbone);
        values.put_all(&self.tuner);
        values.put_all(&self.head);
        values.put_all(&self.loss);
        values.put_all(&self.eval);
        values.put_all(&self.checkpoint);
        values.put_all(&self.distributed);
        values
    }

    /// Every value with its full name, in the order of the tables.
    fn pairs(&self) -> Vec<(&'static str, Value)> {
        let values = self.values();
        keys().filter_map(|key| Some((key.name, values.get(key.name)?.clone()))).collect()
    }
}

/// As tables.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let values = self.values();
        let entries = |table: &OptionTable| {
            let entry = |key: &&OptionKey| Some((key.short.to_owned(), values.get(key.name)?.clone()));
            Value::Table(table.keys.iter().filter_map(entry).collect())
        };
        to.collect_map(tables().iter().map(|table| (table.name, entries(table))))
    }
}

/// The words that a key accepts; empty for a key that is not a choice of words.
pub fn words_of(key: &str) -> Vec<OptionWord> {
    find_key(key).map_or_else(Vec::new, |key| (key.words)())
}

/// The demo with these `--set` flags.
#[cfg(test)]
pub(crate) fn demo_config(set: &[&str]) -> Config {
    let set = set.iter().map(|&set| set.to_owned()).collect();
    let selection = Selection { data: "demo".into(), model: "demo".into(), method: "lift".into(), set };
    Config::resolve(&selection).unwrap().config
}

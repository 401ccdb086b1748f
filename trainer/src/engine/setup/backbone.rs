//! The backbone of a run before it is loaded: its file, and all settings that its tensors do not determine.

use crate::config::{ActivationName, Config, ModelKind, PoolName, PositionsName, Resolved};
use crate::engine::failure::Failure;
use crate::engine::setup::sources::open_weights;
use crate::model::backbone_config::{BackboneConfig, Pixels, Pool, SidecarConfig, Stated, StatedValue};
use crate::model::layers::Activation;
use crate::model::loading::{resized_positions, tower_shape, vision_layers, vision_width};
use crate::model::tower::TowerShape;
use crate::weights::{NamedTensors, TensorLayout};

/// A backbone's file, and how it is computed.
pub struct BackboneFile {
    /// Its tensors, under the names of its layout.
    pub tensors: NamedTensors,
    /// The layout.
    pub layout: TensorLayout,
    /// SHA-256 over names, kinds, shapes and numbers of all tensors.
    pub fingerprint: String,
    /// Settings that the tensors do not determine.
    pub config: BackboneConfig,
    /// Notes about settings that were assumed or not taken from the preset.
    pub notes: Vec<String>,
}

impl BackboneFile {
    /// Opens the configured file, and determines the settings that its tensors leave open.
    pub fn open(resolved: &Resolved) -> Result<Self, Failure> {
        let (tensors, layout) = open_weights(&resolved.config)?;
        let beside = SidecarConfig::read(|name| tensors.beside(name)).map_err(Failure::input)?;
        let settled = BackboneConfig::settle(&tensors, layout, beside.as_ref(), &stated(resolved));
        let (config, settled_notes) = settled.map_err(Failure::input)?;
        let notes = [tensors.notes(), &settled_notes].concat();
        let fingerprint = tensors.fingerprint();
        let mut file = Self { tensors, layout, fingerprint, config, notes };
        if file.config.resize_positions {
            let resized = resized_positions(&file.tensors, layout, &file.shape()?);
            file.notes.extend(resized.map(|(from, to)| {
                format!(
                    "model.positions: those of {from} x {from} patches in the file are resized to {to} x {to}"
                )
            }));
        }
        Ok(file)
    }

    /// Sizes of the image tower.
    pub fn shape(&self) -> Result<TowerShape, Failure> {
        tower_shape(&self.tensors, self.layout, self.config.resolution).map_err(Failure::input)
    }

    /// Writes the determined settings into the configuration of the run.
    pub fn enter(&self, config: &mut Config) {
        config.model.resolution = self.config.resolution;
        (config.model.mean, config.model.std) = (self.config.pixels.mean, self.config.pixels.std);
    }

    /// Width of the image tower.
    pub fn width(&self) -> Result<i64, Failure> {
        vision_width(&self.tensors, self.layout).map_err(Failure::input)
    }

    /// Blocks of the image tower.
    pub fn layers(&self) -> usize {
        vision_layers(&self.tensors, self.layout)
    }
}

/// The options that are set, with their origins.
fn stated(resolved: &Resolved) -> Stated {
    let model = &resolved.config.model;
    let size = |key, size: u32| value(resolved, key, (size > 0).then_some(i64::from(size)));
    let activation = match model.activation {
        ActivationName::Auto => None,
        ActivationName::QuickGelu => Some(Activation::QuickGelu),
        ActivationName::Gelu => Some(Activation::Gelu),
        ActivationName::GeluTanh => Some(Activation::GeluTanh),
    };
    let pool = match model.pool {
        PoolName::Auto => None,
        PoolName::Token => Some(Pool::Token),
        PoolName::Avg => Some(Pool::Average),
    };
    let pixels = Pixels { mean: model.mean, std: model.std };
    let mean_or_std = if of_user(resolved, "model.std") { "model.std" } else { "model.mean" };
    Stated {
        activation: value(resolved, "model.activation", activation),
        heads: size("model.heads", model.heads),
        pool: value(resolved, "model.pool", pool),
        width: size("model.width", model.width),
        layers: size("model.layers", model.layers),
        patch: size("model.patch", model.patch),
        resolution: value(resolved, "model.resolution", Some(model.resolution)),
        resize_positions: model.positions == PositionsName::Resized,
        pixels: value(resolved, mean_or_std, Some(pixels)),
        certain: model.kind == ModelKind::Demo,
    }
}

fn value<T>(resolved: &Resolved, key: &str, value: Option<T>) -> StatedValue<T> {
    let origin = resolved.origins.get(key).map(ToString::to_string).unwrap_or_default();
    StatedValue { value, of_user: of_user(resolved, key), origin }
}

fn of_user(resolved: &Resolved, key: &str) -> bool {
    resolved.origins.get(key).is_some_and(crate::config::Origin::is_of_user)
}

//! Properties of a backbone that its tensors do not determine: activation, heads, pooling, epsilon of the norms, pixel
//! statistics.
//!
//! A weight file does not distinguish QuickGELU from GELU, or 16 heads of 80 from 20 of 64. Each property is taken from
//! the first of these sources that states it, and every assumption is reported:
//!
//! 1. the configuration file beside the weights ([`SidecarConfig`]),
//! 2. the options of the run ([`Stated`]), those of the user before those of the model's preset,
//! 3. the rule that all published models of the family follow, where there is one.
//!
//! If none of them states a property, the run is refused with the possible values.

mod hugging_face;
mod open_clip;
mod sidecar;
mod stated;
mod statement;
#[cfg(test)]
mod tests;
mod timm;

pub use stated::{Pixels, Stated, StatedSizes, StatedValue};
pub use statement::{SidecarConfig, SidecarError, TowerWords};

use super::layers::Activation;
use super::loading::{pools_by_attention, text_width, vision_layers, vision_patch, vision_width};
use crate::weights::{NamedTensors, Naming, TensorLayout, WeightsError};
use std::fmt;

/// Width of a head in every published ViT up to [`WIDEST_OF_64`] and in all text towers of CLIP.
const HEAD_WIDTH: i64 = 64;
/// A wider ViT has heads of 72 (SO400M), 80 (H), 88 (g) or 104 (G).
const WIDEST_OF_64: i64 = 1024;

/// The properties of the blocks of a tower that its tensors do not determine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerConfig {
    /// Between the two products of the MLP.
    pub activation: Activation,
    /// Attention heads.
    pub heads: i64,
    /// Epsilon of every layer norm.
    pub norm_eps: f64,
}

/// The pooling of the image features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// The mean over the patches, without the class token.
    Average,
    /// A learned query that attends to the patches, whose tensors are in the file.
    Attention,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Average => "avg",
            Self::Attention => "map",
        })
    }
}

/// All properties of a backbone that its tensors do not determine.
#[derive(Debug, Clone, PartialEq)]
pub struct BackboneConfig {
    /// The image tower.
    pub vision: TowerConfig,
    /// The text tower, where the file has one.
    pub text: Option<TowerConfig>,
    /// The pooling.
    pub pool: Pool,
    /// Side of the images in pixels.
    pub resolution: u32,
    /// Positions for another resolution are resized, not refused.
    pub resize_positions: bool,
    /// Mean and standard deviation of the pixels.
    pub pixels: Pixels,
}

impl fmt::Display for BackboneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tower = |tower: &TowerConfig| {
            format!("{}, {} heads, norm epsilon {:e}", tower.activation, tower.heads, tower.norm_eps)
        };
        write!(f, "image tower with {}", tower(&self.vision))?;
        if let Some(text) = &self.text {
            write!(f, "; text tower with {}", tower(text))?;
        }
        write!(f, "; pooling {}; {} pixels of {}", self.pool, self.resolution, self.pixels)?;
        if self.resize_positions {
            f.write_str("; positions resized to them")?;
        }
        Ok(())
    }
}

/// A backbone whose configuration is incomplete or contradictory.
#[derive(Debug, thiserror::Error)]
pub enum BackboneConfigError {
    /// The configuration beside the weights cannot be used.
    #[error(transparent)]
    Beside(#[from] SidecarError),
    /// A tensor that determines the configuration is missing.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file is not the preset's model.
    #[error(
        "{file}: {what} is {found}, but {origin} states {expected}\nhint: choose the preset of this model, or set `model.{key}={found}`"
    )]
    Shape {
        /// The weights.
        file: String,
        /// The property that differs, in words.
        what: &'static str,
        /// The key that states it.
        key: &'static str,
        /// The stated value.
        expected: i64,
        /// The value in the file.
        found: i64,
        /// The origin of the statement.
        origin: String,
    },
    /// The configuration beside the weights contradicts the user.
    #[error(
        "`{key} = {stated}` ({origin}) contradicts {beside}, which states {found}\nhint: leave the option out, or correct that file"
    )]
    Contradiction {
        /// The option.
        key: &'static str,
        /// What the user stated.
        stated: String,
        /// Where.
        origin: String,
        /// The configuration file.
        beside: String,
        /// What it states.
        found: String,
    },
    /// No source states a property.
    #[error(
        "{file}: nothing states {what}, and the tensors do not determine it\nhint: put the model's configuration file beside the weights, or set `{key}` to {choices}"
    )]
    Open {
        /// The weights.
        file: String,
        /// The unknown property, in words.
        what: String,
        /// The option that states it.
        key: &'static str,
        /// The possible values.
        choices: String,
    },
    /// Pooling whose tensors are missing in the file, or would not be used.
    #[error(
        "{file} {holds}, but {origin} states pooling `{stated}`\nhint: leave that out, or give the weights that go with it"
    )]
    Pool {
        /// The weights.
        file: String,
        /// The contents, in words.
        holds: &'static str,
        /// The stated value.
        stated: Pool,
        /// The origin of the statement.
        origin: String,
    },
    /// Heads that do not divide the width.
    #[error("{origin} states {heads} attention heads, which do not divide the width {width}")]
    Heads {
        /// The origin of the statement.
        origin: String,
        /// The stated value.
        heads: i64,
        /// Width of the tower.
        width: i64,
    },
}

impl BackboneConfig {
    /// Determines every property. Returns notes for the user about assumptions and overridden presets.
    pub fn settle(
        tensors: &NamedTensors,
        layout: TensorLayout,
        beside: Option<&SidecarConfig>,
        stated: &Stated,
    ) -> Result<(Self, Vec<String>), BackboneConfigError> {
        let file = tensors.file();
        let shape = StatedSizes {
            width: vision_width(tensors, layout)?,
            layers: vision_layers(tensors, layout) as i64,
            patch: vision_patch(tensors, layout)?,
        };
        let naming = tensors.naming();
        let norm_eps = norm_eps(naming, layout);
        let mut settling = Settling { file: &file, naming, norm_eps, beside, stated, notes: Vec::new() };
        settling.check_shape(shape)?;
        let config = Self {
            vision: settling.vision(shape.width)?,
            text: text_width(tensors)?.map(|width| settling.text(width)).transpose()?,
            pool: settling.pool(pools_by_attention(tensors))?,
            resolution: settling.resolution(),
            resize_positions: stated.resize_positions,
            pixels: settling.pixels(),
        };
        Ok((config, settling.notes))
    }

    /// For a file whose layout determines everything: OpenAI's CLIP and timm's ViT with heads of 64, for images of
    /// `resolution`.
    pub fn of_layout(
        tensors: &NamedTensors,
        layout: TensorLayout,
        resolution: u32,
    ) -> Result<Self, WeightsError> {
        let activation =
            if layout == TensorLayout::OpenAiClip { Activation::QuickGelu } else { Activation::Gelu };
        let norm_eps = norm_eps(None, layout);
        let tower = |width: i64| TowerConfig { activation, heads: width / HEAD_WIDTH, norm_eps };
        Ok(Self {
            vision: tower(vision_width(tensors, layout)?),
            text: text_width(tensors)?.map(tower),
            pool: if pools_by_attention(tensors) { Pool::Attention } else { Pool::Token },
            resolution,
            resize_positions: false,
            pixels: Pixels { mean: [0.5; 3], std: [0.5; 3] },
        })
    }
}

/// Epsilon of the norms where no configuration states it.
fn norm_eps(naming: Option<Naming>, layout: TensorLayout) -> f64 {
    match layout {
        TensorLayout::OpenAiClip => 1e-5,
        TensorLayout::TimmVit if naming == Some(Naming::HuggingFaceVit) => 1e-12,
        TensorLayout::TimmVit => 1e-6,
    }
}

struct Settling<'a> {
    file: &'a str,
    naming: Option<Naming>,
    norm_eps: f64,
    beside: Option<&'a SidecarConfig>,
    stated: &'a Stated,
    notes: Vec<String>,
}

impl Settling<'_> {
    /// The file has the shape that the preset and the configuration beside it state.
    fn check_shape(&mut self, found: StatedSizes) -> Result<(), BackboneConfigError> {
        if let Some(beside) = self.beside {
            beside.describes(found)?;
        }
        let of_another_size = self.stated.resolution.of_user;
        for (key, what, stated, found, binding) in [
            ("patch", "the side of a patch", &self.stated.patch, found.patch, true),
            ("width", "the width", &self.stated.width, found.width, !of_another_size),
            ("layers", "the number of blocks", &self.stated.layers, found.layers, !of_another_size),
        ] {
            let Some(expected) = stated.value.filter(|expected| *expected != found) else { continue };
            if binding || stated.of_user {
                let (file, origin) = (self.file.to_owned(), stated.origin.clone());
                return Err(BackboneConfigError::Shape { file, what, key, expected, found, origin });
            }
            self.notes.push(format!(
                "{}: {what} is {found}, not the {expected} of {}: taken as another model, because model.resolution was set",
                self.file, stated.origin
            ));
        }
        Ok(())
    }

    fn vision(&mut self, width: i64) -> Result<TowerConfig, BackboneConfigError> {
        let words = self.beside.map(|beside| beside.vision).unwrap_or_default();
        let activation = self.activation(words.activation)?;
        let heads = self.heads(words.heads, width)?;
        Ok(TowerConfig { activation, heads, norm_eps: words.norm_eps.unwrap_or(self.norm_eps) })
    }

    fn text(&mut self, width: i64) -> Result<TowerConfig, BackboneConfigError> {
        let words = self.beside.map(|beside| beside.text).unwrap_or_default();
        let activation = match words.activation {
            Some(activation) => activation,
            None => self.activation(self.beside.and_then(|beside| beside.vision.activation))?,
        };
        let heads = words.heads.unwrap_or(width / HEAD_WIDTH);
        self.check_heads(heads, width)?;
        Ok(TowerConfig { activation, heads, norm_eps: words.norm_eps.unwrap_or(self.norm_eps) })
    }

    fn activation(&mut self, beside: Option<Activation>) -> Result<Activation, BackboneConfigError> {
        let stated = &self.stated.activation;
        // timm's image towers of CLIP and SigLIP exist with either activation, whatever the preset states.
        let either = matches!(self.naming, Some(Naming::TimmClip | Naming::TimmSiglip));
        let preset_holds = !either || beside.is_some() || stated.of_user;
        if preset_holds && let Some(activation) = self.choose("model.activation", beside, stated)? {
            if beside.is_none() && !stated.of_user && !self.stated.certain {
                self.note(format!(
                    "model.activation: {activation}, as {} states; the weights do not determine it, and many open_clip models (LAION, DataComp) have gelu where OpenAI's have quick_gelu",
                    stated.origin
                ));
            }
            return Ok(activation);
        }
        Err(self.open(
            "the activation of its blocks".to_owned(),
            "model.activation",
            "gelu, quick_gelu or gelu_tanh",
        ))
    }

    fn heads(&mut self, beside: Option<i64>, width: i64) -> Result<i64, BackboneConfigError> {
        if let Some(heads) = self.choose("model.heads", beside, &self.stated.heads)? {
            self.check_heads(heads, width)?;
            return Ok(heads);
        }
        if width <= WIDEST_OF_64 && width > 0 && width % HEAD_WIDTH == 0 {
            return Ok(width / HEAD_WIDTH);
        }
        let choices = (4..=40).filter(|heads| width % heads == 0 && (32..=128).contains(&(width / heads)));
        let choices: Vec<String> = choices.map(|heads| format!("{heads} (of {})", width / heads)).collect();
        Err(self.open(
            format!("the heads of its blocks of width {width}"),
            "model.heads",
            &choices.join(", "),
        ))
    }

    fn check_heads(&self, heads: i64, width: i64) -> Result<(), BackboneConfigError> {
        if heads > 0 && width % heads == 0 {
            return Ok(());
        }
        let origin = match self.beside {
            Some(beside) => beside.file.display().to_string(),
            None if self.stated.heads.value.is_some() => self.stated.heads.origin.clone(),
            None => self.file.to_owned(),
        };
        Err(BackboneConfigError::Heads { origin, heads, width })
    }

    /// `by_attention`: the file contains the tensors of attention pooling.
    fn pool(&mut self, by_attention: bool) -> Result<Pool, BackboneConfigError> {
        let beside = self.beside.and_then(|beside| Some((beside.pool?, beside.file.display().to_string())));
        let found = beside.as_ref().map(|(pool, _)| *pool);
        let chosen = self.choose("model.pool", found, &self.stated.pool)?;
        let of_file = if by_attention { Pool::Attention } else { Pool::Token };
        let pool = chosen.unwrap_or(of_file);
        if (pool == Pool::Attention) == by_attention {
            return Ok(pool);
        }
        Err(BackboneConfigError::Pool {
            file: self.file.to_owned(),
            holds: if by_attention {
                "pools by attention (attn_pool)"
            } else {
                "has no attention pooling (attn_pool)"
            },
            stated: pool,
            origin: beside.map_or_else(|| self.stated.pool.origin.clone(), |(_, file)| file),
        })
    }

    /// The value of the file's configuration, else that of a preset; the user may not contradict the configuration.
    fn choose<T: Copy + PartialEq + fmt::Display>(
        &mut self,
        key: &'static str,
        beside: Option<T>,
        stated: &StatedValue<T>,
    ) -> Result<Option<T>, BackboneConfigError> {
        let (Some(found), Some(file)) = (beside, self.beside.map(|beside| &beside.file)) else {
            return Ok(stated.value);
        };
        if let Some(value) = stated.value.filter(|value| *value != found) {
            let origin = stated.origin.clone();
            if stated.of_user {
                let (stated, beside, found) =
                    (value.to_string(), file.display().to_string(), found.to_string());
                return Err(BackboneConfigError::Contradiction { key, stated, origin, beside, found });
            }
            self.note(format!("{key}: {found}, as {} states, not {value} of {origin}", file.display()));
        }
        Ok(Some(found))
    }

    /// The value of the user, else of the file's configuration, else of the preset; if positions are resized, the file is
    /// valid for any resolution.
    fn resolution(&mut self) -> u32 {
        let stated = &self.stated.resolution;
        let preset = stated.value.unwrap_or_default();
        if self.stated.resize_positions {
            return preset;
        }
        match self.beside.and_then(|beside| Some((beside.resolution?, &beside.file))) {
            Some((found, file)) if !stated.of_user && found != preset => {
                self.notes.push(format!(
                    "model.resolution: {found}, as {} states, not {preset} of {}",
                    file.display(),
                    stated.origin
                ));
                found
            }
            _ => preset,
        }
    }

    /// The value of the user, else of the file's configuration, else of the preset.
    fn pixels(&mut self) -> Pixels {
        let stated = &self.stated.pixels;
        let preset = stated.value.unwrap_or_default();
        let Some((found, file)) = self.beside.and_then(|beside| beside.pixels.clone()) else { return preset };
        if found == preset {
            return preset;
        }
        if stated.of_user {
            self.notes.push(format!(
                "model.mean and model.std: {preset} ({}), not {found} of {}",
                stated.origin,
                file.display()
            ));
            return preset;
        }
        self.notes.push(format!(
            "model.mean and model.std: {found}, as {} states, not {preset} of {}",
            file.display(),
            stated.origin
        ));
        found
    }

    fn open(&self, what: String, key: &'static str, choices: &str) -> BackboneConfigError {
        BackboneConfigError::Open { file: self.file.to_owned(), what, key, choices: choices.to_owned() }
    }

    /// Adds a note once, because both towers query the same properties.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

//! The properties of the backbone that the options of a run state.

use super::Pool;
use crate::model::layers::Activation;
use std::fmt;

/// An option's value and its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct StatedValue<T> {
    /// The stated value; `None` if the option does not state one.
    pub value: Option<T>,
    /// Whether the user set it, not a preset.
    pub of_user: bool,
    /// Its origin, for messages.
    pub origin: String,
}

impl<T> Default for StatedValue<T> {
    fn default() -> Self {
        Self { value: None, of_user: false, origin: String::new() }
    }
}

/// Statements of a run's options. A preset describes one model; options of the user override it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stated {
    /// Activation of the blocks.
    pub activation: StatedValue<Activation>,
    /// Heads of the image tower.
    pub heads: StatedValue<i64>,
    /// The pooling.
    pub pool: StatedValue<Pool>,
    /// Width of the image tower.
    pub width: StatedValue<i64>,
    /// Blocks of the image tower.
    pub layers: StatedValue<i64>,
    /// Side of a patch in pixels.
    pub patch: StatedValue<i64>,
    /// Side of the images in pixels. Where the user sets it, width and number of blocks of a preset no longer bind: the file
    /// is another model of the family.
    pub resolution: StatedValue<u32>,
    /// Whether positions for another resolution are resized.
    pub resize_positions: bool,
    /// Mean and standard deviation of the pixels.
    pub pixels: StatedValue<Pixels>,
    /// Whether the preset is known to describe this file: it is part of the program, or contains its own code.
    pub certain: bool,
}

/// Sizes of an image tower, as its tensors have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedSizes {
    /// Width of the hidden state.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
}

/// Mean and standard deviation of red, green and blue, for pixels from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pixels {
    /// Of red, green and blue.
    pub mean: [f64; 3],
    /// Of red, green and blue.
    pub std: [f64; 3],
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mean {:?}, std {:?}", self.mean, self.std)
    }
}

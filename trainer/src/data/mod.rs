//! The data pipeline of a rank: locating, reading, cropping and batching images.
//!
//! This module is independent of models, ranks and configuration. It receives positions of the global order
//! and delivers their images: [`source`] lists the images and reads one of them, [`mod@decode`] turns a file
//! into pixels, [`transform`] crops and scales them (with [`resize`]), and [`loader`] does all of this on
//! worker threads, in the requested order. [`pack`] writes a data set into tar shards.

pub mod decode;
pub mod demo;
pub mod error;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod loader;
pub mod order;
pub mod pack;
pub mod resize;
pub mod source;
pub mod survey;
pub mod transform;

pub use decode::{DecodeError, RgbImage, decode};
pub use error::DataError;

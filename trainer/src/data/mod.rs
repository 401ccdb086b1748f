//! Images on their way to a rank: where they lie, how they are read, cut and handed over.
//!
//! This room knows nothing of models, ranks or configuration. It is told which positions of the global
//! order to deliver and delivers them: [`source`] says what there is and reads one image, [`mod@decode`]
//! turns a file into pixels, [`transform`] cuts and scales them (with [`resize`]), [`loader`] does all of
//! that on worker threads, in the order asked for.

pub mod decode;
pub mod demo;
pub mod error;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod loader;
pub mod order;
pub mod resize;
pub mod source;
pub mod transform;

pub use decode::{DecodeError, RgbImage, decode};
pub use error::DataError;

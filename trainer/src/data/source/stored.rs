//! An image in the form in which its source holds it, for whoever decodes, copies or caches it.

use super::ImageReader;
use crate::data::decode::{RgbImage, decode};
use crate::data::error::DataError;

/// An image in the form in which its source holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    /// The bytes of an image file.
    Encoded(&'a [u8]),
    /// RGB pixels, row by row, which need no decoding.
    Pixels {
        /// Pixels in a row.
        width: u32,
        /// Number of rows.
        height: u32,
        /// `height * width * 3` bytes.
        pixels: &'a [u8],
    },
}

/// Reads and decodes an image of a reader that implements `stored`.
pub(super) fn decoded(reader: &dyn ImageReader, index: usize) -> Result<RgbImage, DataError> {
    let mut image = None;
    reader.stored(index, &mut |stored| {
        image = Some(match stored {
            Stored::Encoded(bytes) => decode(bytes),
            Stored::Pixels { width, height, pixels } => {
                Ok(RgbImage { width, height, pixels: pixels.to_vec() })
            }
        });
    })?;
    let image = image.ok_or_else(|| {
        DataError::image(reader.name(index), std::io::Error::other("its source returned nothing"))
    })?;
    image.map_err(|error| DataError::image(reader.name(index), error))
}

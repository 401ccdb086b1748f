//! Bytes of an image file to RGB pixels, equal to what Pillow's `Image.open(file).convert("RGB")` gives.
//!
//! The published accuracies were computed with Pillow's pixels, so this module follows Pillow's conventions
//! even where a standard differs: alpha is dropped, the EXIF orientation is not applied, 16-bit grey is
//! clipped to 255, CMYK is treated as inverted, and only the first frame of an animation is used. A truncated
//! image is an error, as in Pillow. For other damage to PNG, GIF and BMP files, both an error and pixels are
//! acceptable.

mod bmp;
mod format;
mod gif;
mod jpeg;
mod part;
mod png;
mod pnm;
#[cfg(test)]
mod tests;
mod tiff;
mod webp;

pub use format::START;
use format::{Content, PictureFormat, recognise};
pub use jpeg::Component;
pub use part::{DecodeBuffers, Part, Picture, Precision, Rect};

/// Images with more pixels than this are refused before any memory is allocated for them. Pillow raises
/// `DecompressionBombError` at the same number (twice a quarter of a GiB of RGB pixels).
pub const MAX_PIXELS: u64 = 2 * 89_478_485;

/// An 8-bit RGB image, row by row, three bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

/// Why the bytes of a file are not an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the file is empty; expected a JPEG, PNG, WebP, GIF, BMP, TIFF or PNM image")]
    Empty,
    /// The first bytes belong to none of the formats.
    #[error(
        "not an image of a known format (first bytes {start}); expected JPEG, PNG, WebP, GIF, BMP, TIFF or PNM"
    )]
    Unrecognised {
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// An image of a format that is not decoded.
    #[error(
        "the {0} format is not decoded\nhint: convert the file to JPEG, PNG, WebP, GIF, BMP, TIFF or PNM"
    )]
    OtherImage(&'static str),
    /// Not an image.
    #[error("the file is {0}, not an image")]
    NoImage(&'static str),
    /// The file ends before the image does.
    #[error("the {format} image is cut short\nhint: copy the file again")]
    Truncated {
        /// Name of the format.
        format: &'static str,
    },
    /// The data contradict the format.
    #[error("the {format} image is damaged: {reason}")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// The problem.
        reason: String,
    },
    /// A correct file of a kind that is not read.
    #[error("unsupported {format} image: {reason}\nhint: convert the file")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// The unsupported property.
        reason: String,
    },
    /// More pixels than [`MAX_PIXELS`], or none.
    #[error("the {format} image has {width} x {height} pixels; expected 1 to {MAX_PIXELS} in total")]
    Size {
        /// Name of the format.
        format: &'static str,
        /// Width in the header.
        width: u64,
        /// Height in the header.
        height: u64,
    },
}

/// Decodes an image file.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    match can_be_decoded(bytes)? {
        PictureFormat::Jpeg => jpeg::decode(bytes),
        PictureFormat::Png => png::decode(bytes),
        PictureFormat::Gif => gif::decode(bytes),
        PictureFormat::Bmp => bmp::decode(bytes),
        PictureFormat::WebP => webp::decode(bytes),
        PictureFormat::Tiff => tiff::decode(bytes),
        PictureFormat::Pnm => pnm::decode(bytes),
    }
}

/// Checks by its first [`START`] bytes that a file is an image to decode; the error names any other kind of file.
pub fn probe(bytes: &[u8]) -> Result<(), DecodeError> {
    can_be_decoded(bytes).map(drop)
}

fn can_be_decoded(bytes: &[u8]) -> Result<PictureFormat, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    match recognise(&bytes[..bytes.len().min(START)]) {
        Content::Image(format) => Ok(format),
        Content::OtherImage(name) => Err(DecodeError::OtherImage(name)),
        Content::Other(name) => Err(DecodeError::NoImage(name)),
        Content::Unknown => {
            let start = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            Err(DecodeError::Unrecognised { start })
        }
    }
}

/// Number of pixels of an image whose claimed size has been checked.
fn checked_pixels(format: &'static str, width: u64, height: u64) -> Result<usize, DecodeError> {
    match width.checked_mul(height) {
        Some(pixels @ 1..=MAX_PIXELS) => Ok(pixels as usize),
        _ => Err(DecodeError::Size { format, width, height }),
    }
}

/// Little-endian and big-endian numbers and sub-slices that may lie beyond the end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn get(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16_le(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.get(at, 2)?.try_into().ok()?))
    }

    fn u16_be(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(at, 2)?.try_into().ok()?))
    }

    fn u32_le(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.get(at, 4)?.try_into().ok()?))
    }

    fn u32_be(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(at, 4)?.try_into().ok()?))
    }
}

/// RGB of palette indices; indices beyond the palette are black, as in Pillow.
fn paint(indices: &[u8], palette: &[[u8; 3]; 256]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(indices.len() * 3);
    for &index in indices {
        pixels.extend_from_slice(&palette[usize::from(index)]);
    }
    pixels
}

/// RGB of grey levels.
fn spread(grey: &[u8]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(grey.len() * 3);
    for &level in grey {
        pixels.extend_from_slice(&[level; 3]);
    }
    pixels
}

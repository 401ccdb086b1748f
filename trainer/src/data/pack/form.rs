//! The forms in which an image is packed.

use super::pixels;
use crate::data::decode::{DecodeError, RgbImage, decode};
use crate::data::resize::{Filter, resize};
use crate::data::source::Stored;
use std::borrow::Cow;
use std::fmt;
use turbojpeg::{Image, PixelFormat, Subsamp};

/// The form in which images are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackForm {
    /// The bytes of the source.
    Copied,
    /// Reduced to a shorter side with Pillow's bicubic filter, then compressed as JPEG with halved colour. An image that is
    /// not larger keeps the bytes of its source.
    Reduced {
        /// Pixels of the shorter side.
        shorter_side: u32,
        /// Quality of the JPEG, 1 to 100.
        quality: u8,
    },
    /// Pixels, reduced to a shorter side if one is given.
    Raw {
        /// Pixels of the shorter side.
        shorter_side: Option<u32>,
    },
}

impl fmt::Display for PackForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied => f.write_str("copied"),
            Self::Reduced { shorter_side, quality } => {
                write!(f, "shorter side {shorter_side}, JPEG quality {quality}")
            }
            Self::Raw { shorter_side: None } => f.write_str("raw"),
            Self::Raw { shorter_side: Some(side) } => write!(f, "raw, shorter side {side}"),
        }
    }
}

/// The bytes of an image in a shard, and their ending.
pub(super) struct Member<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) ending: &'static str,
}

/// Why an image cannot be packed.
pub(super) enum FormError {
    Decode(DecodeError),
    Encode(String),
}

impl From<DecodeError> for FormError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl PackForm {
    /// Brings an image into this form.
    pub(super) fn member<'a>(&self, stored: Stored<'a>) -> Result<Member<'a>, FormError> {
        match (*self, stored) {
            (Self::Copied, Stored::Encoded(bytes)) => Ok(copied(bytes)),
            (Self::Copied, stored) => Ok(raw(&image(stored)?)),
            (Self::Raw { shorter_side }, stored) => {
                let image = image(stored)?;
                Ok(raw(&shorter_side.and_then(|side| reduced(&image, side)).unwrap_or(image)))
            }
            (Self::Reduced { shorter_side, quality }, stored) => {
                let image = image(stored)?;
                match (reduced(&image, shorter_side), stored) {
                    (Some(small), _) => jpeg(&small, quality),
                    (None, Stored::Encoded(bytes)) => Ok(copied(bytes)),
                    (None, Stored::Pixels { .. }) => Ok(raw(&image)),
                }
            }
        }
    }
}

fn image(stored: Stored<'_>) -> Result<RgbImage, DecodeError> {
    match stored {
        Stored::Encoded(bytes) => decode(bytes),
        Stored::Pixels { width, height, pixels } => Ok(RgbImage { width, height, pixels: pixels.to_vec() }),
    }
}

/// The image with its shorter side reduced; none if it is not longer.
fn reduced(image: &RgbImage, side: u32) -> Option<RgbImage> {
    let shorter = image.width.min(image.height);
    let scaled = |len: u32| (f64::from(len) * f64::from(side) / f64::from(shorter)).round() as u32;
    (shorter > side).then(|| resize(image, scaled(image.width), scaled(image.height), Filter::Bicubic))
}

fn raw(image: &RgbImage) -> Member<'static> {
    Member { bytes: pixels::packed(image.width, image.height, &image.pixels).into(), ending: "ppm" }
}

fn copied(bytes: &[u8]) -> Member<'_> {
    Member { bytes: bytes.into(), ending: ending(bytes) }
}

/// Other programs recognise the members of a shard by their endings.
fn ending(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xd8, ..] => "jpg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'G', b'I', b'F', b'8', ..] => "gif",
        [b'B', b'M', ..] => "bmp",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "tiff",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        [b'P', b'1'..=b'7', ..] => "pnm",
        _ => "img",
    }
}

fn jpeg(image: &RgbImage, quality: u8) -> Result<Member<'static>, FormError> {
    let (width, height) = (image.width as usize, image.height as usize);
    let pixels =
        Image { pixels: image.pixels.as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    let bytes = turbojpeg::compress(pixels, i32::from(quality), Subsamp::Sub2x2);
    let bytes = bytes.map_err(|error| FormError::Encode(error.to_string()))?;
    Ok(Member { bytes: bytes.to_vec().into(), ending: "jpg" })
}

//! PNG, decoded by `png`. The conversions to RGB are those of Pillow: 16-bit colours keep the first of two bytes, 16-bit
//! grey is clipped to 255, alpha and transparent colours are dropped, and an animated file yields its default image.

use super::{DecodeError, RgbImage, checked_pixels, spread};
use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};
use std::io::{Cursor, ErrorKind};

const FORMAT: &str = "PNG";

/// Bytes of the largest pixel, RGBA of 16 bits.
const MAX_PIXEL: usize = 8;

/// One byte of deflated data decompresses to at most this many bytes.
const MAX_INFLATION: usize = 1032;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(failure)?;
    let (width, height) = info.size();
    checked_pixels(FORMAT, width.into(), height.into())?;
    if info.raw_bytes() / MAX_INFLATION > bytes.len() {
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    let transformations = match (info.color_type, info.bit_depth) {
        (ColorType::Indexed, _) | (_, BitDepth::One | BitDepth::Two | BitDepth::Four) => {
            Transformations::EXPAND
        }
        (ColorType::Grayscale, BitDepth::Sixteen) => Transformations::IDENTITY,
        _ => Transformations::STRIP_16,
    };
    decoder.set_transformations(transformations);
    // The default limit applies to the chunks before the image; rows are limited by the number of pixels.
    decoder.set_limits(Limits { bytes: Limits::default().bytes + width as usize * MAX_PIXEL });
    let mut reader = decoder.read_info().map_err(failure)?;
    let (color, depth) = reader.output_color_type();
    let mut samples = vec![0; reader.output_buffer_size().unwrap_or_default()];
    reader.next_frame(&mut samples).map_err(failure)?;
    let pixels = match (color, depth) {
        (ColorType::Rgb | ColorType::Indexed, _) => samples,
        (ColorType::Rgba, _) => pick(&samples, |&[red, green, blue, _]| [red, green, blue]),
        (ColorType::GrayscaleAlpha, _) => pick(&samples, |&[grey, _]| [grey; 3]),
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            pick(&samples, |&[high, low]| [if high == 0 { low } else { u8::MAX }; 3])
        }
        (ColorType::Grayscale, _) => spread(&samples),
    };
    Ok(RgbImage { width, height, pixels })
}

fn pick<const N: usize>(samples: &[u8], rgb: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    let stored = samples.as_chunks::<N>().0;
    let mut pixels = Vec::with_capacity(stored.len() * 3);
    for pixel in stored {
        pixels.extend_from_slice(&rgb(pixel));
    }
    pixels
}

fn failure(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        error => {
            let text = error.to_string();
            // The rest is the debug form of a chunk name.
            let reason = text.split(" while decoding ").next().unwrap_or_default().into();
            DecodeError::Damaged { format: FORMAT, reason }
        }
    }
}

//! WebP, lossy and lossless; for an animation, the first frame on a black canvas.

use super::{Bytes, DecodeError, RgbImage, checked_pixels};
use image_webp::{DecodingError, WebPDecoder};
use std::io::Cursor;

const FORMAT: &str = "WebP";

/// Bit of the extended header that marks an animation.
const ANIMATED: u8 = 0x02;

/// Bit of the extended header that marks an alpha plane.
const ALPHA: u8 = 0x10;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let reader = Bytes(bytes);
    if reader.u32_le(4).is_none_or(|len| bytes.len() - 8 < len as usize) {
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    if reader.get(12, 4) == Some(b"VP8X") && reader.u8(20).is_some_and(|flags| flags & ANIMATED != 0) {
        return decode_animation(bytes);
    }
    decode_still(bytes)
}

fn decode_still(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| failure(&error))?;
    let (width, height) = decoder.dimensions();
    let pixels = checked_pixels(FORMAT, width.into(), height.into())?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    decoder.set_memory_limit(usize::MAX);
    let mut samples = vec![0; pixels * channels];
    decoder.read_image(&mut samples).map_err(|error| failure(&error))?;
    if channels == 4 {
        // Alpha is dropped.
        for i in 0..pixels {
            samples.copy_within(4 * i..4 * i + 3, 3 * i);
        }
        samples.truncate(pixels * 3);
    }
    Ok(RgbImage { width, height, pixels: samples })
}

fn failure(error: &DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(_) => DecodeError::Truncated { format: FORMAT },
        error => DecodeError::Damaged { format: FORMAT, reason: error.to_string() },
    }
}

fn u24(reader: &Bytes, at: usize) -> Option<u32> {
    let bytes = reader.get(at, 3)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
}

/// Extracts the first frame, decodes it as a still file, and places it on the canvas.
fn decode_animation(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let truncated = || DecodeError::Truncated { format: FORMAT };
    let reader = Bytes(bytes);
    let (width, height) = u24(&reader, 24).zip(u24(&reader, 27)).ok_or_else(truncated)?;
    let (width, height) = (width + 1, height + 1);
    let pixels = checked_pixels(FORMAT, width.into(), height.into())?;
    let mut at = 12;
    let frame = loop {
        let (name, len) = reader.get(at, 4).zip(reader.u32_le(at + 4)).ok_or_else(truncated)?;
        let content = reader.get(at + 8, len as usize).ok_or_else(truncated)?;
        if name == b"ANMF" {
            break content;
        }
        at += 8 + content.len().next_multiple_of(2);
    };
    let place = Bytes(frame);
    let (left, top) = u24(&place, 0).zip(u24(&place, 3)).ok_or_else(truncated)?;
    let (left, top) = (left as usize * 2, top as usize * 2);
    let part = decode_still(&as_file(frame.get(16..).ok_or_else(truncated)?, &frame[6..12]))?;
    let (part_width, part_height) = (part.width as usize, part.height as usize);
    if left + part_width > width as usize || top + part_height > height as usize {
        let reason = "its first frame lies outside the screen".into();
        return Err(DecodeError::Damaged { format: FORMAT, reason });
    }
    let mut screen = vec![0; pixels * 3];
    let stride = width as usize * 3;
    for (y, row) in part.pixels.chunks_exact(part_width * 3).enumerate() {
        let start = (top + y) * stride + left * 3;
        screen[start..start + row.len()].copy_from_slice(row);
    }
    Ok(RgbImage { width, height, pixels: screen })
}

/// A still file from the chunks of a frame. `size` is its width and height in the encoding of the frame header.
fn as_file(chunks: &[u8], size: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(chunks.len() + 30);
    file.extend_from_slice(b"RIFF");
    let extended = chunks.starts_with(b"ALPH");
    let len = 4 + chunks.len() + if extended { 18 } else { 0 };
    file.extend_from_slice(&(len as u32).to_le_bytes());
    file.extend_from_slice(b"WEBP");
    if extended {
        file.extend_from_slice(b"VP8X\x0a\0\0\0");
        file.extend_from_slice(&[ALPHA, 0, 0, 0]);
        file.extend_from_slice(size);
    }
    file.extend_from_slice(chunks);
    file
}

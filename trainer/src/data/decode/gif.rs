//! The first frame of a GIF, decoded by `gif` and placed on the logical screen of the file, as in Pillow.

use super::{DecodeError, RgbImage, checked_pixels, paint};
use gif::{DecodeOptions, DecodingError};
use std::io::{ErrorKind, Read};

const FORMAT: &str = "GIF";

/// Bytes of the signature and of the logical screen descriptor.
const HEADER: usize = 13;

/// Offset in the header of the palette flags.
const FLAGS: usize = 10;

/// Flag that a palette follows; with no other bit set, the palette has two colours.
const HAS_PALETTE: u8 = 0x80;

/// The first two levels of grey, as a palette.
const GREYS: [u8; 6] = [0, 0, 0, 1, 1, 1];

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let mut header: [u8; HEADER] = *bytes.first_chunk().ok_or(DecodeError::Truncated { format: FORMAT })?;
    let mut added: &[u8] = &[];
    if header[FLAGS] & HAS_PALETTE == 0 {
        // A palette is optional in a file, but `gif` refuses a frame without one.
        header[FLAGS] = HAS_PALETTE;
        added = &GREYS;
    }
    let mut options = DecodeOptions::new();
    options.allow_unknown_blocks(true);
    let file = header.chain(added).chain(&bytes[HEADER..]);
    let mut decoder = options.read_info(file).map_err(failure)?;
    let screen = [decoder.width(), decoder.height()].map(usize::from);
    let frame = decoder.next_frame_info().map_err(failure)?.ok_or_else(|| damaged("it contains no image"))?;
    let [left, top, columns, rows] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let background = frame.transparent.unwrap_or(0);
    let local = frame.palette.clone();
    // A frame that reaches beyond the screen enlarges it.
    let [width, height] = [screen[0].max(left + columns), screen[1].max(top + rows)];
    let pixels = checked_pixels(FORMAT, width as u64, height as u64)?;
    if columns == 0 || rows == 0 {
        return Err(damaged("its first frame is empty"));
    }
    let mut part = vec![0; columns * rows];
    decoder.read_into_buffer(&mut part).map_err(failure)?;
    let indices = if part.len() == pixels {
        part
    } else {
        let mut indices = vec![background; pixels];
        for (y, row) in part.chunks_exact(columns).enumerate() {
            indices[(top + y) * width + left..][..columns].copy_from_slice(row);
        }
        indices
    };
    let palette = full_palette(local.as_deref().or(decoder.global_palette()).unwrap_or_default());
    Ok(RgbImage { width: width as u32, height: height as u32, pixels: paint(&indices, &palette) })
}

/// The colour of each index. Indices beyond the palette are black, or grey levels if the whole palette is a grey scale.
fn full_palette(stored: &[u8]) -> [[u8; 3]; 256] {
    let stored = stored.as_chunks::<3>().0;
    let grey = |number: usize| [number as u8; 3];
    if stored.iter().enumerate().all(|(number, colour)| *colour == grey(number)) {
        return std::array::from_fn(grey);
    }
    std::array::from_fn(|number| stored.get(number).copied().unwrap_or_default())
}

fn damaged(reason: &str) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, reason: reason.into() }
}

fn failure(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::UnexpectedEof => DecodeError::Truncated { format: FORMAT },
        DecodingError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        error => DecodeError::Damaged { format: FORMAT, reason: error.to_string() },
    }
}

//! BMP: palettes of 1, 4 and 8 bits, RLE4 and RLE8, 16, 24 and 32 bits, either way up; as Pillow reads it.
//!
//! This decoder exists because no library returns the same pixels as Pillow. `image` (0.25) rounds 16-bit colours where
//! Pillow truncates them, makes pixels that run lengths skip black instead of colour 0, refuses the second header of
//! OS/2, and depends on colour management of 190,000 lines; `zune-bmp` (0.5) also differs for palettes of 1 and 4 bits.

use super::{Bytes, DecodeError, RgbImage, checked_pixels, paint, spread};

const FORMAT: &str = "BMP";

/// Values of the compression field.
mod compression {
    pub(super) const RAW: u32 = 0;
    pub(super) const RLE8: u32 = 1;
    pub(super) const RLE4: u32 = 2;
    pub(super) const BITFIELDS: u32 = 3;
}

/// The header, in one form for all of its versions.
struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    compression: u32,
    /// Colours in the palette.
    colours: u32,
    /// Bytes of a palette entry.
    entry: usize,
    /// Red, green, blue and alpha masks, if they are given.
    masks: [u32; 4],
    /// Where the palette begins.
    palette_at: usize,
    /// Offset of the pixels as stated in the file; 0 means directly after the palette.
    pixels_at: usize,
}

/// Encoding of a pixel.
enum Pixel {
    /// Palette indices of this many bits.
    Indexed(u16, Box<[[u8; 3]; 256]>),
    /// Grey levels, one byte each.
    Grey,
    /// Black and white, one bit each.
    Bilevel,
    /// 16 bits with this many of green.
    High(u32),
    /// Three or four bytes, with the positions of red, green and blue.
    Bytes(usize, [usize; 3]),
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let header = read_header(bytes)?;
    let pixels = checked_pixels(FORMAT, header.width.into(), header.height.into())?;
    let (pixel, after_palette) = pixel_kind(bytes, &header)?;
    let start = if header.pixels_at == 0 { after_palette } else { header.pixels_at };
    let mut image = if matches!(header.compression, compression::RLE4 | compression::RLE8) {
        let indices = read_runs(bytes, start, &header, pixels)?;
        match pixel {
            Pixel::Indexed(_, palette) => paint(&indices, &palette),
            Pixel::Grey => spread(&indices),
            Pixel::Bilevel => {
                spread(&indices.iter().map(|&i| if i == 0 { 0 } else { 255 }).collect::<Vec<_>>())
            }
            _ => return Err(unsupported("run lengths without a palette".into())),
        }
    } else {
        read_rows(bytes, start, &header, &pixel)?
    };
    if !header.top_down {
        flip_rows(&mut image, header.width as usize * 3);
    }
    Ok(RgbImage { width: header.width, height: header.height, pixels: image })
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

fn unsupported(reason: String) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, reason }
}

fn read_header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let reader = Bytes(bytes);
    let offset = reader.u32_le(10).ok_or_else(truncated)? as usize;
    let size = reader.u32_le(14).ok_or_else(truncated)? as usize;
    if !matches!(size, 12 | 40 | 52 | 56 | 64 | 108 | 124) {
        return Err(unsupported(format!("a header of {size} bytes")));
    }
    let info = Bytes(reader.get(14, size).ok_or_else(truncated)?);
    let word = |at| info.u32_le(at).ok_or_else(truncated);
    let half = |at| info.u16_le(at).ok_or_else(truncated);
    let mut header = if size == 12 {
        Header {
            width: half(4)?.into(),
            height: half(6)?.into(),
            top_down: false,
            bits: half(10)?,
            compression: compression::RAW,
            colours: 0,
            entry: 3,
            masks: [0; 4],
            palette_at: 14 + size,
            pixels_at: offset,
        }
    } else {
        // A negative height means that rows are stored from top to bottom.
        let top_down = info.u8(11) == Some(0xff);
        Header {
            width: word(4)?,
            height: if top_down { word(8)?.wrapping_neg() } else { word(8)? },
            top_down,
            bits: half(14)?,
            compression: word(16)?,
            colours: word(32)?,
            entry: 4,
            masks: [0; 4],
            palette_at: 14 + size,
            pixels_at: offset,
        }
    };
    if header.compression == compression::BITFIELDS {
        // The masks follow the shortest header, without one for alpha.
        let (masks, first) = if size >= 52 { (&info, 40) } else { (&reader, header.palette_at) };
        let count = if size >= 56 { 4 } else { 3 };
        for (i, mask) in header.masks[..count].iter_mut().enumerate() {
            *mask = masks.u32_le(first + 4 * i).ok_or_else(truncated)?;
        }
        if size < 52 {
            header.palette_at += 12;
        }
    }
    if !matches!(header.bits, 1 | 4 | 8 | 16 | 24 | 32) {
        return Err(unsupported(format!("{} bits a pixel", header.bits)));
    }
    if header.colours == 0 {
        header.colours = if header.bits < 32 { 1 << header.bits } else { 0 };
    }
    if header.bits <= 8 && header.pixels_at == 14 + size {
        header.pixels_at =
            header.pixels_at.saturating_add(header.entry.saturating_mul(header.colours as usize));
    }
    Ok(header)
}

/// The pixel encoding, and the file offset after the palette.
fn pixel_kind(bytes: &[u8], header: &Header) -> Result<(Pixel, usize), DecodeError> {
    match (header.bits, header.compression) {
        (1 | 4 | 8, compression::RAW | compression::RLE4 | compression::RLE8) => palette(bytes, header),
        (16, compression::RAW) => Ok((Pixel::High(5), header.palette_at)),
        (24, compression::RAW) => Ok((Pixel::Bytes(3, [2, 1, 0]), header.palette_at)),
        (32, compression::RAW) => Ok((Pixel::Bytes(4, [2, 1, 0]), header.palette_at)),
        (_, compression::BITFIELDS) => Ok((masked(header)?, header.palette_at)),
        (bits, kind) => Err(unsupported(format!("compression {kind} with {bits} bits"))),
    }
}

/// The masks that Pillow supports.
fn masked(header: &Header) -> Result<Pixel, DecodeError> {
    let [red, green, blue, alpha] = header.masks;
    let pixel = match (header.bits, [red, green, blue], alpha) {
        (32, [0x00ff_0000, 0xff00, 0xff], 0 | 0xff00_0000) | (32, [0, 0, 0], 0) => Pixel::Bytes(4, [2, 1, 0]),
        (32, [0xff00_0000, 0x00ff_0000, 0xff00], 0 | 0xff) => Pixel::Bytes(4, [3, 2, 1]),
        (32, [0xff00_0000, 0xff00, 0xff], 0 | 0x00ff_0000) => Pixel::Bytes(4, [3, 1, 0]),
        (32, [0xff, 0xff00, 0x00ff_0000], 0xff00_0000) => Pixel::Bytes(4, [0, 1, 2]),
        (24, [0x00ff_0000, 0xff00, 0xff], _) => Pixel::Bytes(3, [2, 1, 0]),
        (16, [0xf800, 0x07e0, 0x001f], _) => Pixel::High(6),
        (16, [0x7c00, 0x03e0, 0x001f], _) => Pixel::High(5),
        (bits, masks, alpha) => {
            return Err(unsupported(format!("colour masks {masks:x?}, {alpha:x} with {bits} bits")));
        }
    };
    Ok(pixel)
}

/// Reads the palette. As in Pillow, a palette that is a linear grey scale makes a grey image, read byte by byte
/// whatever its number of bits.
fn palette(bytes: &[u8], header: &Header) -> Result<(Pixel, usize), DecodeError> {
    let colours = header.colours as usize;
    if !(1..=65536).contains(&colours) {
        return Err(unsupported(format!("a palette of {colours} colours")));
    }
    let start = header.palette_at.min(bytes.len());
    let end = (start + colours * header.entry).min(bytes.len());
    let stored = &bytes[start..end];
    let level = |i: usize| if colours == 2 { i * 255 } else { i };
    let grey = (0..colours).all(|i| {
        level(i) < 256
            && stored.get(i * header.entry..).and_then(<[u8]>::first_chunk::<3>) == Some(&[level(i) as u8; 3])
    });
    if grey {
        return Ok((if colours <= 2 { Pixel::Bilevel } else { Pixel::Grey }, end));
    }
    if stored.len() / header.entry > 256 {
        return Err(unsupported(format!("a palette of {colours} colours")));
    }
    let mut palette = Box::new([[0; 3]; 256]);
    for (colour, entry) in palette.iter_mut().zip(stored.chunks_exact(header.entry)) {
        *colour = [entry[2], entry[1], entry[0]];
    }
    Ok((Pixel::Indexed(header.bits, palette), end))
}

/// Uncompressed rows, in the order of the file.
fn read_rows(bytes: &[u8], start: usize, header: &Header, pixel: &Pixel) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (header.width as usize, header.height as usize);
    let bits = match pixel {
        Pixel::Indexed(bits, _) => usize::from(*bits),
        Pixel::Grey => 8,
        Pixel::Bilevel => 1,
        Pixel::High(_) => 16,
        Pixel::Bytes(count, _) => count * 8,
    };
    let row = (width * bits).div_ceil(8);
    let stride = (width * usize::from(header.bits)).div_ceil(32) * 4;
    // Rows of greys of less than a byte overlap when they are read byte by byte. Pillow refuses them, unless the
    // file happens to be long enough to be mapped into memory.
    if stride < row && Bytes(bytes).get(start, row * height).is_none() {
        return Err(unsupported(format!("a scale of greys with {} bits", header.bits)));
    }
    // The padding of the last row may be missing.
    let needed = stride * (height - 1) + row;
    let data = Bytes(bytes).get(start, needed).ok_or_else(truncated)?;
    let mut image = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        push_row(&data[y * stride..][..row], width, pixel, &mut image);
    }
    Ok(image)
}

fn push_row(line: &[u8], width: usize, pixel: &Pixel, image: &mut Vec<u8>) {
    let bit = |i: usize, depth: usize| {
        line[i * depth / 8] >> (8 - depth - i * depth % 8) & ((1u16 << depth) - 1) as u8
    };
    let level = |value: u32, most: u32| (value * 255 / most) as u8;
    match pixel {
        Pixel::Indexed(depth, palette) => {
            let depth = usize::from(*depth);
            image.extend((0..width).flat_map(|i| palette[usize::from(bit(i, depth))]));
        }
        Pixel::Grey => image.extend(line.iter().flat_map(|&value| [value; 3])),
        Pixel::Bilevel => image.extend((0..width).flat_map(|i| [bit(i, 1) * 255; 3])),
        Pixel::High(green) => image.extend(line.as_chunks::<2>().0.iter().flat_map(|pair| {
            let value = u32::from(u16::from_le_bytes(*pair));
            let most = (1 << green) - 1;
            [level(value >> (5 + green) & 31, 31), level(value >> 5 & most, most), level(value & 31, 31)]
        })),
        Pixel::Bytes(size, places) => {
            image.extend(line.chunks_exact(*size).flat_map(|pixel| places.map(|place| pixel[place])));
        }
    }
}

/// Run lengths to palette indices, in the order of the file.
fn read_runs(bytes: &[u8], start: usize, header: &Header, total: usize) -> Result<Vec<u8>, DecodeError> {
    let width = header.width as usize;
    let nibbles = header.compression == compression::RLE4;
    let reader = Bytes(bytes);
    let mut data: Vec<u8> = Vec::new();
    let (mut at, mut x) = (start, 0usize);
    while data.len() < total {
        let (Some(count), Some(value)) = (reader.u8(at), reader.u8(at.saturating_add(1))) else { break };
        at += 2;
        match (count, value) {
            // End of the line, end of the image, and a move to the right and up.
            (0, 0) => {
                data.resize(data.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (Some(right), Some(up)) = (reader.u8(at), reader.u8(at + 1)) else { break };
                at += 2;
                let leap = usize::from(right) + usize::from(up) * width;
                data.resize(data.len() + leap.min(total - data.len()), 0);
                x = data.len() % width;
            }
            // Literal indices, padded to an even offset.
            (0, count) => {
                let wanted = usize::from(count).min(total - data.len());
                let stored = if nibbles { wanted.div_ceil(2) } else { wanted };
                let literal = &bytes[at.min(bytes.len())..(at + stored).min(bytes.len())];
                if nibbles {
                    data.extend(literal.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(wanted));
                } else {
                    data.extend_from_slice(literal);
                }
                if literal.len() < stored || data.len() == total {
                    break;
                }
                x += usize::from(count);
                at = (at + stored).next_multiple_of(2);
            }
            // One index, or two alternating ones, repeated at most to the end of the row.
            (count, value) => {
                let count = usize::from(count).min(width.saturating_sub(x));
                let turn = if nibbles { [value >> 4, value & 15] } else { [value; 2] };
                data.extend(turn.iter().cycle().take(count));
                x += count;
            }
        }
    }
    if data.len() < total {
        return Err(truncated());
    }
    data.truncate(total);
    Ok(data)
}

fn flip_rows(image: &mut [u8], row: usize) {
    let mut rows = image.chunks_exact_mut(row);
    while let (Some(first), Some(last)) = (rows.next(), rows.next_back()) {
        first.swap_with_slice(last);
    }
}

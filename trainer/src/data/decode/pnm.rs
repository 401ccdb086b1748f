//! PBM, PGM and PPM (`P1` to `P6`), plain and binary, up to 16 bits; as Pillow reads them.

use super::{DecodeError, RgbImage, checked_pixels, spread};

const FORMAT: &str = "PNM";

/// A number of the header has at most this many digits.
const MAX_DIGITS: usize = 10;

/// The kind that the magic number selects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Samples {
    Bits,
    Grey,
    Colour,
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let kind = bytes.get(1).copied().unwrap_or_default();
    let samples = match kind {
        b'1' | b'4' => Samples::Bits,
        b'2' | b'5' => Samples::Grey,
        _ => Samples::Colour,
    };
    let mut header = Tokens { bytes, at: 2 };
    let width = header.number()?;
    let height = header.number()?;
    let most = if samples == Samples::Bits { 1 } else { header.number()? };
    if !(1..65536).contains(&most) {
        return Err(damaged(format!("its maximum value is {most}; expected 1 to 65535")));
    }
    let pixels = checked_pixels(FORMAT, width.into(), height.into())?;
    let shape = PnmSize { width: width as usize, pixels, most };
    let rest = Tokens { bytes, at: header.at };
    let levels = match (samples, kind) {
        (Samples::Bits, b'1') => plain_bits(rest, &shape)?,
        (Samples::Bits, _) => packed_bits(rest.rest(), &shape)?,
        (_, b'2' | b'3') => plain_levels(rest, &shape, samples)?,
        _ => binary_levels(rest.rest(), &shape, samples)?,
    };
    let pixels = if samples == Samples::Colour { levels } else { spread(&levels) };
    Ok(RgbImage { width, height, pixels })
}

struct PnmSize {
    width: usize,
    pixels: usize,
    most: u32,
}

impl PnmSize {
    /// Number of samples in the image.
    fn values(&self, samples: Samples) -> usize {
        self.pixels * if samples == Samples::Colour { 3 } else { 1 }
    }

    /// A value as 8 bits. Pillow keeps 16 bits for grey of more than 8 bits, and clips it in the conversion to RGB.
    fn level(&self, value: u32, samples: Samples) -> u8 {
        let most = if samples == Samples::Grey && self.most > 255 { 65535.0 } else { 255.0 };
        let scaled = (f64::from(value) / f64::from(self.most) * most).round_ties_even();
        scaled.min(255.0) as u8
    }
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

fn damaged(reason: String) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, reason }
}

/// Tokens separated by white space; `#` begins a comment that ends with its line.
struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        if byte != b'#' {
            return Some(byte);
        }
        while !matches!(self.bytes.get(self.at), None | Some(b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at += 1;
        self.next_byte()
    }

    /// The next number; consumes the one white-space character after it.
    fn number(&mut self) -> Result<u32, DecodeError> {
        let mut digits = String::new();
        while let Some(byte) = self.next_byte() {
            match byte {
                b'0'..=b'9' if digits.len() < MAX_DIGITS => digits.push(char::from(byte)),
                byte if is_blank(byte) && digits.is_empty() => {}
                byte if is_blank(byte) => break,
                _ => return Err(damaged(format!("byte {} is not a digit", self.at - 1))),
            }
        }
        if digits.is_empty() {
            return Err(truncated());
        }
        digits.parse().map_err(|_| damaged(format!("the number {digits} is too large")))
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `0` is white, `1` is black; white space between them is optional.
fn plain_bits(mut tokens: Tokens, shape: &PnmSize) -> Result<Vec<u8>, DecodeError> {
    let mut levels = Vec::with_capacity(shape.pixels.min(tokens.rest().len()));
    while levels.len() < shape.pixels {
        match tokens.next_byte().ok_or_else(truncated)? {
            b'0' => levels.push(255),
            b'1' => levels.push(0),
            byte if is_blank(byte) => {}
            _ => return Err(damaged(format!("byte {} is neither 0 nor 1", tokens.at - 1))),
        }
    }
    Ok(levels)
}

/// Eight pixels per byte; each row begins with a new byte.
fn packed_bits(bytes: &[u8], shape: &PnmSize) -> Result<Vec<u8>, DecodeError> {
    let row = shape.width.div_ceil(8);
    let bytes = bytes.get(..row * (shape.pixels / shape.width)).ok_or_else(truncated)?;
    let mut levels = Vec::with_capacity(shape.pixels);
    for line in bytes.chunks_exact(row) {
        levels.extend((0..shape.width).map(|x| if line[x / 8] >> (7 - x % 8) & 1 == 1 { 0 } else { 255 }));
    }
    Ok(levels)
}

fn plain_levels(mut tokens: Tokens, shape: &PnmSize, samples: Samples) -> Result<Vec<u8>, DecodeError> {
    let mut levels = Vec::with_capacity(shape.values(samples).min(tokens.rest().len()));
    for _ in 0..shape.values(samples) {
        let value = tokens.number()?;
        if value > shape.most {
            return Err(damaged(format!("the value {value} is above the maximum, {}", shape.most)));
        }
        levels.push(shape.level(value, samples));
    }
    Ok(levels)
}

fn binary_levels(bytes: &[u8], shape: &PnmSize, samples: Samples) -> Result<Vec<u8>, DecodeError> {
    let values = shape.values(samples);
    if shape.most < 256 {
        let bytes = bytes.get(..values).ok_or_else(truncated)?;
        return Ok(bytes.iter().map(|&value| shape.level(value.into(), samples)).collect());
    }
    let bytes = bytes.get(..2 * values).ok_or_else(truncated)?;
    let value = |pair: &[u8; 2]| shape.level(u16::from_be_bytes(*pair).into(), samples);
    Ok(bytes.as_chunks::<2>().0.iter().map(value).collect())
}

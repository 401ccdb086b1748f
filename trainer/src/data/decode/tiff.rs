//! TIFF: the first image of a file, in the variants that cameras, scanners and Pillow write; as Pillow reads them.
//!
//! The `tiff` crate decodes strips and tiles. The conversion to RGB is done here, because the crate differs from
//! Pillow in alpha, palettes, 16 bits and orientation; variants that are not known to agree are refused explicitly.

use super::jpeg::rgb_of_inverted_cmyk;
use super::{Bytes, DecodeError, RgbImage, checked_pixels, spread};
use std::io::{Cursor, ErrorKind};
use tiff::TiffError;
use tiff::decoder::{Decoder, Limits};
use tiff::tags::{
    CompressionMethod, PhotometricInterpretation as Photometric, PlanarConfiguration, Predictor, Tag,
};

const FORMAT: &str = "TIFF";

/// Memory limit for one tag, such as the offsets of all strips.
const MOST_TAG: usize = 64 << 20;

/// Encoding of the pixels.
struct TiffPixels {
    photometric: Photometric,
    bits: u16,
    samples: usize,
    /// Meaning of the sample after the colours: 1 for alpha that the colours are premultiplied with, 0 and 2 for others.
    extra: Option<u16>,
    planar: bool,
    orientation: u16,
}

impl TiffPixels {
    /// Samples per pixel that the reader returns: it leaves out a sample that is neither colour nor alpha.
    fn kept(&self) -> usize {
        if self.photometric == Photometric::RGB && self.extra == Some(0) { 3 } else { self.samples }
    }
}

type File<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let greyed = palette_as_greys(bytes);
    let has_palette = greyed.is_some();
    let bytes = greyed.as_deref().unwrap_or(bytes);
    let mut file = Decoder::new(Cursor::new(bytes)).map_err(|error| failure(&error))?;
    let (width, height) = file.dimensions().map_err(|error| failure(&error))?;
    checked_pixels(FORMAT, width.into(), height.into())?;
    let mut limits = Limits::unlimited();
    // The first limit applies to tags as well. The pixels go into a separate buffer.
    limits.decoding_buffer_size = MOST_TAG;
    limits.ifd_value_size = MOST_TAG;
    limits.intermediate_buffer_size = bytes.len();
    let mut file = file.with_limits(limits);
    let kind = kind(&mut file, has_palette)?;
    let layout = file.image_buffer_layout().map_err(|error| failure(&error))?;
    let row = (width as usize * kind.kept() * usize::from(kind.bits)).div_ceil(8);
    let expected = row * height as usize;
    if layout.complete_len != expected {
        let reason = format!("its pixels take {} bytes, expected {expected}", layout.complete_len);
        return Err(DecodeError::Damaged { format: FORMAT, reason });
    }
    let mut stored = vec![0; layout.complete_len];
    file.read_image_bytes(&mut stored).map_err(|error| failure(&error))?;
    if kind.planar {
        stored = interleave(&stored, kind.samples);
    }
    let size = (width as usize, height as usize);
    let rgb = match kind.photometric {
        _ if has_palette => paint(&mut file, &stored, row, size, kind.bits)?,
        Photometric::RGB => colours(&stored, &kind),
        Photometric::CMYK => inks(stored),
        _ => greys(&stored, row, size, &kind),
    };
    Ok(turned(RgbImage { width, height, pixels: rgb }, kind.orientation))
}

fn unsupported(reason: String) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, reason }
}

fn failure(error: &TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        error => DecodeError::Damaged { format: FORMAT, reason: error.to_string() },
    }
}

/// The file with palette indices declared as greys, if it has a palette: the reader refuses palettes, but decodes greys.
fn palette_as_greys(bytes: &[u8]) -> Option<Vec<u8>> {
    const PALETTE: u16 = 3;
    const GREYS: u16 = 1;
    let reader = Bytes(bytes);
    let little = bytes.starts_with(b"II");
    let half = |at| if little { reader.u16_le(at) } else { reader.u16_be(at) };
    let first = if little { reader.u32_le(4) } else { reader.u32_be(4) }? as usize;
    let mut entries = (0..usize::from(half(first)?)).map(|entry| first + 2 + 12 * entry);
    let entry = entries.find(|&entry| half(entry) == Some(Tag::PhotometricInterpretation.to_u16()))?;
    if half(entry + 8)? != PALETTE {
        return None;
    }
    let mut greyed = bytes.to_vec();
    let value = if little { GREYS.to_le_bytes() } else { GREYS.to_be_bytes() };
    greyed[entry + 8..entry + 10].copy_from_slice(&value);
    Some(greyed)
}

/// Reads the tags, and refuses variants that are not known to decode as in Pillow.
fn kind(file: &mut File, has_palette: bool) -> Result<TiffPixels, DecodeError> {
    let mut tag = |tag| file.find_tag_unsigned::<u16>(tag).map_err(|error| failure(&error));
    let photometric = tag(Tag::PhotometricInterpretation)?.and_then(Photometric::from_u16);
    let photometric =
        photometric.ok_or_else(|| unsupported("it has no photometric interpretation".into()))?;
    let compression =
        tag(Tag::Compression)?.map_or(CompressionMethod::None, CompressionMethod::from_u16_exhaustive);
    let samples = usize::from(tag(Tag::SamplesPerPixel)?.unwrap_or(1));
    let orientation = tag(Tag::Orientation)?.unwrap_or(1);
    let planar = tag(Tag::PlanarConfiguration)? == Some(PlanarConfiguration::Planar.to_u16());
    let predicted = tag(Tag::Predictor)?.is_some_and(|predictor| predictor != Predictor::None.to_u16());
    if tag(Tag::FillOrder)?.is_some_and(|order| order != 1) {
        return Err(unsupported("the bits of its bytes are in reverse order".into()));
    }
    let mut tags = |tag| file.find_tag_unsigned_vec::<u16>(tag).map_err(|error| failure(&error));
    let depths = tags(Tag::BitsPerSample)?.unwrap_or_else(|| vec![1]);
    let extra = tags(Tag::ExtraSamples)?.unwrap_or_default().first().copied();
    let whole = tags(Tag::SampleFormat)?.is_none_or(|formats| formats.iter().all(|&format| format == 1));
    let bits = depths[0];
    let kind = TiffPixels { photometric, bits, samples, extra, planar: planar && samples > 1, orientation };
    let described = || {
        unsupported(format!(
            "{photometric:?} with {samples} samples of {depths:?} bits, packed by {compression:?}"
        ))
    };
    let packed_by_jpeg = matches!(
        compression,
        CompressionMethod::JPEG | CompressionMethod::ModernJPEG | CompressionMethod::Unknown(_)
    );
    let known = match (photometric, bits, samples) {
        (Photometric::BlackIsZero, 16, 1) => !has_palette,
        (Photometric::BlackIsZero | Photometric::WhiteIsZero, 1 | 2 | 4 | 8, 1)
        | (Photometric::RGB, 8, 3)
        | (Photometric::CMYK, 8, 4) => true,
        (Photometric::BlackIsZero, 8, 2) => extra.is_some() && !has_palette,
        // The reader drops a fourth sample that is not alpha before it applies the predictor, which gives wrong values.
        (Photometric::RGB, 8, 4) => extra != Some(0) || !(predicted || kind.planar),
        (Photometric::RGB, 16, 3) => !kind.planar,
        (Photometric::RGB, 16, 4) => extra == Some(2) && !kind.planar,
        _ => false,
    };
    if !known || !whole || packed_by_jpeg || depths.iter().any(|&depth| depth != bits) {
        return Err(described());
    }
    Ok(kind)
}

/// Converts planar order to interleaved order.
fn interleave(planes: &[u8], samples: usize) -> Vec<u8> {
    let plane = planes.len() / samples;
    (0..plane).flat_map(|i| (0..samples).map(move |sample| planes[sample * plane + i])).collect()
}

/// The values of each row, of 1, 2, 4 or 8 bits; rows begin at whole bytes.
fn values(stored: &[u8], row: usize, (width, height): (usize, usize), bits: u16) -> Vec<u8> {
    let depth = usize::from(bits);
    let mask = ((1u16 << depth) - 1) as u8;
    let mut values = Vec::with_capacity(width * height);
    for line in stored.chunks_exact(row).take(height) {
        values.extend((0..width).map(|x| line[x * depth / 8] >> (8 - depth - x * depth % 8) & mask));
    }
    values
}

fn greys(stored: &[u8], row: usize, size: (usize, usize), kind: &TiffPixels) -> Vec<u8> {
    match (kind.bits, kind.samples) {
        (16, _) => {
            // Clipped, as in Pillow.
            let level = |pair: &[u8; 2]| u16::from_ne_bytes(*pair).min(255) as u8;
            spread(&stored.as_chunks::<2>().0.iter().map(level).collect::<Vec<_>>())
        }
        (_, 2) => spread(&stored.iter().step_by(2).copied().collect::<Vec<_>>()),
        (bits, _) => {
            let most = ((1u16 << bits) - 1) as u8;
            spread(&values(stored, row, size, bits).into_iter().map(|v| v * (255 / most)).collect::<Vec<_>>())
        }
    }
}

fn colours(stored: &[u8], kind: &TiffPixels) -> Vec<u8> {
    let samples = kind.kept();
    if kind.bits == 16 {
        let high = |pair: &[u8; 2]| (u16::from_ne_bytes(*pair) >> 8) as u8;
        let pixels = stored.chunks_exact(2 * samples);
        return pixels.flat_map(|pixel| [0, 2, 4].map(|at| high(&[pixel[at], pixel[at + 1]]))).collect();
    }
    let divided = |value: u8, alpha: u8| match alpha {
        0 => 0,
        255 => value,
        alpha => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    };
    let pixels = stored.chunks_exact(samples);
    if kind.extra == Some(1) && samples == 4 {
        return pixels.flat_map(|pixel| [0, 1, 2].map(|at| divided(pixel[at], pixel[3]))).collect();
    }
    pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

fn inks(mut stored: Vec<u8>) -> Vec<u8> {
    for ink in &mut stored {
        *ink = 255 - *ink;
    }
    rgb_of_inverted_cmyk(&stored)
}

/// Colours of palette indices. The palette contains all reds, then all greens, then all blues, of 16 bits each.
fn paint(
    file: &mut File,
    stored: &[u8],
    row: usize,
    size: (usize, usize),
    bits: u16,
) -> Result<Vec<u8>, DecodeError> {
    let palette = file.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(|error| failure(&error))?;
    let count = 1 << bits;
    let palette = palette.filter(|palette| palette.len() == 3 * count).ok_or_else(|| {
        DecodeError::Damaged { format: FORMAT, reason: format!("expected a palette of {count} colours") }
    })?;
    let colour =
        |value: u8| [0, 1, 2].map(|channel| (palette[channel * count + usize::from(value)] >> 8) as u8);
    Ok(values(stored, row, size, bits).into_iter().flat_map(colour).collect())
}

/// The image with the orientation tag applied; TIFF is the only format for which Pillow applies it.
fn turned(image: RgbImage, orientation: u16) -> RgbImage {
    let (width, height) = (image.width as usize, image.height as usize);
    let swapped = matches!(orientation, 5..=8);
    let (across, down) = if swapped { (height, width) } else { (width, height) };
    let source = |x: usize, y: usize| match orientation {
        2 => (width - 1 - x, y),
        3 => (width - 1 - x, height - 1 - y),
        4 => (x, height - 1 - y),
        5 => (y, x),
        6 => (y, height - 1 - x),
        7 => (width - 1 - y, height - 1 - x),
        _ => (width - 1 - y, x),
    };
    if !matches!(orientation, 2..=8) {
        return image;
    }
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..down {
        for x in 0..across {
            let (x, y) = source(x, y);
            pixels.extend_from_slice(&image.pixels[3 * (y * width + x)..][..3]);
        }
    }
    RgbImage { width: across as u32, height: down as u32, pixels }
}

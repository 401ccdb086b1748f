//! JPEG through libjpeg-turbo, whose pixels are Pillow's.
//!
//! The header is rebuilt before decoding and contains only the segments that affect the pixels. This removes
//! the causes of libjpeg's warnings (junk between segments, unusual JFIF versions), because its Rust binding
//! does not distinguish a warning from a failure. Two cases remain to be distinguished after decoding: a file
//! that is damaged in the middle (Pillow decodes what it can) and one that is cut short (Pillow refuses it).

mod components;
mod opened;
mod scans;
mod turbo;

use super::{Bytes, DecodeError, RgbImage, checked_pixels};
use std::cell::RefCell;
use turbojpeg::{Decompressor, Image, PixelFormat};

pub use components::Component;
pub(super) use components::ComponentDecoder;
pub(super) use opened::Opened;

const FORMAT: &str = "JPEG";

/// Limit on the scans of a progressive file. Encoders write about ten; thousands of empty scans over a large
/// image are a denial-of-service attack.
const MAX_SCANS: u32 = 500;

/// Written after the data, so that a decoder which reads past the end of the file encounters a second
/// start-of-image marker and reports an error that has no other cause. Longer than the longest segment.
const BEYOND: [u8; 2] = [0xff, 0xd8];
const BEYOND_LEN: usize = 0x1_0004;

/// Message of libjpeg when it encounters [`BEYOND`].
const BEYOND_MESSAGE: &str = "two SOI markers";

/// Written after data without an end marker, followed by an end marker. Pillow accepts such a file only if it
/// can decode the last row without reading bits past the data. In that case libjpeg reports all of these
/// bytes as superfluous.
const PROBE: [u8; 18] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd9];

/// Prefixes of libjpeg's warnings, after which the image is decoded anyway.
const WARNINGS: [&str; 3] =
    ["Corrupt JPEG data", "Inconsistent progression sequence", "Invalid SOS parameters for sequential JPEG"];

thread_local! {
    /// The rebuilt file; its allocation is reused for the next image. The decompressor is not reused, because
    /// tables of a damaged file would remain in it and corrupt the next image.
    static REBUILT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The frame header.
#[derive(Debug)]
struct Frame {
    width: u16,
    height: u16,
    components: u8,
    progressive: bool,
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    REBUILT.with_borrow_mut(|file| {
        file.clear();
        let (frame, scan) = rebuild_header(bytes, file)?;
        checked_pixels(FORMAT, frame.width.into(), frame.height.into())?;
        let several_scans = has_several_scans(bytes, scan, &frame);
        file.extend_from_slice(&bytes[scan..]);
        decode_rebuilt(file, &frame, several_scans)
    })
}

/// Whether the file is read to its end before the first row is returned.
fn has_several_scans(bytes: &[u8], scan: usize, frame: &Frame) -> bool {
    frame.progressive || bytes.get(scan + 4).is_some_and(|&coded| coded < frame.components)
}

fn decode_rebuilt(file: &mut Vec<u8>, frame: &Frame, several_scans: bool) -> Result<RgbImage, DecodeError> {
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let format = if frame.components == 4 { PixelFormat::CMYK } else { PixelFormat::RGB };
    let mut pixels = vec![0; width * height * format.size()];
    let real = file.len();
    file.extend(BEYOND.iter().cycle().take(BEYOND_LEN));
    let mut run = |file: &[u8]| {
        let mut decompressor = Decompressor::new().map_err(|error| error.to_string())?;
        decompressor.set_scan_limit(MAX_SCANS).map_err(|error| error.to_string())?;
        let pitch = width * format.size();
        let output = Image { pixels: &mut pixels[..], width, pitch, height, format };
        decompressor.decompress(file, output).map_err(|error| error.to_string())
    };
    match run(file) {
        Ok(()) => {}
        Err(message) if is_warning(&message) => {}
        Err(message) if !message.contains(BEYOND_MESSAGE) => return Err(damaged(message)),
        Err(_) if several_scans => return Err(DecodeError::Truncated { format: FORMAT }),
        Err(_) => {
            file.truncate(real);
            let unread = PROBE.len() - 2 + usize::from(file.last() == Some(&0xff));
            file.extend_from_slice(&PROBE);
            let untouched = format!(" {unread} extraneous bytes before marker 0xd9");
            let probed = run(file).is_err_and(|message| message.ends_with(&untouched));
            // A missing restart marker gives the same message, so the file must also decode with an end marker.
            file.truncate(real);
            file.extend_from_slice(&PROBE[PROBE.len() - 2..]);
            if !probed || run(file).is_err() {
                return Err(DecodeError::Truncated { format: FORMAT });
            }
        }
    }
    if frame.components == 4 {
        pixels = rgb_of_inverted_cmyk(&pixels);
    }
    Ok(RgbImage { width: frame.width.into(), height: frame.height.into(), pixels })
}

fn damaged(reason: String) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, reason }
}

fn is_warning(message: &str) -> bool {
    let message = message.trim_start_matches("TurboJPEG error: ");
    WARNINGS.iter().any(|warning| message.starts_with(warning))
}

/// Copies the segments before the first scan that decoding needs; returns the frame and the offset of the scan.
fn rebuild_header(bytes: &[u8], header: &mut Vec<u8>) -> Result<(Frame, usize), DecodeError> {
    let truncated = DecodeError::Truncated { format: FORMAT };
    let reader = Bytes(bytes);
    header.extend_from_slice(&[0xff, 0xd8]);
    let mut frame: Option<Frame> = None;
    let mut adobe_transform = None;
    let mut at = 2;
    loop {
        let (marker, after) = next_marker(bytes, at).ok_or(truncated.clone())?;
        at = after;
        match marker {
            // Markers without a segment; libjpeg refuses those that are not allowed here.
            0xc8 | 0xd0..=0xd9 | 0xf0..=0xfd => {
                header.extend_from_slice(&[0xff, marker]);
                continue;
            }
            0x01..=0xbf => return Err(damaged(format!("unknown marker 0x{marker:02x}"))),
            0xda => {
                let frame = frame.ok_or_else(|| damaged("a scan comes before the frame header".into()))?;
                if let Some(place) = adobe_transform {
                    header[place] = known_transform(header[place], frame.components);
                }
                return Ok((frame, at - 2));
            }
            _ => {}
        }
        let len = usize::from(reader.u16_be(at).ok_or(truncated.clone())?);
        let segment = reader.get(at, len.max(2)).ok_or(truncated.clone())?;
        match marker {
            0xe0 if segment.len() >= 16 && segment[2..].starts_with(b"JFIF\0") => {
                keep(marker, segment, header);
                // Major revision 1: libjpeg decodes any other in the same way, but warns.
                let place = header.len() - segment.len() + 7;
                header[place] = 1;
            }
            0xee if segment.len() >= 14 && segment[2..].starts_with(b"Adobe") => {
                keep(marker, segment, header);
                adobe_transform = Some(header.len() - segment.len() + 13);
            }
            0xe0..=0xef | 0xfe => {}
            _ => {
                if is_frame(marker) {
                    frame = Some(read_frame(marker, segment)?);
                }
                keep(marker, segment, header);
            }
        }
        at += segment.len();
    }
}

/// The next marker at or after `at` and the offset after it; junk and padding before it are skipped.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xff)?;
        if bytes[at] != 0 {
            return Some((bytes[at], at + 1));
        }
    }
}

fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf)
}

fn read_frame(marker: u8, segment: &[u8]) -> Result<Frame, DecodeError> {
    let reader = Bytes(segment);
    let (Some(bits), Some(height), Some(width), Some(components)) =
        (reader.u8(2), reader.u16_be(3), reader.u16_be(5), reader.u8(7))
    else {
        return Err(damaged("the frame header is too short".into()));
    };
    if bits != 8 {
        return Err(DecodeError::Unsupported { format: FORMAT, reason: format!("{bits} bits a sample") });
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(DecodeError::Unsupported { format: FORMAT, reason: format!("{components} components") });
    }
    let progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
    Ok(Frame { width, height, components, progressive })
}

fn keep(marker: u8, segment: &[u8], header: &mut Vec<u8>) {
    header.extend_from_slice(&[0xff, marker]);
    header.extend_from_slice(segment);
}

/// Adobe's colour transform, or for an unknown one the transform that libjpeg falls back to with a warning.
fn known_transform(transform: u8, components: u8) -> u8 {
    match (components, transform) {
        (3, 2..) => 1,
        (4, 1 | 3..) => 2,
        _ => transform,
    }
}

/// Pillow treats every CMYK file as inverted (Adobe's convention) and multiplies by black.
pub(super) fn rgb_of_inverted_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(cmyk.len() / 4 * 3);
    for pixel in cmyk.as_chunks::<4>().0 {
        let light = u32::from(pixel[3]);
        for &ink in &pixel[..3] {
            // round(ink * light / 255) of the inverted ink, in Pillow's integer form.
            let product = u32::from(255 - ink) * light + 128;
            rgb.push((light - ((product + (product >> 8)) >> 8).min(light)) as u8);
        }
    }
    rgb
}

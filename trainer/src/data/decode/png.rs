//! PNG, with Pillow's conventions: checksums are verified up to the first data chunk and not in it, the
//! first of two bytes is kept of 16-bit colours while 16-bit grey is clipped to 255, transparency is
//! dropped, an animated file gives its default image. The walk over the chunks and the rows is written
//! here, because a general decoder is stricter in some of these and laxer in others.

use super::{Bytes, DecodeError, RgbImage, checked_pixels, paint, spread};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::cell::RefCell;
use std::ops::ControlFlow;

mod rows;
use rows::{Layout, Rows};

const FORMAT: &str = "PNG";

/// Inflated data are allocated in steps of this, so that a small file which claims a large picture costs
/// no more than it holds.
const INFLATE_STEP: usize = 1 << 20;

thread_local! {
    /// The decompressor (40 kB of tables), kept from picture to picture.
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(true));
}

/// How the samples of a pixel are kept in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Grey,
    Rgb,
    Palette,
    GreyAlpha,
    Rgba,
}

/// What the header chunks say.
#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    bits: u8,
    colour: Colour,
    interlaced: bool,
    palette: [[u8; 3]; 256],
    animated: bool,
    /// Sequence number of the last animation chunk.
    sequence: Option<u32>,
    /// Part of the picture that the first frame of an animation covers: left, top, width, height.
    region: Option<[u32; 4]>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let (header, data) = read_header(bytes)?;
    let pixels = checked_pixels(FORMAT, header.width.into(), header.height.into())?;
    let [left, top, width, height] = header.region.unwrap_or([0, 0, header.width, header.height]);
    let fits =
        |start: u32, len: u32, whole: u32| len > 0 && start.checked_add(len).is_some_and(|end| end <= whole);
    if !fits(left, width, header.width) || !fits(top, height, header.height) {
        return Err(damaged("its first frame lies outside the picture".into()));
    }
    let layout = Layout::new(width as usize, height as usize, header.bits, header.colour, header.interlaced);
    let (mut raw, end) = inflate(bytes, data, &layout)?;
    check_trailer(bytes, end, &header)?;
    let samples = Rows { layout: &layout, raw: &mut raw }.samples().map_err(damaged)?;
    drop(raw);
    let part = to_rgb(samples, &header);
    let pixels = if (width, height) == (header.width, header.height) {
        part
    } else {
        let mut whole = vec![0; pixels * 3];
        let (row, stride) = (width as usize * 3, header.width as usize * 3);
        let first = top as usize * stride + left as usize * 3;
        for (y, source) in part.chunks_exact(row).enumerate() {
            whole[first + y * stride..][..row].copy_from_slice(source);
        }
        whole
    };
    Ok(RgbImage { width: header.width, height: header.height, pixels })
}

fn damaged(reason: String) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, reason }
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

/// A chunk: its name, where its content begins, and its claimed length.
#[derive(Clone, Copy)]
struct Chunk {
    name: [u8; 4],
    at: usize,
    len: usize,
}

impl Chunk {
    /// The chunk whose length field is at `at`; none if there is no proper chunk header.
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let reader = Bytes(bytes);
        let len = reader.u32_be(at)? as usize;
        let name: [u8; 4] = reader.get(at.checked_add(4)?, 4)?.try_into().ok()?;
        let proper = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        proper.then_some(Self { name, at: at + 8, len })
    }

    fn content(self, bytes: &[u8]) -> Option<&[u8]> {
        Bytes(bytes).get(self.at, self.len)
    }

    /// Where the next chunk begins: behind the content and its checksum.
    fn next(self) -> usize {
        self.at.saturating_add(self.len).saturating_add(4)
    }

    fn title(self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// Reads the chunks up to the first data chunk.
fn read_header(bytes: &[u8]) -> Result<(Header, Chunk), DecodeError> {
    let mut header = Header {
        width: 0,
        height: 0,
        bits: 0,
        colour: Colour::Grey,
        interlaced: false,
        palette: [[0; 3]; 256],
        animated: false,
        sequence: None,
        region: None,
    };
    let mut at = 8;
    loop {
        let chunk = match Chunk::read(bytes, at) {
            Some(chunk) => chunk,
            None if bytes.len() < at.saturating_add(8) => return Err(truncated()),
            None => return Err(damaged(format!("no chunk header at byte {at}"))),
        };
        match &chunk.name {
            b"IDAT" if header.bits == 0 => return Err(damaged("the data come before a valid header".into())),
            b"IDAT" => return Ok((header, chunk)),
            b"IEND" => return Err(damaged("it has no picture data".into())),
            _ => {}
        }
        let content = chunk.content(bytes).ok_or_else(truncated)?;
        read_chunk(&mut header, chunk, content)?;
        let stored = Bytes(bytes).u32_be(chunk.at + chunk.len).ok_or_else(truncated)?;
        let mut crc = Crc::new();
        crc.update(&chunk.name);
        crc.update(content);
        if crc.sum() != stored {
            return Err(damaged(format!("the checksum of its {} chunk is wrong", chunk.title())));
        }
        at = chunk.next();
    }
}

/// Takes what matters from a chunk and refuses what Pillow refuses.
fn read_chunk(header: &mut Header, chunk: Chunk, content: &[u8]) -> Result<(), DecodeError> {
    let least = match &chunk.name {
        b"IHDR" => 13,
        b"gAMA" | b"fdAT" => 4,
        b"cHRM" => 32,
        b"sRGB" => 1,
        b"pHYs" => 9,
        b"acTL" => 8,
        b"fcTL" => 26,
        b"tRNS" if header.colour == Colour::Rgb => 6,
        b"tRNS" if header.colour == Colour::Grey && header.bits > 0 => 2,
        _ => 0,
    };
    if content.len() < least {
        return Err(damaged(format!("its {} chunk is too short", chunk.title())));
    }
    let word = |at: usize| Bytes(content).u32_be(at).unwrap_or(0);
    match &chunk.name {
        b"IHDR" => read_ihdr(header, content)?,
        b"PLTE" if header.colour == Colour::Palette => {
            if content.len() / 3 > 256 {
                return Err(damaged(format!("its palette has {} colours; at most 256", content.len() / 3)));
            }
            header.palette = [[0; 3]; 256];
            for (colour, entry) in header.palette.iter_mut().zip(content.as_chunks::<3>().0) {
                *colour = *entry;
            }
        }
        b"acTL" if header.animated => header.animated = false,
        b"acTL" => header.animated = matches!(word(0), 1..=0x8000_0000),
        b"fcTL" => {
            step_sequence(header, word(0))?;
            let [width, height, left, top] = [word(4), word(8), word(12), word(16)];
            header.region = Some([left, top, width, height]);
        }
        b"fdAT" => step_sequence(header, word(0))?,
        b"iCCP" | b"zTXt" => check_compression(chunk, content)?,
        _ => {}
    }
    Ok(())
}

fn step_sequence(header: &mut Header, number: u32) -> Result<(), DecodeError> {
    if header.sequence.map_or(Some(0), |last| last.checked_add(1)) != Some(number) {
        return Err(damaged("its animation chunks are out of order".into()));
    }
    header.sequence = Some(number);
    Ok(())
}

/// Compressed text and profiles are not read, but an unknown method of compression is an error in Pillow.
fn check_compression(chunk: Chunk, content: &[u8]) -> Result<(), DecodeError> {
    let method = match content.iter().position(|&byte| byte == 0) {
        Some(end) => content.get(end + 1),
        None if &chunk.name == b"iCCP" => content.first(),
        None => None,
    };
    match method {
        Some(&method) if method != 0 => Err(damaged(format!(
            "its {} chunk names compression method {method}; only 0 is defined",
            chunk.title()
        ))),
        None if &chunk.name == b"iCCP" => Err(damaged("its iCCP chunk is too short".into())),
        _ => Ok(()),
    }
}

fn read_ihdr(header: &mut Header, content: &[u8]) -> Result<(), DecodeError> {
    let reader = Bytes(content);
    header.width = reader.u32_be(0).unwrap_or(0);
    header.height = reader.u32_be(4).unwrap_or(0);
    header.colour = match (content[8], content[9]) {
        (1 | 2 | 4 | 8 | 16, 0) => Colour::Grey,
        (8 | 16, 2) => Colour::Rgb,
        (1 | 2 | 4 | 8, 3) => Colour::Palette,
        (8 | 16, 4) => Colour::GreyAlpha,
        (8 | 16, 6) => Colour::Rgba,
        (bits, colour) => return Err(damaged(format!("no PNG has colour type {colour} with {bits} bits"))),
    };
    header.bits = content[8];
    header.interlaced = content[12] != 0;
    if content[11] != 0 {
        return Err(damaged(format!("filter category {} is unknown", content[11])));
    }
    Ok(())
}

/// Inflates the data chunks into filtered rows. Returns them and where the chunk after the last one used begins.
///
/// A stream that ends between two rows leaves the rest black, as in Pillow.
fn inflate(bytes: &[u8], first: Chunk, layout: &Layout) -> Result<(Vec<u8>, usize), DecodeError> {
    let total = layout.raw_len();
    let mut raw = Vec::with_capacity((total + 1).min(INFLATE_STEP));
    let mut chunk = first;
    INFLATE.with_borrow_mut(|stream| {
        stream.reset(true);
        loop {
            let end = chunk.at.saturating_add(chunk.len).min(bytes.len());
            let mut input = &bytes[chunk.at.min(end)..end];
            if inflate_chunk(stream, &mut input, &mut raw, layout)?.is_break() {
                raw.resize(total, 0);
                return Ok((raw, chunk.next()));
            }
            chunk = match Chunk::read(bytes, chunk.next()) {
                Some(chunk) if &chunk.name == b"IDAT" => chunk,
                _ => return Err(truncated()),
            };
        }
    })
}

/// Inflates one data chunk; breaks when the picture is complete.
fn inflate_chunk(
    stream: &mut Decompress,
    input: &mut &[u8],
    raw: &mut Vec<u8>,
    layout: &Layout,
) -> Result<ControlFlow<()>, DecodeError> {
    let total = layout.raw_len();
    while !input.is_empty() {
        // One byte of room beyond the rows lets the decoder reach the end of the stream and its checksum.
        if raw.capacity() == raw.len() {
            raw.reserve_exact((total + 1 - raw.len()).min(raw.len().max(INFLATE_STEP)));
        }
        let before = (stream.total_in(), raw.len());
        let status = stream.decompress_vec(input, raw, FlushDecompress::None);
        let used = (stream.total_in() - before.0) as usize;
        *input = &input[used.min(input.len())..];
        let ended = match status {
            Ok(status) => matches!(status, Status::StreamEnd),
            Err(_) if raw.len() > total => false,
            Err(error) => return Err(damaged(format!("its compressed data are broken ({error})"))),
        };
        if raw.len() > total || (ended && layout.is_row_end(raw.len())) {
            return Ok(ControlFlow::Break(()));
        }
        if ended || (used, raw.len()) == (0, before.1) {
            return Err(truncated());
        }
    }
    // All rows are there, only the stream's own end is not.
    Ok(if raw.len() >= total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

/// Pillow reads on to the end and refuses a file whose chunks break off within their content.
fn check_trailer(bytes: &[u8], mut at: usize, header: &Header) -> Result<(), DecodeError> {
    let mut ignored = *header;
    while let Some(chunk) = Chunk::read(bytes, at) {
        if &chunk.name == b"IEND" || (&chunk.name == b"fcTL" && header.animated) {
            break;
        }
        let content = chunk.content(bytes).ok_or_else(truncated)?;
        if &chunk.name != b"IHDR" && &chunk.name != b"PLTE" {
            read_chunk(&mut ignored, chunk, content)?;
        }
        at = chunk.next();
    }
    Ok(())
}

/// Samples of 8 bits, or for 16-bit files their bytes, to RGB.
fn to_rgb(samples: Vec<u8>, header: &Header) -> Vec<u8> {
    let deep = header.bits == 16;
    match (header.colour, deep) {
        (Colour::Palette, _) => paint(&samples, &header.palette),
        (Colour::Grey, false) => {
            // 1, 2 and 4 bits are stretched over 0..255.
            let scale = match header.bits {
                1 => 255,
                2 => 85,
                4 => 17,
                _ => 1,
            };
            if scale == 1 {
                spread(&samples)
            } else {
                spread(&samples.iter().map(|&v| v * scale).collect::<Vec<_>>())
            }
        }
        (Colour::Grey, true) => {
            let clip = |pair: &[u8; 2]| if pair[0] == 0 { pair[1] } else { 255 };
            spread(&samples.as_chunks::<2>().0.iter().map(clip).collect::<Vec<_>>())
        }
        (Colour::Rgb, false) => samples,
        (Colour::Rgb, true) => pick(samples.as_chunks::<6>().0, |p| [p[0], p[2], p[4]]),
        (Colour::GreyAlpha, false) => pick(samples.as_chunks::<2>().0, |p| [p[0]; 3]),
        (Colour::GreyAlpha, true) => pick(samples.as_chunks::<4>().0, |p| [p[0]; 3]),
        (Colour::Rgba, false) => pick(samples.as_chunks::<4>().0, |p| [p[0], p[1], p[2]]),
        (Colour::Rgba, true) => pick(samples.as_chunks::<8>().0, |p| [p[0], p[2], p[4]]),
    }
}

fn pick<const N: usize>(pixels: &[[u8; N]], rgb: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        out.extend_from_slice(&rgb(pixel));
    }
    out
}

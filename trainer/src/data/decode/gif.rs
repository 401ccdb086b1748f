//! The first frame of a GIF, on the whole screen of the file, as Pillow reads it.

use super::{Bytes, DecodeError, RgbImage, checked_pixels, paint, spread};

const FORMAT: &str = "GIF";

/// Codes have at most this many bits.
const MAX_CODE_BITS: u32 = 12;

/// What is needed of the first frame.
struct Frame<'a> {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    interlaced: bool,
    palette: Option<&'a [u8]>,
    transparent: Option<u8>,
    /// Where the coded data begin.
    data: usize,
    code_bits: u32,
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let reader = Bytes(bytes);
    let (Some(width), Some(height), Some(flags), Some(_)) =
        (reader.u16_le(6), reader.u16_le(8), reader.u8(10), reader.u8(12))
    else {
        return Err(truncated());
    };
    let (screen_palette, at) = read_palette(&reader, 13, flags)?;
    let frame = read_frame(&reader, at)?;
    // A frame that reaches beyond the screen enlarges it.
    let width = usize::from(width).max(frame.left + frame.width);
    let height = usize::from(height).max(frame.top + frame.height);
    let pixels = checked_pixels(FORMAT, width as u64, height as u64)?;
    if frame.width == 0 || frame.height == 0 {
        return Err(damaged("its first frame is empty"));
    }
    let mut screen = vec![frame.transparent.unwrap_or(0); pixels];
    draw(&reader, &frame, &mut screen, width)?;
    let pixels = match frame.palette.or(screen_palette).filter(|palette| !is_grey_scale(palette)) {
        None => spread(&screen),
        Some(stored) => {
            let mut palette = [[0; 3]; 256];
            for (colour, entry) in palette.iter_mut().zip(stored.as_chunks::<3>().0) {
                *colour = *entry;
            }
            paint(&screen, &palette)
        }
    };
    Ok(RgbImage { width: width as u32, height: height as u32, pixels })
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

fn damaged(reason: &str) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, reason: reason.into() }
}

/// A palette, if the flags announce one, and what comes after it.
fn read_palette<'a>(
    reader: &Bytes<'a>,
    at: usize,
    flags: u8,
) -> Result<(Option<&'a [u8]>, usize), DecodeError> {
    if flags & 0x80 == 0 {
        return Ok((None, at));
    }
    let len = 3 << ((flags & 7) + 1);
    Ok((Some(reader.get(at, len).ok_or_else(truncated)?), at + len))
}

/// A palette whose colour i is grey level i says nothing.
fn is_grey_scale(palette: &[u8]) -> bool {
    palette.as_chunks::<3>().0.iter().enumerate().all(|(i, colour)| *colour == [i as u8; 3])
}

fn read_frame<'a>(reader: &Bytes<'a>, mut at: usize) -> Result<Frame<'a>, DecodeError> {
    let mut transparent = None;
    loop {
        match reader.u8(at) {
            None | Some(b';') => return Err(damaged("it has no picture")),
            Some(b'!') => {
                let label = reader.u8(at + 1).ok_or_else(truncated)?;
                at += 2;
                if label == 0xf9
                    && let Some(len @ 1..) = reader.u8(at)
                {
                    let block = reader.get(at + 1, len.into()).ok_or_else(truncated)?;
                    if block.len() < 3 || block[0] & 1 == 1 && block.len() < 4 {
                        return Err(damaged("its graphic control block is too short"));
                    }
                    if block[0] & 1 == 1 {
                        transparent = Some(block[3]);
                    }
                }
                while let Some(len @ 1..) = reader.u8(at) {
                    at += 1 + usize::from(len);
                }
                at += 1;
            }
            Some(b',') => {
                let size = |i: usize| reader.u16_le(at + 1 + 2 * i).map(usize::from).ok_or_else(truncated);
                let [left, top, width, height] = [size(0)?, size(1)?, size(2)?, size(3)?];
                let flags = reader.u8(at + 9).ok_or_else(truncated)?;
                let (palette, after) = read_palette(reader, at + 10, flags)?;
                let code_bits = reader.u8(after).ok_or_else(truncated)?.into();
                let interlaced = flags & 0x40 != 0;
                let data = after + 1;
                return Ok(Frame {
                    left,
                    top,
                    width,
                    height,
                    interlaced,
                    palette,
                    transparent,
                    data,
                    code_bits,
                });
            }
            // Anything between the blocks is passed over.
            Some(_) => at += 1,
        }
    }
}

/// Decodes the frame's palette numbers onto the screen.
fn draw(reader: &Bytes, frame: &Frame, screen: &mut [u8], stride: usize) -> Result<(), DecodeError> {
    if frame.code_bits > MAX_CODE_BITS {
        return Err(damaged("its codes have more than 12 bits"));
    }
    let mut lines = line_order(frame.height, frame.interlaced);
    let mut codes = Codes { reader, at: frame.data, left: 0, bits: 0, count: 0 };
    let mut table = Table::new(frame.code_bits);
    let mut y = lines.next();
    let mut x = 0;
    loop {
        let string = table.next_string(&mut codes)?;
        for &index in string {
            let Some(row) = y else { return Ok(()) };
            screen[(frame.top + row) * stride + frame.left + x] = index;
            x += 1;
            if x == frame.width {
                x = 0;
                y = lines.next();
            }
        }
        if y.is_none() {
            return Ok(());
        }
    }
}

/// The rows in the order in which they are coded.
fn line_order(height: usize, interlaced: bool) -> Box<dyn Iterator<Item = usize>> {
    if interlaced {
        let passes = [(0, 8), (4, 8), (2, 4), (1, 2)];
        Box::new(passes.into_iter().flat_map(move |(first, step)| (first..height).step_by(step)))
    } else {
        Box::new(0..height)
    }
}

/// Codes of a changing number of bits out of blocks of bytes.
struct Codes<'a> {
    reader: &'a Bytes<'a>,
    at: usize,
    /// Bytes left in the block.
    left: usize,
    bits: u32,
    count: u32,
}

impl Codes<'_> {
    fn next(&mut self, size: u32) -> Result<usize, DecodeError> {
        while self.count < size {
            if self.left == 0 {
                self.left = self.reader.u8(self.at).ok_or_else(truncated)?.into();
                self.at += 1;
                // A block that is not wholly there is not begun.
                self.reader.get(self.at, self.left).ok_or_else(truncated)?;
                continue;
            }
            self.bits |= u32::from(self.reader.u8(self.at).ok_or_else(truncated)?) << self.count;
            self.count += 8;
            self.at += 1;
            self.left -= 1;
        }
        let code = self.bits & ((1 << size) - 1);
        self.bits >>= size;
        self.count -= size;
        Ok(code as usize)
    }
}

/// The dictionary of the LZW code: each entry is an earlier one and a last number.
struct Table {
    root_bits: u32,
    size: u32,
    last: Vec<u8>,
    link: Vec<u16>,
    next: usize,
    previous: Option<usize>,
    /// First number of the previous string.
    first: u8,
    string: Vec<u8>,
}

impl Table {
    const ENTRIES: usize = 1 << MAX_CODE_BITS;

    fn new(root_bits: u32) -> Self {
        let mut table = Self {
            root_bits,
            size: 0,
            last: vec![0; Self::ENTRIES],
            link: vec![0; Self::ENTRIES],
            next: 0,
            previous: None,
            first: 0,
            string: Vec::new(),
        };
        table.clear();
        table
    }

    fn clear(&mut self) {
        self.next = (1 << self.root_bits) + 2;
        self.size = self.root_bits + 1;
        self.previous = None;
    }

    /// The string of the next code.
    fn next_string(&mut self, codes: &mut Codes) -> Result<&[u8], DecodeError> {
        let clear = 1 << self.root_bits;
        let broken = || damaged("its codes are broken");
        let code = loop {
            match codes.next(self.size)? {
                code if code == clear => self.clear(),
                // The picture must be complete before the end code.
                code if code == clear + 1 => return Err(truncated()),
                code => break code,
            }
        };
        self.string.clear();
        let Some(previous) = self.previous else {
            if code > clear {
                return Err(broken());
            }
            self.previous = Some(code);
            self.first = code as u8;
            self.string.push(self.first);
            return Ok(&self.string);
        };
        if code > self.next {
            return Err(broken());
        }
        let mut walk = code;
        if code == self.next {
            self.string.push(self.first);
            walk = previous;
        }
        while walk >= clear {
            if walk >= Self::ENTRIES || self.string.len() > Self::ENTRIES {
                return Err(broken());
            }
            self.string.push(self.last[walk]);
            walk = self.link[walk].into();
        }
        self.first = walk as u8;
        self.string.push(self.first);
        self.string.reverse();
        self.extend(previous);
        self.previous = Some(code);
        Ok(&self.string)
    }

    fn extend(&mut self, previous: usize) {
        if self.next < Self::ENTRIES {
            self.last[self.next] = self.first;
            self.link[self.next] = previous as u16;
            if self.next == (1 << self.size) - 1 && self.size < MAX_CODE_BITS {
                self.size += 1;
            }
            self.next += 1;
        }
    }
}

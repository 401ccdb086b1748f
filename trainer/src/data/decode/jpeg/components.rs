//! The components of a part of a JPEG file, luma and chroma, each at the resolution in which it is stored.
//!
//! A crop that is resized and mirrored anyway needs neither chroma at the resolution of luma nor RGB at that of the file. Blocks
//! beside the part are read but not transformed, and rows below it are not read.
//!
//! Decodes files of one scan with 8 bits a sample and Huffman codes, of grey or YCbCr, with chroma at the full or half resolution.
//! Other files, and damaged ones, are left to libjpeg.

mod huffman;
mod inverse;
#[cfg(test)]
mod tests;

use super::super::Bytes;
use super::super::part::Rect;
use huffman::{Bits, Quantisers, Table, diagonal};
use inverse::{Basis, Coefficients, basis};

/// Bytes after a part of a scan that may be read but do not count.
const AFTER: usize = 8;

/// The pixels of one component.
#[derive(Debug, Default)]
pub struct Component {
    /// Row by row.
    pub pixels: Vec<u8>,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Column and row of the first pixel, in the component of the reduced image.
    pub first: (u32, u32),
    /// Width and height of the component of the reduced image.
    pub size: (u32, u32),
    /// Pixels of the image for each of the component, across and down.
    pub reduction: (u32, u32),
}

/// Decodes one file after the other with the same buffers.
#[derive(Debug)]
pub(in crate::data::decode) struct ComponentDecoder {
    tables: Tables,
    /// For a reduction of 1, 2, 4 and 8.
    bases: [Basis; 4],
    /// The scan without stuffed bytes, and where its parts between restarts lie.
    scan: Vec<u8>,
    parts: Vec<(usize, usize)>,
    components: [Component; 3],
}

#[derive(Debug)]
struct Tables {
    quantisers: [Option<Quantisers>; 4],
    dc: [Table; 4],
    ac: [Table; 4],
    is_read: [[bool; 4]; 2],
}

/// A component in the headers.
#[derive(Clone, Copy, Debug, Default)]
struct Coded {
    id: u8,
    /// Blocks of a unit, across and down.
    blocks: (u32, u32),
    quantiser: usize,
    dc: usize,
    ac: usize,
}

/// What the headers tell.
#[derive(Debug, Default)]
struct Headers {
    size: (u32, u32),
    coded: Vec<Coded>,
    restart_interval: usize,
    is_jfif: bool,
    adobe_transform: Option<u8>,
}

/// The blocks of a component that are transformed: columns, and rows.
#[derive(Clone, Debug)]
struct Window {
    columns: std::ops::Range<u32>,
    rows: std::ops::Range<u32>,
}

/// A component while its blocks are read.
struct Stream<'a> {
    tables: (&'a Table, &'a Table),
    quantisers: &'a Quantisers,
    coded: Coded,
    window: &'a Window,
    /// The first coefficient of the previous block.
    previous: i32,
    component: &'a mut Component,
    basis: (&'a Basis, usize),
}

impl Default for ComponentDecoder {
    fn default() -> Self {
        Self {
            tables: Tables {
                quantisers: [None; 4],
                dc: std::array::from_fn(|_| Table::new(false)),
                ac: std::array::from_fn(|_| Table::new(true)),
                is_read: [[false; 4]; 2],
            },
            bases: [1, 2, 4, 8].map(basis),
            scan: Vec::new(),
            parts: Vec::new(),
            components: Default::default(),
        }
    }
}

impl ComponentDecoder {
    /// Decodes at least `wanted` of a file, reduced by 1, 2, 4 or 8. `header` is all of the file that comes before `scan`, which begins
    /// with the scan's marker and ends with that of the image. None if libjpeg must decode it.
    pub(in crate::data::decode) fn decode(
        &mut self,
        header: &[u8],
        scan: &[u8],
        wanted: Rect,
        reduction: u32,
    ) -> Option<&[Component]> {
        let mut headers = Headers::default();
        self.tables.begin();
        headers.read(header, &mut self.tables)?;
        let start = headers.read_scan(scan)?;
        headers.are_supported(&self.tables).then_some(())?;
        self.unstuff(scan.get(start..)?)?;
        let windows = self.place(&headers, wanted, reduction);
        self.read_units(&headers, &windows, reduction)?;
        Some(&self.components[..headers.coded.len()])
    }

    /// Releases buffers of more bytes than these.
    pub(in crate::data::decode) fn shrink(&mut self, most: usize) {
        let pixels = self.components.iter_mut().map(|component| &mut component.pixels);
        for buffer in pixels.chain([&mut self.scan]).filter(|buffer| buffer.capacity() > most) {
            *buffer = Vec::new();
        }
    }

    /// Copies the data of a scan without stuffed bytes, up to the marker after it. None if restarts are out of order.
    fn unstuff(&mut self, data: &[u8]) -> Option<()> {
        self.scan.clear();
        self.parts.clear();
        let (mut at, mut begun) = (0, 0);
        loop {
            let ff = at + memchr::memchr(0xff, data.get(at..)?)?;
            let marker = *data.get(ff + 1)?;
            match marker {
                0 => {
                    self.scan.extend_from_slice(&data[at..=ff]);
                    at = ff + 2;
                }
                // Padding.
                0xff => {
                    self.scan.extend_from_slice(&data[at..ff]);
                    at = ff + 1;
                }
                _ => {
                    self.scan.extend_from_slice(&data[at..ff]);
                    self.parts.push((begun, self.scan.len()));
                    self.scan.extend_from_slice(&[0; AFTER]);
                    begun = self.scan.len();
                    at = ff + 2;
                    if !(0xd0..=0xd7).contains(&marker) {
                        return Some(());
                    }
                    let expected = (self.parts.len() - 1) % 8;
                    (usize::from(marker - 0xd0) == expected).then_some(())?;
                }
            }
        }
    }

    /// Sets the sizes of the components; returns their blocks that are transformed.
    fn place(&mut self, headers: &Headers, wanted: Rect, reduction: u32) -> Vec<Window> {
        let side = 8 / reduction;
        let largest = headers.largest();
        let (width, height) = headers.size;
        let place = |(coded, component): (&Coded, &mut Component)| {
            let factor = (largest.0 / coded.blocks.0, largest.1 / coded.blocks.1);
            let range = |start: u32, len: u32, factor: u32| {
                let pixels = reduction * factor;
                start / pixels / side..(start + len).div_ceil(pixels).div_ceil(side)
            };
            let columns = range(wanted.left, wanted.width, factor.0);
            let rows = range(wanted.top, wanted.height, factor.1);
            component.stride = (columns.len() as u32 * side) as usize;
            component.first = (columns.start * side, rows.start * side);
            component.reduction = (reduction * factor.0, reduction * factor.1);
            component.size = (width.div_ceil(component.reduction.0), height.div_ceil(component.reduction.1));
            let bytes = component.stride * rows.len() * side as usize;
            if component.pixels.len() < bytes {
                component.pixels.resize(bytes, 0);
            }
            Window { columns, rows }
        };
        headers.coded.iter().zip(&mut self.components).map(place).collect()
    }

    /// Reads the units up to the last row of blocks that is transformed.
    fn read_units(&mut self, headers: &Headers, windows: &[Window], reduction: u32) -> Option<()> {
        let Self { tables, bases, scan, parts, components } = self;
        let largest = headers.largest();
        let across = headers.size.0.div_ceil(8 * largest.0);
        let down = headers.size.1.div_ceil(8 * largest.1);
        let interval = match headers.restart_interval {
            0 => (across * down) as usize,
            interval => interval,
        };
        (parts.len() == ((across * down) as usize).div_ceil(interval)).then_some(())?;
        let last = |(coded, window): (&Coded, &Window)| window.rows.end.div_ceil(coded.blocks.1);
        let rows = headers.coded.iter().zip(windows).map(last).max()?.min(down);
        let mut streams = Vec::with_capacity(windows.len());
        for ((coded, window), component) in headers.coded.iter().zip(windows).zip(components) {
            streams.push(Stream {
                tables: (&tables.dc[coded.dc], &tables.ac[coded.ac]),
                quantisers: tables.quantisers[coded.quantiser].as_ref()?,
                coded: *coded,
                window,
                previous: 0,
                component,
                basis: (&bases[reduction.ilog2() as usize], (8 / reduction) as usize),
            });
        }
        let mut parts = parts.iter();
        let mut bits = Bits::new(&[]);
        let (mut end, mut left) = (0, 0);
        let mut coefficients = Coefficients::ZERO;
        for row in 0..rows {
            for column in 0..across {
                if left == 0 {
                    (!bits.is_beyond(end)).then_some(())?;
                    let &(start, stop) = parts.next()?;
                    (bits, end, left) = (Bits::new(&scan[start..stop + AFTER]), stop - start, interval);
                    for stream in &mut streams {
                        stream.previous = 0;
                    }
                }
                left -= 1;
                for stream in &mut streams {
                    stream.read_unit((column, row), &mut bits, &mut coefficients)?;
                }
            }
            (!bits.is_beyond(end)).then_some(())?;
        }
        Some(())
    }
}

impl Stream<'_> {
    /// Reads the blocks of a unit.
    #[inline]
    fn read_unit(
        &mut self,
        (column, row): (u32, u32),
        bits: &mut Bits,
        coefficients: &mut Coefficients,
    ) -> Option<()> {
        let (across, down) = self.coded.blocks;
        for y in row * down..(row + 1) * down {
            let is_row_kept = self.window.rows.contains(&y);
            for x in column * across..(column + 1) * across {
                if is_row_kept && self.window.columns.contains(&x) {
                    self.read_block((x, y), bits, coefficients)?;
                } else {
                    self.previous = self.previous.wrapping_add(bits.skip_block(self.tables)?);
                }
            }
        }
        Some(())
    }

    /// Reads a block and writes its pixels.
    #[inline]
    fn read_block(
        &mut self,
        (x, y): (u32, u32),
        bits: &mut Bits,
        coefficients: &mut Coefficients,
    ) -> Option<()> {
        let (difference, last) = bits.block(self.tables, self.quantisers, &mut coefficients.0)?;
        self.previous = self.previous.wrapping_add(difference);
        coefficients.0[0] = self.previous as f32 * self.quantisers.first();
        let (window, side, stride) = (self.window, self.basis.1, self.component.stride);
        let (left, top) = ((x - window.columns.start) as usize, (y - window.rows.start) as usize);
        let target = &mut self.component.pixels[(top * stride + left) * side..];
        inverse::write(coefficients, diagonal(last), self.basis, target, stride);
        Some(())
    }
}

impl Tables {
    /// Tables of the previous file are not those of the next.
    fn begin(&mut self) {
        self.quantisers = [None; 4];
        self.is_read = [[false; 4]; 2];
    }

    /// Reads the quantisers of a segment.
    fn read_quantisers(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (wide, number) = (kind >> 4, usize::from(kind & 15));
            let bytes = if wide == 0 { 64 } else { 128 };
            let values = rest.get(..bytes)?;
            let value = |place: usize| match wide {
                0 => f32::from(values[place]),
                _ => f32::from(u16::from_be_bytes([values[2 * place], values[2 * place + 1]])),
            };
            *self.quantisers.get_mut(number)? = Some(Quantisers::new(std::array::from_fn(value)));
            segment = &rest[bytes..];
        }
        Some(())
    }

    /// Reads the Huffman tables of a segment.
    fn read_codes(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (class, number) = (usize::from(kind >> 4), usize::from(kind & 15));
            let tables = [&mut self.dc, &mut self.ac].into_iter().nth(class)?;
            let bytes = tables.get_mut(number)?.read(rest)?;
            self.is_read[class][number] = true;
            segment = &rest[bytes..];
        }
        Some(())
    }
}

impl Headers {
    /// Reads the segments before the scan.
    fn read(&mut self, header: &[u8], tables: &mut Tables) -> Option<()> {
        let bytes = Bytes(header);
        let mut at = 2;
        while at < header.len() {
            let marker = bytes.u16_be(at)?;
            let len = usize::from(bytes.u16_be(at + 2)?);
            let segment = bytes.get(at + 4, len.checked_sub(2)?)?;
            match marker {
                0xffc0 | 0xffc1 => self.read_frame(segment)?,
                0xffc4 => tables.read_codes(segment)?,
                0xffdb => tables.read_quantisers(segment)?,
                0xffdd => self.restart_interval = Bytes(segment).u16_be(0)?.into(),
                0xffe0 => self.is_jfif = true,
                0xffee => self.adobe_transform = Some(Bytes(segment).u8(11)?),
                _ => return None,
            }
            at += 2 + len;
        }
        let is_complete = |coded: &Coded| tables.quantisers.get(coded.quantiser).is_some_and(Option::is_some);
        self.coded.iter().all(is_complete).then_some(())
    }

    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let bytes = Bytes(segment);
        let count = usize::from(bytes.u8(5)?);
        (self.coded.is_empty() && matches!(count, 1 | 3)).then_some(())?;
        self.size = (bytes.u16_be(3)?.into(), bytes.u16_be(1)?.into());
        for number in 0..count {
            let [id, sampling, quantiser] = *bytes.get(6 + 3 * number, 3)?.first_chunk()?;
            let blocks = (u32::from(sampling >> 4), u32::from(sampling & 15));
            (1..=4).contains(&blocks.0).then_some(())?;
            (1..=4).contains(&blocks.1).then_some(())?;
            // The unit of a single component is one block.
            let blocks = if count == 1 { (1, 1) } else { blocks };
            self.coded.push(Coded { id, blocks, quantiser: quantiser.into(), dc: 0, ac: 0 });
        }
        Some(())
    }

    /// Reads the header of the scan; returns where its data begin.
    fn read_scan(&mut self, scan: &[u8]) -> Option<usize> {
        let bytes = Bytes(scan);
        let len = usize::from(bytes.u16_be(2)?);
        (usize::from(bytes.u8(4)?) == self.coded.len() && len == 6 + 2 * self.coded.len()).then_some(())?;
        for (number, coded) in self.coded.iter_mut().enumerate() {
            let [id, tables] = *bytes.get(5 + 2 * number, 2)?.first_chunk()?;
            (id == coded.id).then_some(())?;
            (coded.dc, coded.ac) = ((tables >> 4).into(), (tables & 15).into());
        }
        // All coefficients at once, of full precision.
        (bytes.get(5 + 2 * self.coded.len(), 3)? == [0, 63, 0]).then_some(2 + len)
    }

    fn largest(&self) -> (u32, u32) {
        let largest = |side: fn(&Coded) -> u32| self.coded.iter().map(side).max().unwrap_or(1);
        (largest(|coded| coded.blocks.0), largest(|coded| coded.blocks.1))
    }

    fn are_supported(&self, tables: &Tables) -> bool {
        let is_rgb = match (self.is_jfif, self.adobe_transform) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => self.coded.iter().map(|coded| coded.id).eq(*b"RGB"),
        };
        let is_read = |class: usize, number: usize| tables.is_read[class].get(number) == Some(&true);
        let is_simple = |coded: &Coded| {
            matches!(coded.blocks, (1 | 2, 1 | 2)) && is_read(0, coded.dc) && is_read(1, coded.ac)
        };
        !self.coded.is_empty() && (self.coded.len() == 1 || !is_rgb) && self.coded.iter().all(is_simple)
    }
}

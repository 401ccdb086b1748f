//! The rows of a PNG: the order of interlaced passes, the five filters, samples of less than a byte.

use super::Colour;

/// One of the seven passes of an interlaced file, or the only one of a plain file.
#[derive(Clone, Copy)]
struct Pass {
    left: usize,
    top: usize,
    across: usize,
    down: usize,
}

const PLAIN: [Pass; 1] = [Pass { left: 0, top: 0, across: 1, down: 1 }];

const INTERLACED: [Pass; 7] = [
    Pass { left: 0, top: 0, across: 8, down: 8 },
    Pass { left: 4, top: 0, across: 8, down: 8 },
    Pass { left: 0, top: 4, across: 4, down: 8 },
    Pass { left: 2, top: 0, across: 4, down: 4 },
    Pass { left: 0, top: 2, across: 2, down: 4 },
    Pass { left: 1, top: 0, across: 2, down: 2 },
    Pass { left: 0, top: 1, across: 1, down: 2 },
];

/// Where the bytes of each row lie in the inflated data.
pub(super) struct Layout {
    width: usize,
    height: usize,
    /// Bits of a pixel.
    depth: usize,
    passes: &'static [Pass],
}

impl Layout {
    pub(super) fn new(width: usize, height: usize, bits: u8, colour: Colour, interlaced: bool) -> Self {
        let channels = match colour {
            Colour::Grey | Colour::Palette => 1,
            Colour::GreyAlpha => 2,
            Colour::Rgb => 3,
            Colour::Rgba => 4,
        };
        let passes: &[Pass] = if interlaced { &INTERLACED } else { &PLAIN };
        Self { width, height, depth: channels * usize::from(bits), passes }
    }

    /// Pixels in a row and rows of a pass; an empty pass has neither.
    fn extent(&self, pass: &Pass) -> (usize, usize) {
        let columns = self.width.saturating_sub(pass.left).div_ceil(pass.across);
        let rows = self.height.saturating_sub(pass.top).div_ceil(pass.down);
        if columns == 0 { (0, 0) } else { (columns, rows) }
    }

    fn row_bytes(&self, columns: usize) -> usize {
        (columns * self.depth).div_ceil(8)
    }

    /// Length of the inflated data: every row with its filter byte.
    pub(super) fn raw_len(&self) -> usize {
        self.passes
            .iter()
            .map(|pass| self.extent(pass))
            .map(|(columns, rows)| rows * (self.row_bytes(columns) + 1))
            .sum()
    }

    /// Whether `len` bytes are one or more whole rows.
    pub(super) fn is_row_end(&self, mut len: usize) -> bool {
        if len == 0 {
            return false;
        }
        for pass in self.passes {
            let (columns, rows) = self.extent(pass);
            let row = self.row_bytes(columns) + 1;
            if len <= rows * row {
                return len.is_multiple_of(row);
            }
            len -= rows * row;
        }
        len == 0
    }
}

/// Inflated data on their way to samples.
pub(super) struct Rows<'a> {
    pub(super) layout: &'a Layout,
    pub(super) raw: &'a mut [u8],
}

impl Rows<'_> {
    /// Undoes the filters; returns the samples in the order of the picture, one byte each (two for 16 bits).
    pub(super) fn samples(self) -> Result<Vec<u8>, String> {
        let layout = self.layout;
        let pixel = layout.depth.div_ceil(8);
        let in_order = layout.passes.len() == 1 && layout.depth >= 8;
        let mut samples = Vec::with_capacity(layout.width * layout.height * pixel);
        if !in_order {
            samples.resize(samples.capacity(), 0);
        }
        let mut rest = self.raw;
        for pass in layout.passes {
            let (columns, rows) = layout.extent(pass);
            let bytes = layout.row_bytes(columns);
            let mut above: &[u8] = &[];
            for row in 0..rows {
                let (line, after) = rest.split_at_mut(bytes + 1);
                let (filter, line) = line.split_at_mut(1);
                unfilter(filter[0], line, above, pixel)?;
                if in_order {
                    samples.extend_from_slice(line);
                } else {
                    let first = (pass.top + row * pass.down) * layout.width + pass.left;
                    scatter(line, layout.depth, &mut samples[first * pixel..], columns, pass.across);
                }
                above = line;
                rest = after;
            }
        }
        Ok(samples)
    }
}

/// Writes the pixels of a row `across` apart.
fn scatter(line: &[u8], depth: usize, samples: &mut [u8], columns: usize, across: usize) {
    if depth >= 8 {
        let pixel = depth / 8;
        for (source, target) in line.chunks_exact(pixel).zip(samples.chunks_mut(pixel * across)) {
            target[..pixel].copy_from_slice(source);
        }
    } else {
        let mask = (1u8 << depth) - 1;
        for column in 0..columns {
            let bit = column * depth;
            samples[column * across] = line[bit / 8] >> (8 - depth - bit % 8) & mask;
        }
    }
}

/// Undoes the filter of a row in place. `above` is the row before it in its pass, empty for the first one.
fn unfilter(filter: u8, line: &mut [u8], above: &[u8], pixel: usize) -> Result<(), String> {
    match filter {
        0 => {}
        1 => {
            for i in pixel..line.len() {
                line[i] = line[i].wrapping_add(line[i - pixel]);
            }
        }
        2 => {
            for (value, up) in line.iter_mut().zip(above) {
                *value = value.wrapping_add(*up);
            }
        }
        3 => average(line, above, pixel),
        4 if above.is_empty() => return unfilter(1, line, above, pixel),
        4 => paeth(line, above, pixel),
        _ => return Err(format!("a row names filter {filter}; only 0 to 4 are defined")),
    }
    Ok(())
}

fn average(line: &mut [u8], above: &[u8], pixel: usize) {
    for i in 0..line.len() {
        let left = if i < pixel { 0 } else { u16::from(line[i - pixel]) };
        let up = above.get(i).copied().map_or(0, u16::from);
        line[i] = line[i].wrapping_add(u16::midpoint(left, up) as u8);
    }
}

/// The predictor that is nearest to left + up - corner. With no row above it is the left pixel.
fn paeth(line: &mut [u8], above: &[u8], pixel: usize) {
    let first = pixel.min(line.len());
    for i in 0..first {
        line[i] = line[i].wrapping_add(above[i]);
    }
    for i in first..line.len() {
        let (left, up, corner) =
            (i16::from(line[i - pixel]), i16::from(above[i]), i16::from(above[i - pixel]));
        let (to_left, to_up) = ((up - corner).abs(), (left - corner).abs());
        let to_corner = (left + up - 2 * corner).abs();
        let predictor = if to_left <= to_up && to_left <= to_corner {
            left
        } else if to_up <= to_corner {
            up
        } else {
            corner
        };
        line[i] = line[i].wrapping_add(predictor as u8);
    }
}

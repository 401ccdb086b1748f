//! Resampling of 8-bit RGB, bitwise equal to Pillow's `Image.resize`, for its bilinear and bicubic filters.
//!
//! The rule: the filter is stretched by the factor of reduction (so it is antialiased; an enlargement uses
//! it unchanged), its weights at the source pixels are normalised to sum 1 in double precision and rounded to
//! 22 binary places. Mostly the pixels of each row are resampled first, their results rounded to 8 bits, then
//! those of each column. A pass that would not change the size is left out.
//!
//! Only a window of the result is computed: pixels outside a crop are never computed, and a very long
//! and narrow image costs no more than its crop. The result is written as one plane for each channel, mirrored if asked.

mod colour;
mod fast;
mod kernel;
mod passes;
mod transpose;

use super::decode::{Component, Part, Rect, RgbImage};
use fast::FastPasses;
use kernel::Kernel;
use passes::{Columns, ROWS};

pub(super) use kernel::reach;

/// Weights are integers of this many binary places: 32 bits less 8 for the pixel and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// A filter to resample with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// A triangle of radius 1.
    Bilinear,
    /// Keys' cubic with a = -1/2, of radius 2.
    Bicubic,
}

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// The filter's height at distance `x`. The order of operations is Pillow's, so that the roundings are too.
    fn at(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            _ => 0.0,
        }
    }
}

/// The source along one direction: `len` pixels, of which the first one may be partly outside.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Extent {
    /// Whole pixels that may be read.
    pixels: usize,
    /// Where the source begins, in the first pixel.
    offset: f64,
    /// Its length, in pixels.
    len: f64,
}

impl Extent {
    fn of(pixels: usize) -> Self {
        Self { pixels, offset: 0.0, len: pixels as f64 }
    }
}

/// A rectangle of an image whose pixels are given, or at least those of them that are read. A pixel has `C` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Crop<'a, const C: usize = 3> {
    pixels: &'a [u8],
    stride: usize,
    /// Where the first pixel lies in the rectangle.
    first: (usize, usize),
    across: Extent,
    down: Extent,
}

impl<'a> Crop<'a> {
    /// A rectangle of an image of which a part was decoded, in pixels of the whole image. None if it does not lie within
    /// the image or is empty.
    pub fn of(part: Part<'a>, rect: Rect) -> Option<Self> {
        let (x, across) = extent(rect.left, rect.width, part.reduction, part.size.0)?;
        let (y, down) = extent(rect.top, rect.height, part.reduction, part.size.1)?;
        let (left, top) = (part.rect.left as usize, part.rect.top as usize);
        let stride = part.rect.width as usize * 3;
        let pixels = part.pixels.get(y.saturating_sub(top) * stride + x.saturating_sub(left) * 3..)?;
        Some(Self { pixels, stride, first: (left.saturating_sub(x), top.saturating_sub(y)), across, down })
    }

    /// All of an image. None if it is empty.
    fn whole(image: &'a RgbImage) -> Option<Self> {
        let size = (image.width, image.height);
        let rect = Rect::whole(size);
        Self::of(Part { pixels: &image.pixels, rect, reduction: 1, size }, rect)
    }
}

impl<'a> Crop<'a, 1> {
    /// A rectangle of a component of which a part was decoded, in pixels of the whole image. None if it does not lie within
    /// the image or is empty.
    fn of_component(component: &'a Component, rect: Rect) -> Option<Self> {
        let (x, across) = extent(rect.left, rect.width, component.reduction.0, component.size.0)?;
        let (y, down) = extent(rect.top, rect.height, component.reduction.1, component.size.1)?;
        let left = x.checked_sub(component.first.0 as usize)?;
        let top = y.checked_sub(component.first.1 as usize)?;
        let pixels = component.pixels.get(top * component.stride + left..)?;
        Some(Self { pixels, stride: component.stride, first: (0, 0), across, down })
    }
}

impl<'a, const C: usize> Crop<'a, C> {
    /// The bytes from a pixel of the rectangle on.
    fn from(&self, x: usize, y: usize) -> &'a [u8] {
        &self.pixels[(y - self.first.1) * self.stride + (x - self.first.0) * C..]
    }
}

/// A side of a rectangle in an image that was reduced to `size` pixels there: its first whole pixel, and the rest.
fn extent(start: u32, len: u32, reduction: u32, size: u32) -> Option<(usize, Extent)> {
    let end = start.checked_add(len)?.div_ceil(reduction);
    if len == 0 || end > size {
        return None;
    }
    let (first, inside) = (start / reduction, start % reduction);
    let offset = f64::from(inside) / f64::from(reduction);
    let extent =
        Extent { pixels: (end - first) as usize, offset, len: f64::from(len) / f64::from(reduction) };
    Some((first as usize, extent))
}

/// A range of rows or columns of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// The size of the whole result along one direction, and the part of it that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Size of the whole result.
    pub size: u32,
    /// The wanted part.
    pub span: Span,
}

impl Axis {
    /// All of a result.
    pub fn whole(size: u32) -> Self {
        Self { size, span: Span { start: 0, len: size } }
    }
}

/// An image as one plane for each of the three channels.
#[derive(Debug)]
pub struct Planes<'a> {
    /// The bytes from the first pixel of the first plane on.
    pub bytes: &'a mut [u8],
    /// Pixels in a row.
    pub width: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes from one plane to the next.
    pub plane: usize,
}

impl Planes<'_> {
    /// The planes from a channel on.
    fn starting_with(&mut self, channel: usize) -> Planes<'_> {
        Planes { bytes: &mut self.bytes[channel * self.plane..], ..*self }
    }

    fn row(&mut self, channel: usize, y: usize) -> &mut [u8] {
        &mut self.bytes[channel * self.plane + y * self.stride..][..self.width]
    }
}

/// Resamples a whole image to `width` x `height`. A size of zero is taken as one.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    let plane = width as usize * height as usize;
    let mut planes = vec![0; plane * 3];
    if let Some(whole) = Crop::whole(image) {
        let target = Planes { bytes: &mut planes, width: width as usize, stride: width as usize, plane };
        Resizer::default().run(whole, Axis::whole(width), Axis::whole(height), filter, false, target);
    }
    let pixels = (0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]).collect();
    RgbImage { width, height, pixels }
}

/// Resamples images one after the other with the same buffers.
#[derive(Debug, Default)]
pub struct Resizer {
    columns: Kernel<i32>,
    rows: Kernel<i32>,
    buffers: Columns,
    between: Vec<u8>,
    fast: FastPasses<3>,
    luma: FastPasses<1>,
    chroma: FastPasses<1>,
}

impl Resizer {
    /// Resamples `source` to the size of the two axes and writes their spans' part, mirrored if asked.
    pub fn run(
        &mut self,
        source: Crop,
        columns: Axis,
        rows: Axis,
        filter: Filter,
        flip: bool,
        mut target: Planes,
    ) {
        self.columns.prepare(source.across, columns, filter);
        self.rows.prepare(source.down, rows, filter);
        if columns.span.len == 0 || rows.span.len == 0 {
            return;
        }
        if self.rows.is_identity() {
            let (first, end) = self.rows.reach();
            let (x, _) = self.columns.reach();
            let lines = |y: usize| source.from(x, first + y);
            across(&self.columns, lines, end - first, flip, &mut self.buffers, &mut target);
        } else if vertical_first(&source, columns.size, rows.size) {
            self.vertical_then_horizontal(source, flip, &mut target);
        } else {
            self.horizontal_then_vertical(source, flip, &mut target);
        }
    }

    /// Resamples like [`run`](Self::run), but faster and less exactly, where this can be done well.
    pub fn run_fast(
        &mut self,
        source: Crop,
        columns: Axis,
        rows: Axis,
        filter: Filter,
        flip: bool,
        mut target: Planes,
    ) {
        if self.fast.prepare(source, columns, rows, filter) {
            self.fast.run(source, flip, &mut target);
        } else {
            self.run(source, columns, rows, filter, flip, target);
        }
    }

    /// Resamples a rectangle of an image of which the components are given, like [`run_fast`](Self::run_fast), and
    /// converts the result to RGB. False if this cannot be done well.
    pub fn run_components(
        &mut self,
        (components, rect): (&[Component], Rect),
        (columns, rows): (Axis, Axis),
        filter: Filter,
        flip: bool,
        mut target: Planes,
    ) -> bool {
        for (number, component) in components.iter().enumerate() {
            let passes = if number == 0 { &mut self.luma } else { &mut self.chroma };
            let Some(source) = Crop::of_component(component, rect) else { return false };
            if !passes.prepare(source, columns, rows, filter) {
                return false;
            }
            passes.run(source, flip, &mut target.starting_with(number));
        }
        match components.len() {
            1 => colour::repeat_grey(&mut target),
            _ => colour::to_rgb(&mut target),
        }
        true
    }

    fn horizontal_then_vertical(&mut self, source: Crop, flip: bool, target: &mut Planes) {
        let (first, end) = self.rows.reach();
        let (x, _) = self.columns.reach();
        let (width, stride) = (target.width, target.width * 3);
        self.between.resize((end - first) * stride, 0);
        let lines = |y: usize| source.from(x, first + y);
        let mut between = Planes { bytes: &mut self.between, width, stride, plane: width };
        across(&self.columns, lines, end - first, flip, &mut self.buffers, &mut between);
        for y in 0..self.rows.len() {
            let (start, weights) = self.rows.weights(y);
            for channel in 0..3 {
                let lines = &self.between[(start - first) * stride + channel * width..];
                passes::weigh_lines(lines, stride, weights, target.row(channel, y));
            }
        }
    }

    fn vertical_then_horizontal(&mut self, source: Crop, flip: bool, target: &mut Planes) {
        let (x, end) = self.columns.reach();
        let stride = (end - x) * 3;
        self.between.resize(self.rows.len() * stride, 0);
        for (y, line) in self.between.chunks_exact_mut(stride).enumerate() {
            let (start, weights) = self.rows.weights(y);
            passes::weigh_lines(source.from(x, start), source.stride, weights, line);
        }
        let lines = |y: usize| &self.between[y * stride..];
        across(&self.columns, lines, self.rows.len(), flip, &mut self.buffers, target);
    }
}

/// Resamples `count` lines along the rows, a block after the other. The last line is repeated to fill the last block.
fn across<'a>(
    kernel: &Kernel<i32>,
    line: impl Fn(usize) -> &'a [u8],
    count: usize,
    flip: bool,
    buffers: &mut Columns,
    target: &mut Planes,
) {
    for y in (0..count).step_by(ROWS) {
        let rows: [&[u8]; ROWS] = std::array::from_fn(|row| line((y + row).min(count - 1)));
        passes::across(&rows, kernel, flip, buffers, target, (y, ROWS.min(count - y)));
    }
}

/// Pillow's choice of the pass that comes first (since 13.0; the results differ by a level at most): columns,
/// if the height shrinks by more than twice as many pixels as the width. Rows, with all versions, otherwise.
fn vertical_first(source: &Crop, width: u32, height: u32) -> bool {
    let shrinks = |from: Extent, to: u32| from.len - f64::from(to);
    let (columns, rows) = (shrinks(source.across, width), shrinks(source.down, height));
    rows > 0.0 && rows > 2.0 * columns
}

#[cfg(test)]
mod tests;

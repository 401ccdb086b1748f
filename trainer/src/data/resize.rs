//! Resampling of 8-bit RGB, bitwise equal to Pillow's `Image.resize`, for its bilinear and bicubic filters.
//!
//! The rule: the filter is stretched by the factor of reduction (so it is antialiased; an enlargement uses
//! it unchanged), its weights at the source pixels are normalised to sum 1 in double precision and rounded to
//! 22 binary places. Mostly the pixels of each row are resampled first, their results rounded to 8 bits, then
//! those of each column. A pass that would not change the size is left out.
//!
//! Only a window of the result is computed: pixels outside a crop are never computed, and a very long
//! and narrow image costs no more than its crop.

use super::decode::RgbImage;

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

/// Part of an image: the pixels of its rows, `stride` bytes apart.
#[derive(Clone, Copy, Debug)]
pub struct Crop<'a> {
    pixels: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a> Crop<'a> {
    /// The rectangle at `left`, `top`. None if it does not lie within the image or is empty.
    pub fn of(image: &'a RgbImage, left: u32, top: u32, width: u32, height: u32) -> Option<Self> {
        let within = |start: u32, len: u32, whole: u32| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= whole)
        };
        if !within(left, width, image.width) || !within(top, height, image.height) {
            return None;
        }
        let stride = image.width as usize * 3;
        let pixels = image.pixels.get(top as usize * stride + left as usize * 3..)?;
        Some(Self { pixels, stride, width: width as usize, height: height as usize })
    }

    /// The rows, from the top.
    pub fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.height).map(move |y| self.row(y))
    }

    fn row(&self, y: usize) -> &'a [u8] {
        &self.pixels[y * self.stride..][..self.width * 3]
    }
}

/// A range of rows or columns of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// Resamples a whole image to `width` x `height`. A size of zero is taken as one.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    let mut pixels = Vec::new();
    if let Some(whole) = Crop::of(image, 0, 0, image.width, image.height) {
        let columns = Axis { size: width, span: Span { start: 0, len: width } };
        let rows = Axis { size: height, span: Span { start: 0, len: height } };
        Resizer::default().run(whole, columns, rows, filter, &mut pixels);
    }
    RgbImage { width, height, pixels }
}

/// The size of the whole result along one direction, and the part of it that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Size of the whole result.
    pub size: u32,
    /// The wanted part.
    pub span: Span,
}

/// Resamples images one after the other with the same buffers.
#[derive(Debug, Default)]
pub struct Resizer {
    columns: Kernel,
    rows: Kernel,
    between: Vec<u8>,
    sums: Vec<i32>,
}

impl Resizer {
    /// Resamples `source` to the size of the two axes and writes their spans' part to `out`, row by row.
    pub fn run(&mut self, source: Crop, columns: Axis, rows: Axis, filter: Filter, out: &mut Vec<u8>) {
        self.columns.prepare(source.width, columns, filter);
        self.rows.prepare(source.height, rows, filter);
        out.clear();
        out.resize(columns.span.len as usize * rows.span.len as usize * 3, 0);
        if vertical_first(&source, columns.size, rows.size) {
            self.vertical_then_horizontal(source, columns.span.len as usize * 3, out);
        } else {
            self.horizontal_then_vertical(source, columns.span.len as usize * 3, out);
        }
    }

    fn horizontal_then_vertical(&mut self, source: Crop, width: usize, out: &mut [u8]) {
        let (first, end) = self.rows.reach();
        if self.rows.is_identity() {
            for (y, target) in (first..end).zip(out.chunks_exact_mut(width)) {
                self.columns.across(source.row(y), 0, target);
            }
            return;
        }
        self.between.clear();
        self.between.resize((end - first) * width, 0);
        for (y, target) in (first..end).zip(self.between.chunks_exact_mut(width)) {
            self.columns.across(source.row(y), 0, target);
        }
        self.sums.resize(width, 0);
        for (y, target) in out.chunks_exact_mut(width).enumerate() {
            let (start, weights) = self.rows.weights(y);
            let lines = self.between[(start - first) * width..].chunks_exact(width);
            weigh_rows(lines, weights, &mut self.sums, target);
        }
    }

    fn vertical_then_horizontal(&mut self, source: Crop, width: usize, out: &mut [u8]) {
        let (first, end) = self.columns.reach();
        self.between.resize((end - first) * 3, 0);
        self.sums.resize((end - first) * 3, 0);
        for (y, target) in out.chunks_exact_mut(width).enumerate() {
            let (start, weights) = self.rows.weights(y);
            let lines = (start..start + weights.len()).map(|y| &source.row(y)[first * 3..end * 3]);
            weigh_rows(lines, weights, &mut self.sums, &mut self.between);
            self.columns.across(&self.between, first, target);
        }
    }
}

/// Pillow's choice of the pass that comes first (since 13.0; the results differ by a level at most): columns,
/// if the height shrinks by more than twice as many pixels as the width. Rows, with all versions, otherwise.
fn vertical_first(source: &Crop, width: u32, height: u32) -> bool {
    let shrinks = |from: usize, to: u32| from as i64 - i64::from(to);
    let (columns, rows) = (shrinks(source.width, width), shrinks(source.height, height));
    rows > 0 && rows > 2 * columns
}

/// The weights of every wanted place along one direction.
#[derive(Debug, Default)]
struct Kernel {
    /// The axis and filter of the weights.
    made_for: Option<(usize, Axis, Filter)>,
    /// First source pixel and number of weights of each place. Empty: the places are the source's own.
    places: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// Scratch space for the weights of one position.
    taps: usize,
    exact: Vec<f64>,
}

impl Kernel {
    /// Computes the weights, unless those of the previous image can be reused.
    fn prepare(&mut self, source: usize, axis: Axis, filter: Filter) {
        if self.made_for == Some((source, axis, filter)) {
            return;
        }
        self.made_for = Some((source, axis, filter));
        self.places.clear();
        self.weights.clear();
        if source == axis.size as usize {
            return;
        }
        let scale = source as f64 / f64::from(axis.size);
        let stretch = scale.max(1.0);
        let support = filter.radius() * stretch;
        self.taps = support.ceil() as usize * 2 + 1;
        self.weights.resize(self.taps * axis.span.len as usize, 0);
        let inverse = 1.0 / stretch;
        let places = axis.span.start..axis.span.start.saturating_add(axis.span.len);
        for (place, weights) in places.zip(self.weights.chunks_exact_mut(self.taps)) {
            let centre = (f64::from(place) + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let distance = |x: usize| (x as f64 - centre + 0.5) * inverse;
            self.exact.clear();
            self.exact.extend((start..end).map(|x| filter.at(distance(x))));
            let sum: f64 = self.exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&self.exact) {
                *weight = fixed_point(if sum == 0.0 { *exact } else { exact / sum });
            }
            self.places.push((start, end.saturating_sub(start)));
        }
    }

    fn is_identity(&self) -> bool {
        self.places.is_empty()
    }

    fn weights(&self, place: usize) -> (usize, &[i32]) {
        let (start, count) = self.places[place];
        (start, &self.weights[place * self.taps..][..count])
    }

    /// The source pixels that the wanted places draw on.
    fn reach(&self) -> (usize, usize) {
        match (self.places.first(), self.places.last(), self.made_for) {
            (Some(first), Some(last), _) => (first.0, last.0 + last.1),
            (_, _, Some((_, axis, _))) => {
                let start = axis.span.start as usize;
                (start, start + axis.span.len as usize)
            }
            _ => (0, 0),
        }
    }

    /// Resamples one row, of which `row` begins at pixel `first`.
    fn across(&self, row: &[u8], first: usize, target: &mut [u8]) {
        if self.is_identity() {
            let start = (self.reach().0 - first) * 3;
            target.copy_from_slice(&row[start..start + target.len()]);
            return;
        }
        for (place, target) in target.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (start, weights) = self.weights(place);
            let pixels = row[(start - first) * 3..].as_chunks::<3>().0;
            let mut sums = [HALF; 3];
            for (pixel, weight) in pixels.iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            *target = sums.map(rounded);
        }
    }
}

/// One half in the weights' places.
const HALF: i32 = 1 << (PRECISION - 1);

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// A weighted sum of rows.
fn weigh_rows<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    weights: &[i32],
    sums: &mut [i32],
    target: &mut [u8],
) {
    sums.fill(HALF);
    for (line, &weight) in lines.zip(weights) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum += i32::from(*value) * weight;
        }
    }
    for (value, sum) in target.iter_mut().zip(sums) {
        *value = rounded(*sum);
    }
}

#[cfg(test)]
mod tests;

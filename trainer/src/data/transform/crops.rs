//! Several crops of one image, for tests that average over them.
//!
//! Corners and centre are those of torchvision's `FiveCrop` and `TenCrop` after `Resize`, in its order: top left, top
//! right, bottom left, bottom right, centre; then the same five of the mirrored image. The image is resized once.
//! Random crops are views of training, each keyed by (seed, number of the image, number of the crop).

use super::super::decode::{DecodeError, Picture, Precision, Rect};
use super::super::resize::{Axis, Crop, Filter, Planes, Span};
use super::{CropBox, CropDraws, DecodeMode, ResizeBuffers, TestView, TrainView, central, resized_size};

/// Key prefix of the draws of random crops, which differs from that of training.
const RANDOM: &[u8] = b"lift random crops";

/// Four corners and the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CornerCrops {
    /// Side of a crop, and what the shorter side is resized to: at least as much.
    pub view: TestView,
    /// Also those of the mirrored image.
    pub mirrored: bool,
}

impl CornerCrops {
    /// LIFT's view: the shorter side becomes `expand` pixels longer than the square.
    pub fn lift(size: u32, expand: u32, filter: Filter, mirrored: bool) -> Self {
        Self { view: TestView { size, resize: size.saturating_add(expand), filter }, mirrored }
    }

    /// Number of crops.
    pub fn count(&self) -> usize {
        if self.mirrored { 10 } else { 5 }
    }

    pub(super) fn write(
        &self,
        picture: &mut Picture,
        buffers: &mut ResizeBuffers,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let TestView { size, resize, filter } = self.view;
        let whole = Rect::whole(picture.size());
        let (resized_width, height) = resized_size(whole.width, whole.height, resize.max(size));
        let Some(source) = Crop::of(picture.part(whole, Precision::Exact)?, whole) else { return Ok(()) };
        let crops = self.of_resized(resized_width, height);
        let bytes = 3 * size as usize * size as usize;
        for rows in windows(height, size) {
            for columns in windows(resized_width, size) {
                let within =
                    |crop: &CropBox| covers(rows, crop.top, size) && covers(columns, crop.left, size);
                if !crops.iter().any(within) {
                    continue;
                }
                let ResizeBuffers { resizer, resized } = &mut *buffers;
                let (width, plane) = (columns.len as usize, columns.len as usize * rows.len as usize);
                resized.resize(3 * plane, 0);
                let target = Planes { bytes: resized, width, stride: width, plane };
                let axis = |size, span| Axis { size, span };
                resizer.run(source, axis(resized_width, columns), axis(height, rows), filter, false, target);
                for (crop, out) in
                    crops.iter().zip(out.chunks_exact_mut(bytes)).filter(|(crop, _)| within(crop))
                {
                    let at = (crop.top - rows.start) as usize * width + (crop.left - columns.start) as usize;
                    let lines = |channel: usize| resized[channel * plane + at..].chunks(width);
                    cut(lines, size as usize, crop.flip, out);
                }
            }
        }
        Ok(())
    }

    /// Where they lie in the resized image, which is nowhere smaller than a crop.
    fn of_resized(&self, width: u32, height: u32) -> Vec<CropBox> {
        let size = self.view.size;
        let (right, bottom) = (width - size, height - size);
        let centre = (central(height, size).0.span.start, central(width, size).0.span.start);
        let five = [(0, 0), (0, right), (bottom, 0), (bottom, right), centre];
        let crop = |top, left, flip| CropBox { top, left, height: size, width: size, flip };
        let straight = five.map(|(top, left)| crop(top, left, false));
        // A crop of the mirrored image is a mirrored crop of the image, as far from the other side.
        let mirrored = five.map(|(top, left)| crop(top, right - left, true));
        if self.mirrored { [straight, mirrored].concat() } else { straight.to_vec() }
    }
}

/// Copies the start of the lines of each channel, mirrored if asked.
fn cut<'a, L: Iterator<Item = &'a [u8]>>(
    lines: impl Fn(usize) -> L,
    size: usize,
    flip: bool,
    out: &mut [u8],
) {
    for (channel, plane) in out.chunks_exact_mut(size * size).enumerate() {
        for (target, line) in plane.chunks_exact_mut(size).zip(lines(channel)) {
            target.copy_from_slice(&line[..size]);
            if flip {
                target.reverse();
            }
        }
    }
}

/// The parts of a side that crops need: all of it, or of a long one its ends and its centre, so that a very long
/// image costs no more than its crops.
fn windows(length: u32, size: u32) -> Vec<Span> {
    let free = length - size;
    if length <= size.saturating_mul(3) {
        return vec![Span { start: 0, len: length }];
    }
    // The centre of the mirrored image may lie a pixel beside that of the image.
    let centre = Span { start: free / 2, len: size + free % 2 };
    vec![Span { start: 0, len: size }, centre, Span { start: free, len: size }]
}

fn covers(span: Span, start: u32, len: u32) -> bool {
    span.start <= start && start + len <= span.start + span.len
}

/// Views of training of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomCrops {
    /// The view, with the seed of the draws.
    pub view: TrainView,
    /// How many.
    pub count: u32,
}

impl RandomCrops {
    /// The box of a crop of an image that is `width` x `height`.
    pub fn draw(seed: u64, sample: u64, crop: u64, width: u32, height: u32) -> CropBox {
        CropBox::draw(&mut CropDraws::keyed(RANDOM, [seed, sample, crop]), width, height)
    }

    pub(super) fn write(
        &self,
        picture: &mut Picture,
        sample: u64,
        buffers: &mut ResizeBuffers,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let view = TrainView { decode: DecodeMode::Exact, ..self.view };
        let whole = Rect::whole(picture.size());
        let part = picture.part(whole, Precision::Exact)?;
        for (crop, out) in (0..).zip(out.chunks_exact_mut(3 * view.size as usize * view.size as usize)) {
            let drawn = Self::draw(view.seed, sample, crop, whole.width, whole.height);
            view.resize(part, drawn, buffers, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Converts an image to the square input of the model: the views of LIFT's training and test, with
//! torchvision's arithmetic (`RandomResizedCrop`, `RandomHorizontalFlip`, `Resize`, `CenterCrop`, `FiveCrop`,
//! `TenCrop` on Pillow images).
//!
//! A view writes bytes, channel by channel, into the caller's buffer; scaling to floats and normalising
//! happen on the device. The random draws of the train view are keyed: box and flip are a pure function of
//! (seed, epoch, position), so any rank and thread, and a resumed run, draw the same.

mod crops;

use super::decode::{DecodeBuffers, DecodeError, Part, Picture, Precision, Rect, RgbImage};
use super::resize::{self, Axis, Crop, Planes, Resizer, Span};
use super::source::Stored;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

pub use super::resize::Filter;
pub use crops::{CornerCrops, RandomCrops};

/// Minimum and maximum share of the image's area that a training crop covers.
pub const CROP_SCALE: (f64, f64) = (0.08, 1.0);

/// Minimum and maximum ratio of width to height of a training crop.
pub const CROP_RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Key prefix of the random draws of training.
const TRAINING: &[u8] = b"lift train view";

/// Boxes drawn before the fallback to a central one.
const TRIES: usize = 10;

/// Chance that a training image is mirrored.
pub const FLIP_CHANCE: f64 = 0.5;

/// The view of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ImageView {
    /// A random crop, mirrored with probability 0.5.
    Train(TrainView),
    /// The centre.
    Test(TestView),
    /// Corners and centre.
    Corners(CornerCrops),
    /// Several random parts.
    Random(RandomCrops),
}

/// Buffers of one worker thread.
#[derive(Debug, Default)]
pub struct Scratch {
    decode: DecodeBuffers,
    resize: ResizeBuffers,
    work: Work,
}

impl Scratch {
    /// Counts the time of a read.
    pub fn add_read(&mut self, time: Duration) {
        self.work.read += time;
    }

    /// The time that was counted since the last call.
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }
}

/// Time that one thread spends on images, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Reading their bytes.
    pub read: Duration,
    /// Decoding them.
    pub decode: Duration,
    /// Cropping and resizing them, and writing them to the batch.
    pub transform: Duration,
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            read: sum.read + one.read,
            decode: sum.decode + one.decode,
            transform: sum.transform + one.transform,
        })
    }
}

/// Buffers for resizing.
#[derive(Debug, Default)]
struct ResizeBuffers {
    resizer: Resizer,
    resized: Vec<u8>,
}

impl ImageView {
    /// Side of the square.
    pub fn size(&self) -> u32 {
        match self {
            Self::Train(view) => view.size,
            Self::Test(view) => view.size,
            Self::Corners(crops) => crops.view.size,
            Self::Random(crops) => crops.view.size,
        }
    }

    /// Number of crops per image.
    pub fn crops(&self) -> usize {
        match self {
            Self::Train(_) | Self::Test(_) => 1,
            Self::Corners(crops) => crops.count(),
            Self::Random(crops) => crops.count as usize,
        }
    }

    /// Bytes of the crops of one image, of three channels each.
    pub fn bytes(&self) -> usize {
        self.crops() * 3 * self.size() as usize * self.size() as usize
    }

    /// Writes what the model is to see of an image to `out`, which has [`bytes`](Self::bytes) bytes: one crop after the
    /// other, channel by channel. Outside of training the position is the image's number in its list. Decodes no more of
    /// the image than the view shows.
    pub fn write(
        &self,
        stored: Stored,
        (epoch, position): (u64, u64),
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let start = Instant::now();
        let Scratch { decode, resize, work } = scratch;
        let mut picture = match stored {
            Stored::Encoded(bytes) => Picture::open(bytes, decode)?,
            Stored::Pixels { width, height, pixels } => Picture::of_pixels(width, height, pixels),
        };
        let written = self.of_picture(&mut picture, (epoch, position), resize, out);
        work.decode += picture.spent();
        work.transform += start.elapsed().saturating_sub(picture.spent());
        written
    }

    fn of_picture(
        &self,
        picture: &mut Picture,
        (epoch, position): (u64, u64),
        buffers: &mut ResizeBuffers,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        if self.size() == 0 {
            return Ok(());
        }
        match self {
            Self::Train(view) => view.write(picture, epoch, position, buffers, out),
            Self::Test(view) => view.write(picture, buffers, out),
            Self::Corners(crops) => crops.write(picture, buffers, out),
            Self::Random(crops) => crops.write(picture, position, buffers, out),
        }
    }
}

impl<'a> From<&'a RgbImage> for Stored<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Stored::Pixels { width: image.width, height: image.height, pixels: &image.pixels }
    }
}

/// The view of training: a random box, resized to a square, mirrored half of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainView {
    /// Side of the square.
    pub size: u32,
    /// The filter to resize with.
    pub filter: Filter,
    /// Seed of the run.
    pub seed: u64,
    /// How images are decoded for it.
    pub decode: DecodeMode,
}

/// How images are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeMode {
    /// To the pixels of Pillow.
    #[default]
    Exact,
    /// Nearly to those of Pillow: resized with numbers of 16 bits. Luma and chroma of a JPEG image are resized as they are
    /// stored, and an image of which a crop has at least twice the size of the result is first reduced by 2, 4 or 8, within
    /// the transform of JPEG.
    Fast,
}

impl DecodeMode {
    /// How a part of an image is decoded that is then resized to `size`.
    fn precision(self, part: Rect, size: u32) -> Precision {
        let fits = |factor: &u32| part.width.min(part.height) / factor >= size;
        match self {
            Self::Exact => Precision::Exact,
            Self::Fast => Precision::Fast { reduction: [8, 4, 2].into_iter().find(fits).unwrap_or(1) },
        }
    }
}

/// Part of an image, in its pixels, and whether it is mirrored afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Number of rows.
    pub height: u32,
    /// Number of columns.
    pub width: u32,
    /// Whether left and right are swapped.
    pub flip: bool,
}

impl CropBox {
    fn rect(&self) -> Rect {
        Rect { left: self.left, top: self.top, width: self.width, height: self.height }
    }

    fn draw(draws: &mut CropDraws, width: u32, height: u32) -> Self {
        let (top, left, height, width) =
            random_box(draws, width, height).unwrap_or_else(|| central_box(width, height));
        Self { top, left, height, width, flip: draws.uniform(0.0, 1.0) < FLIP_CHANCE }
    }
}

impl TrainView {
    /// The box of the image at a position of an epoch; torchvision's `RandomResizedCrop.get_params`, then
    /// the flip. `width` and `height` are the image's.
    pub fn draw(seed: u64, epoch: u64, position: u64, width: u32, height: u32) -> CropBox {
        CropBox::draw(&mut CropDraws::keyed(TRAINING, [seed, epoch, position]), width, height)
    }

    fn write(
        &self,
        picture: &mut Picture,
        epoch: u64,
        position: u64,
        buffers: &mut ResizeBuffers,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let (width, height) = picture.size();
        let drawn = Self::draw(self.seed, epoch, position, width, height);
        let wanted = drawn.rect();
        let precision = self.decode.precision(wanted, self.size);
        if self.decode == DecodeMode::Fast
            && let Some(components) = picture.components(wanted, precision.reduction())
        {
            let (axis, target) = (Axis::whole(self.size), square(out, self.size));
            let source = (components, wanted);
            if buffers.resizer.run_components(source, (axis, axis), self.filter, drawn.flip, target) {
                return Ok(());
            }
        }
        self.resize(picture.part(wanted, precision)?, drawn, buffers, out);
        Ok(())
    }

    /// Cuts a box out of an image, resizes it to a square and mirrors it if asked; `out` gets the channels one
    /// after the other.
    fn resize(&self, part: Part, drawn: CropBox, buffers: &mut ResizeBuffers, out: &mut [u8]) {
        let Some(source) = Crop::of(part, drawn.rect()) else { return };
        let axis = Axis::whole(self.size);
        let target = square(out, self.size);
        match self.decode {
            DecodeMode::Exact => buffers.resizer.run(source, axis, axis, self.filter, drawn.flip, target),
            DecodeMode::Fast => buffers.resizer.run_fast(source, axis, axis, self.filter, drawn.flip, target),
        }
    }
}

/// The planes of a square.
fn square(bytes: &mut [u8], size: u32) -> Planes<'_> {
    let size = size as usize;
    Planes { bytes, width: size, stride: size, plane: size * size }
}

fn random_box(draws: &mut CropDraws, width: u32, height: u32) -> Option<(u32, u32, u32, u32)> {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let area = area * draws.uniform(CROP_SCALE.0, CROP_SCALE.1);
        let ratio = draws.uniform(CROP_RATIO.0.ln(), CROP_RATIO.1.ln()).exp();
        // Python's round: half to even.
        let across = (area * ratio).sqrt().round_ties_even() as u32;
        let down = (area / ratio).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&across) && (1..=height).contains(&down) {
            let top = draws.below(height - down + 1);
            let left = draws.below(width - across + 1);
            return Some((top, left, down, across));
        }
    }
    None
}

/// The largest central box of an allowed ratio.
fn central_box(width: u32, height: u32) -> (u32, u32, u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    let (across, down) = if ratio < CROP_RATIO.0 {
        (width, (f64::from(width) / CROP_RATIO.0).round_ties_even() as u32)
    } else if ratio > CROP_RATIO.1 {
        ((f64::from(height) * CROP_RATIO.1).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (across, down) = (across.clamp(1, width.max(1)), down.clamp(1, height.max(1)));
    ((height - down) / 2, (width - across) / 2, down, across)
}

/// Random numbers of one key.
struct CropDraws(ChaCha8Rng);

impl CropDraws {
    fn keyed(purpose: &[u8], numbers: [u64; 3]) -> Self {
        let mut key = Sha256::new_with_prefix(purpose);
        for number in numbers {
            key.update(number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key.finalize().into()))
    }

    /// Uniform from `low` to `high`, with 53 random bits.
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// Uniform from 0 to `end` - 1; the bias is below 2^-32.
    fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u32
    }
}

/// The view of tests: resize by the shorter side, cut out the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestView {
    /// Side of the square.
    pub size: u32,
    /// Size of the shorter side after the resize.
    pub resize: u32,
    /// The filter to resize with.
    pub filter: Filter,
}

impl TestView {
    /// LIFT's view of tests: the shorter side becomes 8/7 of the square.
    pub fn lift(size: u32, filter: Filter) -> Self {
        Self { size, resize: size.saturating_mul(8) / 7, filter }
    }

    /// LIFT's plain view, used for head initialisation: the shorter side becomes that of the square.
    pub fn plain(size: u32, filter: Filter) -> Self {
        Self { size, resize: size, filter }
    }

    fn write(
        &self,
        picture: &mut Picture,
        buffers: &mut ResizeBuffers,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let size = picture.size();
        let (width, height) = resized_size(size.0, size.1, self.resize);
        let (columns, pad_left) = central(width, self.size);
        let (rows, pad_top) = central(height, self.size);
        let (left, right) = resize::reach(size.0, columns, self.filter);
        let (top, bottom) = resize::reach(size.1, rows, self.filter);
        let wanted = Rect { left, top, width: right - left, height: bottom - top };
        let Some(source) = Crop::of(picture.part(wanted, Precision::Exact)?, Rect::whole(size)) else {
            return Ok(());
        };
        let mut target = square(out, self.size);
        if (columns.span.len, rows.span.len) != (self.size, self.size) {
            target.bytes.fill(0);
            target.bytes = &mut target.bytes[pad_top as usize * target.stride + pad_left as usize..];
            target.width = columns.span.len as usize;
        }
        buffers.resizer.run(source, columns, rows, self.filter, false, target);
        Ok(())
    }
}

/// Size after the shorter side has become `short`; the longer one is rounded down.
pub fn resized_size(width: u32, height: u32, short: u32) -> (u32, u32) {
    let longer = |long: u32, side: u32| {
        (u64::from(short) * u64::from(long) / u64::from(side.max(1))).min(u32::MAX.into()) as u32
    };
    if width <= height { (short, longer(height, width)) } else { (longer(width, height), short) }
}

/// The central `wanted` of `size` pixels, or all of them and the zeros before them where there are fewer.
fn central(size: u32, wanted: u32) -> (Axis, u32) {
    if size < wanted {
        return (Axis { size, span: Span { start: 0, len: size } }, (wanted - size) / 2);
    }
    let start = (f64::from(size - wanted) / 2.0).round_ties_even() as u32;
    (Axis { size, span: Span { start, len: wanted } }, 0)
}

#[cfg(test)]
mod tests;

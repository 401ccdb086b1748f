//! Converts an image to the square input of the model: the views of LIFT's training and test, with
//! torchvision's arithmetic (`RandomResizedCrop`, `RandomHorizontalFlip`, `Resize`, `CenterCrop`, `FiveCrop`,
//! `TenCrop` on Pillow images).
//!
//! A view writes bytes, channel by channel, into the caller's buffer; scaling to floats and normalising
//! happen on the device. The random draws of the train view are keyed: box and flip are a pure function of
//! (seed, epoch, position), so any rank and thread, and a resumed run, draw the same.

mod crops;

use super::decode::RgbImage;
use super::resize::{Axis, Crop, Resizer, Span};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

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
#[derive(Debug)]
pub struct Scratch {
    resizer: Resizer,
    resized: RgbImage,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { resizer: Resizer::default(), resized: RgbImage { width: 0, height: 0, pixels: Vec::new() } }
    }
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

    /// Writes what the model is to see of `image` to `out`, which has [`bytes`](Self::bytes) bytes: one crop after
    /// the other, channel by channel. Outside of training the position is the image's number in its list.
    pub fn apply(&self, image: &RgbImage, epoch: u64, position: u64, scratch: &mut Scratch, out: &mut [u8]) {
        if self.size() == 0 {
            return;
        }
        match self {
            Self::Train(view) => view.apply(image, epoch, position, scratch, out),
            Self::Test(view) => view.apply(image, scratch, out),
            Self::Corners(crops) => crops.apply(image, scratch, out),
            Self::Random(crops) => crops.apply(image, position, scratch, out),
        }
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

    fn apply(&self, image: &RgbImage, epoch: u64, position: u64, scratch: &mut Scratch, out: &mut [u8]) {
        let drawn = Self::draw(self.seed, epoch, position, image.width, image.height);
        resized_crop(image, drawn, self.size, self.filter, scratch, out);
    }
}

/// Cuts a box out of an image, resizes it to a square and mirrors it if asked; `out` gets the channels one
/// after the other. A box that does not lie within the image is taken as the whole image.
pub fn resized_crop(
    image: &RgbImage,
    part: CropBox,
    size: u32,
    filter: Filter,
    scratch: &mut Scratch,
    out: &mut [u8],
) {
    let Some(source) = Crop::of(image, part.left, part.top, part.width, part.height)
        .or_else(|| Crop::of(image, 0, 0, image.width, image.height))
    else {
        return;
    };
    let axis = Axis { size, span: Span { start: 0, len: size } };
    scratch.resizer.run(source, axis, axis, filter, &mut scratch.resized.pixels);
    to_planes(scratch.resized.pixels.chunks_exact(size as usize * 3), size as usize, part.flip, out);
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

    fn apply(&self, image: &RgbImage, scratch: &mut Scratch, out: &mut [u8]) {
        let Some(source) = Crop::of(image, 0, 0, image.width, image.height) else { return };
        let (width, height) = resized_size(image.width, image.height, self.resize);
        let (columns, pad_left) = central(width, self.size);
        let (rows, pad_top) = central(height, self.size);
        let pixels = &mut scratch.resized.pixels;
        scratch.resizer.run(source, columns, rows, self.filter, pixels);
        let (size, width) = (self.size as usize, columns.span.len as usize);
        if (columns.span.len, rows.span.len) == (self.size, self.size) {
            to_planes(pixels.chunks_exact(width * 3), size, false, out);
            return;
        }
        out.fill(0);
        for (y, row) in pixels.chunks_exact(width * 3).enumerate() {
            for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
                let place = (y + pad_top as usize) * size + x + pad_left as usize;
                for (channel, value) in pixel.iter().enumerate() {
                    out[channel * size * size + place] = *value;
                }
            }
        }
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

/// Rows of pixels to one plane per channel, mirrored if asked.
fn to_planes<'a>(rows: impl Iterator<Item = &'a [u8]>, size: usize, flip: bool, out: &mut [u8]) {
    let (red, rest) = out.split_at_mut(size * size);
    let (green, blue) = rest.split_at_mut(size * size);
    let planes =
        red.chunks_exact_mut(size).zip(green.chunks_exact_mut(size)).zip(blue.chunks_exact_mut(size));
    for (row, ((red, green), blue)) in rows.zip(planes) {
        let channels = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
        for (pixel, ((red, green), blue)) in row.as_chunks::<3>().0.iter().zip(channels) {
            [*red, *green, *blue] = *pixel;
        }
        if flip {
            red.reverse();
            green.reverse();
            blue.reverse();
        }
    }
}

#[cfg(test)]
mod tests;

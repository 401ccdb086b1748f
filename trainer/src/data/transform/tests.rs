//! Views against the golden cases of the official code, and the draws against their law.

mod encoded;

use super::*;
use crate::data::fixtures::noise;
use crate::data::{RgbImage, decode, fixtures};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The view of an image at position 0 of epoch 0.
pub(super) fn write(view: ImageView, image: &RgbImage, out: &mut [u8]) {
    view.write(image.into(), (0, 0), &mut Scratch::default(), out).expect("pixels");
}

/// One golden case: a file, and what the official transforms make of it.
struct Case {
    image: RgbImage,
    filter: Filter,
    resolution: u32,
    test_resize: u32,
    expand: u32,
    tensors: Vec<u8>,
    mean: [f64; 3],
    std: [f64; 3],
}

impl Case {
    fn open(folder: &Path) -> Self {
        let manifest = fixtures::json(&folder.join("manifest.json"));
        let config = &manifest["config"];
        let number = |key: &str| config[key].as_u64().expect("a number") as u32;
        let file = std::fs::read(folder.join(config["file"].as_str().expect("a file"))).expect("the image");
        let filter = match config["interpolation"].as_str() {
            Some("bilinear") => Filter::Bilinear,
            Some("bicubic") => Filter::Bicubic,
            other => panic!("unknown interpolation {other:?}"),
        };
        let triple = |key: &str| {
            let values = manifest["normalise"][key].as_array().expect("three numbers");
            [0, 1, 2].map(|i| values[i].as_f64().expect("a number"))
        };
        Self {
            image: decode(&file).expect("a picture"),
            filter,
            resolution: number("resolution"),
            test_resize: number("test_resize"),
            expand: number("expand"),
            tensors: std::fs::read(folder.join("tensors.safetensors")).expect("tensors"),
            mean: triple("mean"),
            std: triple("std"),
        }
    }

    fn view(&self, view: TestView) -> Vec<u8> {
        let view = ImageView::Test(view);
        let mut out = vec![1; view.bytes()];
        write(view, &self.image, &mut out);
        out
    }

    fn five_crops(&self, size: usize) -> Vec<u8> {
        let view = ImageView::Corners(CornerCrops::lift(self.resolution, self.expand, self.filter, false));
        let mut out = vec![1; view.bytes()];
        write(view, &self.image, &mut out);
        out.chunks_exact(3 * size * size).flat_map(|crop| to_rows(crop, size)).collect()
    }

    fn resized(&self, short: u32) -> RgbImage {
        let (width, height) = resized_size(self.image.width, self.image.height, short);
        crate::data::resize::resize(&self.image, width, height, self.filter)
    }

    /// Compares every output of the case; returns what was compared.
    fn compare(&self, name: &str) -> Vec<&'static str> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let mut compared = Vec::new();
        let mut check = |output: &'static str, ours: &[u8]| {
            if let Ok(tensor) = tensors.tensor(output) {
                assert_eq!(tensor.dtype(), Dtype::U8);
                assert_eq!(tensor.data().len(), ours.len(), "{name}: length of {output}");
                let wrong = tensor.data().iter().zip(ours).filter(|(a, b)| a != b).count();
                assert_eq!(wrong, 0, "{name}: {wrong} of {} bytes of {output} differ", ours.len());
                compared.push(output);
            }
        };
        let size = self.resolution as usize;
        check("decoded", &self.image.pixels);
        check("resize", &self.resized(self.resolution).pixels);
        let plain = self.view(TestView::plain(self.resolution, self.filter));
        check("plain", &to_rows(&plain, size));
        let test = TestView { size: self.resolution, resize: self.test_resize, filter: self.filter };
        check("test", &to_rows(&self.view(test), size));
        check("fivecrop", &self.five_crops(size));
        if let Ok(boxes) = tensors.tensor("boxes") {
            check("resized_crop", &self.crops(boxes.data()));
        }
        if let Ok(expected) = tensors.tensor("normalised_plain") {
            self.compare_normalised(name, expected.data(), &plain);
            compared.push("normalised_plain");
        }
        compared
    }

    fn crops(&self, boxes: &[u8]) -> Vec<u8> {
        let numbers: Vec<u32> =
            boxes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32).collect();
        let mut all = Vec::new();
        for part in numbers.as_chunks::<5>().0 {
            let [top, left, height, width, flip] = *part;
            let part = CropBox { top, left, height, width, flip: flip == 1 };
            let mut out = vec![0; 3 * (self.resolution * self.resolution) as usize];
            let mut picture = Picture::from(&self.image);
            let whole = picture.part(part.rect(), Precision::Exact).expect("pixels");
            let (size, filter, decode) = (self.resolution, self.filter, DecodeMode::Exact);
            let view = TrainView { size, filter, seed: 0, decode };
            view.resize(whole, part, &mut ResizeBuffers::default(), &mut out);
            all.extend(to_rows(&out, self.resolution as usize));
        }
        all
    }

    /// The fixture keeps every fourth row and column.
    fn compare_normalised(&self, name: &str, expected: &[u8], plain: &[u8]) {
        let size = self.resolution as usize;
        let mut expected =
            expected.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        for channel in 0..3 {
            for place in (0..size).step_by(4).flat_map(|y| (0..size).step_by(4).map(move |x| y * size + x)) {
                let level = f64::from(plain[channel * size * size + place]) / 255.0;
                let ours = (level - self.mean[channel]) / self.std[channel];
                let theirs = expected.next().expect("as many values");
                assert!((ours - theirs).abs() <= 1e-5, "{name}: normalised {ours}, expected {theirs}");
            }
        }
    }
}

fn to_rows(planes: &[u8], size: usize) -> Vec<u8> {
    (0..size * size).flat_map(|i| [0, 1, 2].map(|channel| planes[channel * size * size + i])).collect()
}

/// Runs all cases of a folder; returns how many there were and how many outputs were compared.
fn run_cases(folder: &Path) -> (usize, usize) {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the cases")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with("plus-mda-") && folder.join(name).join("manifest.json").is_file())
        .collect();
    names.sort();
    let mut outputs = 0;
    for name in &names {
        let compared = Case::open(&folder.join(name)).compare(name);
        assert!(compared.len() >= 5, "{name}: only {compared:?} compared");
        outputs += compared.len();
    }
    assert!(!names.is_empty(), "no golden case in {}", folder.display());
    (names.len(), outputs)
}

#[test]
fn kept_golden_cases() {
    let (cases, outputs) = run_cases(&fixtures::kept("golden"));
    println!("golden images in the repository: {cases} cases, {outputs} outputs equal");
}

#[test]
fn all_golden_cases() {
    if let Some(folder) = fixtures::golden("images") {
        let (cases, outputs) = run_cases(&folder);
        println!("golden images: {cases} cases, {outputs} outputs equal");
    }
}

#[test]
fn a_draw_depends_on_its_key_alone() {
    let draw = |seed, epoch, position| TrainView::draw(seed, epoch, position, 500, 375);
    assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
    assert_ne!(draw(1, 2, 3), draw(0, 2, 3));
    assert_ne!(draw(1, 2, 3), draw(1, 1, 3));
    assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
    // Swapping numbers between the fields of the key is another key.
    assert_ne!(draw(1, 2, 3), draw(2, 1, 3));
    // The stream is part of a run's identity: a change of it breaks resumed runs.
    let expected = CropBox { top: 158, left: 47, height: 204, width: 178, flip: true };
    assert_eq!(draw(0, 0, 0), expected);
}

#[test]
fn draws_follow_the_law() {
    let (mut flips, mut share, mut count) = (0, 0.0, 0);
    for position in 0..20_000 {
        let drawn = TrainView::draw(7, 1, position, 400, 300);
        let area = f64::from(drawn.width * drawn.height) / 120_000.0;
        let ratio = f64::from(drawn.width) / f64::from(drawn.height);
        assert!((0.079..=1.0).contains(&area), "{drawn:?}");
        assert!((0.74..1.35).contains(&ratio), "{drawn:?}");
        flips += usize::from(drawn.flip);
        share += area;
        count += 1;
    }
    let mean = share / f64::from(count);
    // Uniform but for the boxes that do not fit: 0.433 in 400,000 draws of the official rule.
    assert!((0.425..0.441).contains(&mean), "mean area {mean}");
    assert!((9_700..10_300).contains(&flips), "{flips} flips of 20000");
}

#[test]
fn very_long_pictures_fall_back_to_the_centre() {
    assert_eq!(central_box(1000, 10), (0, 493, 10, 13));
    assert_eq!(central_box(10, 1000), (493, 0, 13, 10));
    assert_eq!(central_box(100, 90), (0, 0, 90, 100));
    let wide = RgbImage { width: 100_000, height: 1, pixels: vec![200; 300_000] };
    let view = ImageView::Test(TestView::lift(32, Filter::Bicubic));
    let mut out = vec![0; view.bytes()];
    write(view, &wide, &mut out);
    assert!(out.iter().all(|&value| value == 200));
}

#[test]
fn a_small_picture_is_padded_with_zeros() {
    let image = RgbImage { width: 3, height: 4, pixels: vec![9; 36] };
    let view = ImageView::Test(TestView { size: 8, resize: 3, filter: Filter::Bilinear });
    let mut out = vec![1; view.bytes()];
    write(view, &image, &mut out);
    let filled: Vec<usize> = (0..64).filter(|&i| out[i] == 9).collect();
    let expected: Vec<usize> = (2..6).flat_map(|y| (2..5).map(move |x| y * 8 + x)).collect();
    assert_eq!(filled, expected);
    assert!(
        out.iter().enumerate().all(|(i, &value)| value == if expected.contains(&(i % 64)) { 9 } else { 0 })
    );
}

proptest! {
    /// A box lies within its image, whatever the image.
    #[test]
    fn boxes_lie_within(width in 1u32..3000, height in 1u32..3000, position: u64) {
        let drawn = TrainView::draw(1, 0, position, width, height);
        prop_assert!(drawn.width >= 1 && drawn.left + drawn.width <= width);
        prop_assert!(drawn.height >= 1 && drawn.top + drawn.height <= height);
    }

    /// A window of a resized image is that part of the whole one.
    #[test]
    fn windows_are_parts_of_the_whole(
        width in 1u32..60, height in 1u32..60, size in 1u32..40, extra in 0u32..30, cubic: bool,
    ) {
        let image = noise(width, height);
        let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
        let view = TestView { size, resize: size + extra, filter };
        let mut out = vec![0; 3 * (size * size) as usize];
        write(ImageView::Test(view), &image, &mut out);
        let (long, wide) = resized_size(width, height, size + extra);
        let whole = crate::data::resize::resize(&image, long, wide, filter);
        let (left, top) = (central(long, size).0.span.start, central(wide, size).0.span.start);
        for y in 0..size {
            for x in 0..size {
                for channel in 0..3 {
                    let ours = out[((channel * size + y) * size + x) as usize];
                    let theirs = whole.pixels[(((y + top) * whole.width + x + left) * 3 + channel) as usize];
                    prop_assert_eq!(ours, theirs);
                }
            }
        }
    }
}

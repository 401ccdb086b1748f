//! Parts against the whole image: the same pixels and the same refusals.

use super::*;
use crate::data::fixtures;
use std::path::Path;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Numbers below a bound, the same ones in each run.
pub(in crate::data::decode) fn random_numbers(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % below.max(1)
    }
}

/// Compares random parts of a file with the whole image.
fn compare(name: &str, bytes: &[u8], parts: u32) {
    let mut next = random_numbers(bytes.len() as u64);
    let whole = decode(bytes);
    let mut buffers = DecodeBuffers::default();
    for round in 0..parts {
        let mut picture = match (Picture::open(bytes, &mut buffers), &whole) {
            (Ok(picture), _) => picture,
            (Err(error), Err(expected)) => return assert_eq!(error, *expected, "{name}"),
            (Err(error), Ok(_)) => panic!("{name}: {error}"),
        };
        let (width, height) = picture.size();
        let mut wanted = Rect::whole((width, height));
        if round > 0 {
            (wanted.left, wanted.top) = (next(width), next(height));
            (wanted.width, wanted.height) = (1 + next(width - wanted.left), 1 + next(height - wanted.top));
        }
        match (picture.part(wanted, Precision::Exact), &whole) {
            (Ok(part), Ok(whole)) => assert_part(name, &part, wanted, whole),
            (Err(error), Err(expected)) => assert_eq!(error, *expected, "{name}"),
            (Ok(_), Err(error)) => {
                panic!("{name}: a part of {wanted:?} is decoded, but not the whole: {error}")
            }
            (Err(error), Ok(_)) => panic!("{name}: {wanted:?}: {error}"),
        }
    }
}

fn assert_part(name: &str, part: &Part, wanted: Rect, whole: &RgbImage) {
    assert_eq!((part.size, part.reduction), ((whole.width, whole.height), 1), "{name}");
    for y in wanted.top..wanted.top + wanted.height {
        let row = |pixels: &[u8], (left, top): (u32, u32), width: u32| {
            let start = ((y - top) * width + wanted.left - left) as usize * 3;
            pixels[start..start + wanted.width as usize * 3].to_vec()
        };
        let ours = row(part.pixels, (part.rect.left, part.rect.top), part.rect.width);
        assert!(ours == row(&whole.pixels, (0, 0), whole.width), "{name}: row {y} of {wanted:?} differs");
    }
}

/// A smooth image with edges, whose chroma changes from pixel to pixel.
fn drawing(width: usize, height: usize) -> Image<Vec<u8>> {
    let size = 3;
    let value = |i: usize| {
        let (x, y, channel) = (i / size % width, i / size / width, i % size);
        (x * (3 + channel) + y * (5 - channel) + if (x / 7 + y / 5) % 2 == 0 { 90 } else { 0 }) as u8
    };
    let pixels = (0..width * height * size).map(value).collect();
    Image { pixels, width, pitch: width * size, height, format: PixelFormat::RGB }
}

fn encoded(image: &Image<Vec<u8>>, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let mut compressor = Compressor::new().expect("a compressor");
    compressor.set_subsamp(subsampling).expect("a subsampling");
    compressor.set_quality(85).expect("a quality");
    compressor.set_progressive(progressive).expect("a mode");
    compressor.compress_to_vec(image.as_deref()).expect("bytes")
}

const SUBSAMPLINGS: [Subsamp; 7] = [
    Subsamp::None,
    Subsamp::Sub2x1,
    Subsamp::Sub2x2,
    Subsamp::Sub1x2,
    Subsamp::Sub4x1,
    Subsamp::Sub1x4,
    Subsamp::Gray,
];

#[test]
fn parts_of_all_kinds_of_jpeg_are_those_of_the_whole() {
    for subsampling in SUBSAMPLINGS {
        for (width, height) in [(133, 97), (64, 64), (17, 130), (9, 3), (1, 1)] {
            for progressive in [false, true] {
                let bytes = encoded(&drawing(width, height), subsampling, progressive);
                compare(&format!("{subsampling:?} {width} x {height}, {progressive}"), &bytes, 25);
            }
        }
    }
}

/// Rows of the wanted rectangle, of an image that may be reduced.
fn wanted_rows(part: &Part, wanted: Rect) -> Vec<u8> {
    let reduction = part.reduction;
    let columns = wanted.left / reduction..(wanted.left + wanted.width).div_ceil(reduction);
    let rows = wanted.top / reduction..(wanted.top + wanted.height).div_ceil(reduction);
    let row = |y: u32| {
        let at = |x: u32| ((y - part.rect.top) * part.rect.width + x - part.rect.left) as usize * 3;
        part.pixels[at(columns.start)..at(columns.end)].to_vec()
    };
    rows.flat_map(row).collect()
}

/// A pixel is the same whatever part is wanted.
#[test]
fn fast_parts_are_those_of_the_fast_whole() {
    for (number, subsampling) in SUBSAMPLINGS.into_iter().enumerate() {
        for (width, height) in [(133, 97), (64, 64), (17, 130)] {
            for progressive in [false, true] {
                let bytes = encoded(&drawing(width, height), subsampling, progressive);
                let mut next = random_numbers(number as u64);
                let mut buffers = DecodeBuffers::default();
                for reduction in [1, 2, 4, 8] {
                    let precision = Precision::Fast { reduction };
                    let mut part = |wanted: Rect| {
                        let mut picture = Picture::open(&bytes, &mut buffers).expect("a picture");
                        let part = picture.part(wanted, precision).expect("a part");
                        let size = (part.rect.width * part.rect.height * 3) as usize;
                        (part.rect, part.reduction, part.size, part.pixels[..size].to_vec())
                    };
                    let size = (width as u32, height as u32);
                    let (rect, decoded, reduced, pixels) = part(Rect::whole(size));
                    let whole = Part { pixels: &pixels, rect, reduction: decoded, size: reduced };
                    for _ in 0..10 {
                        let (left, top) = (next(size.0), next(size.1));
                        let (width, height) = (1 + next(size.0 - left), 1 + next(size.1 - top));
                        let wanted = Rect { left, top, width, height };
                        let (rect, decoded, reduced, pixels) = part(wanted);
                        let ours = Part { pixels: &pixels, rect, reduction: decoded, size: reduced };
                        assert!(
                            wanted_rows(&ours, wanted) == wanted_rows(&whole, wanted),
                            "{subsampling:?}, {progressive}, reduced by {reduction}: {wanted:?} of {size:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn parts_of_the_kept_files_are_those_of_the_whole() {
    assert!(compare_folder(&fixtures::kept("odd"), 12) > 50);
}

#[test]
fn parts_of_photos_are_those_of_the_whole() {
    if let Some(folder) = fixtures::data("photos") {
        compare_folder(&folder, 4);
    }
    if let Some(folder) = fixtures::data("odd_images") {
        compare_folder(&folder, 2);
    }
}

fn compare_folder(folder: &Path, parts: u32) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_file() {
            compare(&path.display().to_string(), &std::fs::read(&path).expect("a file"), parts);
            count += 1;
        }
    }
    count
}

//! Components against libjpeg's and against a plain inverse transform.

use super::*;
use crate::data::decode::part::tests::random_numbers;
use crate::data::decode::part::{DecodeBuffers, Picture};
use crate::data::fixtures;
use std::f64::consts::PI;
use turbojpeg::{Compressor, Decompressor, Image, PixelFormat, Subsamp, YuvImage};

/// Edges, noise, and flat places.
fn drawing((width, height): (usize, usize)) -> Image<Vec<u8>> {
    let mut next = random_numbers((width * height) as u64);
    let pixels = (0..width * height * 3)
        .map(|i| {
            let (x, y) = (i / 3 % width, i / 3 / width);
            let noise = if x > width / 2 { next(60) } else { 0 };
            ((x / 9 * 40 + y / 5 * 30 * (i % 3)) % 190) as u8 + noise as u8
        })
        .collect();
    Image { pixels, width, pitch: width * 3, height, format: PixelFormat::RGB }
}

fn encoded(image: &Image<Vec<u8>>, subsampling: Subsamp, quality: i32) -> Vec<u8> {
    let mut compressor = Compressor::new().expect("a compressor");
    compressor.set_subsamp(subsampling).expect("a subsampling");
    compressor.set_quality(quality).expect("a quality");
    compressor.compress_to_vec(image.as_deref()).expect("bytes")
}

/// Planes of a file by libjpeg, in their sizes.
fn planes(bytes: &[u8]) -> Vec<(usize, usize, Vec<u8>)> {
    let mut decompressor = Decompressor::new().expect("a decompressor");
    let header = decompressor.read_header(bytes).expect("a header");
    let mut image = YuvImage {
        pixels: vec![
            0;
            turbojpeg::yuv_pixels_len(header.width, 1, header.height, header.subsamp)
                .expect("a size")
        ],
        width: header.width,
        align: 1,
        height: header.height,
        subsamp: header.subsamp,
    };
    decompressor.decompress_to_yuv(bytes, image.as_deref_mut()).expect("planes");
    let factors = match header.subsamp {
        Subsamp::Gray => return vec![(header.width, header.height, image.pixels)],
        Subsamp::None => (1, 1),
        Subsamp::Sub2x1 => (2, 1),
        Subsamp::Sub1x2 => (1, 2),
        _ => (2, 2),
    };
    // The planes of libjpeg have whole multiples of the factors.
    let luma = (header.width.next_multiple_of(factors.0), header.height.next_multiple_of(factors.1));
    let chroma = (luma.0 / factors.0, luma.1 / factors.1);
    let mut rest = image.pixels.as_slice();
    let mut found = Vec::new();
    for (width, height) in [luma, chroma, chroma] {
        let (plane, next) = rest.split_at(width * height);
        found.push((width, height, plane.to_vec()));
        rest = next;
    }
    found
}

/// The pixel of a component, in the component of the reduced image.
fn pixel(component: &Component, x: u32, y: u32) -> u8 {
    let (x, y) = ((x - component.first.0) as usize, (y - component.first.1) as usize);
    component.pixels[y * component.stride + x]
}

const SUBSAMPLINGS: [Subsamp; 5] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Gray];

#[test]
fn components_are_those_of_libjpeg() {
    let mut buffers = DecodeBuffers::default();
    for subsampling in SUBSAMPLINGS {
        for (size, quality) in [((133, 97), 90), ((64, 64), 75), ((17, 130), 100), ((9, 3), 20), ((1, 1), 50)]
        {
            let bytes = encoded(&drawing(size), subsampling, quality);
            let expected = planes(&bytes);
            let mut picture = Picture::open(&bytes, &mut buffers).expect("a picture");
            let whole = Rect::whole(picture.size());
            let found = picture.components(whole, 1).expect("components");
            assert_eq!(found.len(), expected.len());
            for (component, (width, _, plane)) in found.iter().zip(&expected) {
                for y in 0..component.size.1 {
                    for x in 0..component.size.0 {
                        let (ours, theirs) = (pixel(component, x, y), plane[y as usize * width + x as usize]);
                        assert!(ours.abs_diff(theirs) <= 1, "{subsampling:?} {size:?}: {ours}, {theirs}");
                    }
                }
            }
        }
    }
}

/// A pixel of a reduced component is the mean of those that it stands for, as long as none of them is clipped.
#[test]
fn reduced_components_are_means() {
    let mut buffers = DecodeBuffers::default();
    for subsampling in SUBSAMPLINGS {
        let bytes = encoded(&drawing((133, 97)), subsampling, 85);
        let planes = planes(&bytes);
        for reduction in [2, 4, 8] {
            let mut picture = Picture::open(&bytes, &mut buffers).expect("a picture");
            let whole = Rect::whole(picture.size());
            let found = picture.components(whole, reduction).expect("components");
            for (component, (width, height, plane)) in found.iter().zip(&planes) {
                let block = reduction * reduction;
                // Partial blocks at the border contain pixels that libjpeg does not return.
                for y in 0..*height as u32 / reduction {
                    for x in 0..*width as u32 / reduction {
                        let pixels = (0..block)
                            .map(|i| (x * reduction + i % reduction, y * reduction + i / reduction));
                        let levels: Vec<u32> =
                            pixels.map(|(x, y)| plane[y as usize * width + x as usize].into()).collect();
                        if levels.iter().any(|level| [0, 255].contains(level)) {
                            continue;
                        }
                        let mean = (levels.iter().sum::<u32>() + block / 2) / block;
                        let ours = u32::from(pixel(component, x, y));
                        assert!(ours.abs_diff(mean) <= 1, "{subsampling:?}, {reduction}: {ours}, {mean}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_part_has_the_pixels_of_the_whole() {
    let mut next = random_numbers(3);
    let mut buffers = [DecodeBuffers::default(), DecodeBuffers::default()];
    for subsampling in SUBSAMPLINGS {
        let bytes = encoded(&drawing((133, 97)), subsampling, 85);
        for reduction in [1, 2, 4, 8] {
            let [whole, part] = &mut buffers;
            let mut whole = Picture::open(&bytes, whole).expect("a picture");
            let whole = whole.components(Rect::whole((133, 97)), reduction).expect("components");
            for _ in 0..20 {
                let (left, top) = (next(133), next(97));
                let wanted = Rect { left, top, width: 1 + next(133 - left), height: 1 + next(97 - top) };
                let mut picture = Picture::open(&bytes, part).expect("a picture");
                let part = picture.components(wanted, reduction).expect("components");
                for (part, whole) in part.iter().zip(whole) {
                    assert_eq!((part.size, part.reduction), (whole.size, whole.reduction));
                    let (across, down) = part.reduction;
                    for y in top / down..(top + wanted.height).div_ceil(down) {
                        for x in left / across..(left + wanted.width).div_ceil(across) {
                            assert_eq!(pixel(part, x, y), pixel(whole, x, y), "{subsampling:?} {wanted:?}");
                        }
                    }
                }
            }
        }
    }
}

/// The photos that others made, among them files with restarts, optimised codes and other samplings.
#[test]
fn files_that_are_not_supported_are_left_to_libjpeg() {
    let mut buffers = DecodeBuffers::default();
    let mut counts = [0, 0];
    for folder in [Some(fixtures::kept("odd")), Some(fixtures::kept("photos")), fixtures::data("odd_images")]
    {
        for entry in folder.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder")) {
            let path = entry.expect("a file").path();
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let is_jpeg = bytes.starts_with(&[0xff, 0xd8]);
            let Ok(mut picture) = Picture::open(&bytes, &mut buffers) else { continue };
            let whole = Rect::whole(picture.size());
            let components = picture.components(whole, 1).map(<[Component]>::len);
            assert!(is_jpeg || components.is_none(), "{}", path.display());
            counts[usize::from(components.is_some())] += usize::from(is_jpeg);
        }
    }
    assert!(counts[0] > 3 && counts[1] > 3, "{counts:?}");
}

/// A file with a restart marker after every five units.
fn with_restarts(image: &Image<Vec<u8>>) -> Vec<u8> {
    use turbojpeg::raw;
    let (mut file, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: the handle is used while it is valid, `pixels` has `height` rows of `pitch` bytes, and the library's buffer is copied
    // before it is freed.
    unsafe {
        let handle = raw::tj3Init(raw::TJINIT_TJINIT_COMPRESS as i32);
        let settings = [
            (raw::TJPARAM_TJPARAM_QUALITY, 85),
            (raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_420),
            (raw::TJPARAM_TJPARAM_RESTARTBLOCKS, 5),
        ];
        for (parameter, value) in settings {
            assert_eq!(raw::tj3Set(handle, parameter as i32, value), 0);
        }
        let [width, height, pitch] = [image.width, image.height, image.pitch].map(|side| side as i32);
        let format = raw::TJPF_TJPF_RGB;
        let pixels = image.pixels.as_ptr();
        assert_eq!(
            raw::tj3Compress8(handle, pixels, width, pitch, height, format, &raw mut file, &raw mut len),
            0
        );
        let bytes = std::slice::from_raw_parts(file, len as usize).to_vec();
        raw::tj3Free(file.cast());
        raw::tj3Destroy(handle);
        bytes
    }
}

#[test]
fn restarts_are_followed_in_order() {
    let image = drawing((133, 97));
    let plain = encoded(&image, Subsamp::Sub2x2, 85);
    let mut restarted = with_restarts(&image);
    let whole = Rect::whole((133, 97));
    let mut buffers = DecodeBuffers::default();
    let mut pixels = |bytes: &[u8]| {
        let mut picture = Picture::open(bytes, &mut buffers).expect("a picture");
        let components = picture.components(whole, 1)?;
        Some(components.iter().map(|component| component.pixels.clone()).collect::<Vec<_>>())
    };
    assert!(restarted.windows(2).any(|pair| pair == [0xff, 0xd3]));
    assert_eq!(pixels(&restarted), pixels(&plain));
    let marker = restarted.windows(2).position(|pair| pair == [0xff, 0xd3]).expect("a restart");
    restarted[marker + 1] = 0xd4;
    assert_eq!(pixels(&restarted), None);
}

/// A block by the formula of the standard.
fn plain(coefficients: &[f64; 64], x: usize, y: usize) -> f64 {
    let scale = |u: usize| if u == 0 { 0.5f64.sqrt() } else { 1.0 };
    let cosine = |u: usize, x: usize| ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos();
    (0..64)
        .map(|i| {
            let (v, u) = (i / 8, i % 8);
            scale(u) * scale(v) * coefficients[i] * cosine(u, x) * cosine(v, y) / 4.0
        })
        .sum()
}

#[test]
fn the_transform_is_that_of_the_standard() {
    let mut next = random_numbers(5);
    for round in 0..200 {
        let diagonal = round % 15;
        let coefficients: [f64; 64] = std::array::from_fn(|i| {
            let is_within = i / 8 + i % 8 <= diagonal;
            if is_within { f64::from(next(200)) - 100.0 } else { 0.0 }
        });
        for reduction in [1, 2, 4, 8] {
            let side = 8 / reduction;
            let mut block = Coefficients::ZERO;
            for (value, exact) in block.0.iter_mut().zip(coefficients) {
                *value = exact as f32;
            }
            let mut levels = vec![0; 8 * side];
            inverse::write(&mut block, diagonal, (&basis(reduction), side), &mut levels, 8);
            assert!(block.0.iter().all(|&value| value == 0.0));
            for y in 0..side {
                for x in 0..side {
                    let pixels = (0..reduction * reduction).map(|i| {
                        plain(&coefficients, x * reduction + i % reduction, y * reduction + i / reduction)
                    });
                    let mean = pixels.sum::<f64>() / (reduction * reduction) as f64;
                    let expected = (mean + 128.0).clamp(0.0, 255.0);
                    let found = f64::from(levels[y * 8 + x]);
                    assert!((found - expected).abs() < 0.51, "{reduction}, {diagonal}: {found}, {expected}");
                }
            }
        }
    }
}

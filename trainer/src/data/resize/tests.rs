//! Resampling against Pillow's own results and against the rule written down plainly.

use super::*;
use crate::data::fixtures::noise;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// First eight bytes of the SHA-256 of what Pillow 13.0.0 gives for [`noise`]: width, height, new width, new
/// height, bilinear, bicubic.
const PILLOW: [(u32, u32, u32, u32, u64, u64); 11] = [
    (32, 32, 224, 224, 0x6e9e_61cb_0e87_7f80, 0x768d_93bd_fdc6_14ff),
    (500, 375, 299, 224, 0x2a00_6ae3_9081_26e1, 0x8144_c6ee_a877_aeb1),
    (375, 500, 224, 299, 0x88a2_19a7_67c0_ec50, 0x0086_678d_f33e_e340),
    (100, 300, 64, 40, 0x37d1_d4c8_624e_e954, 0x2780_7549_b869_3599),
    (30, 90, 20, 9, 0x2699_7807_4c93_b6f5, 0x4387_023a_4731_0646),
    (7, 5, 7, 50, 0x088f_7292_60c6_efd3, 0x57f2_2d0c_a1b5_9a57),
    (7, 5, 50, 5, 0x3cff_1e4a_7d61_e08f, 0x09c9_f9e7_c30c_f274),
    (1, 1, 9, 9, 0xb0bc_29af_5642_f8fa, 0xb0bc_29af_5642_f8fa),
    (300, 2, 3, 2, 0xb75e_a4e7_0adc_85b1, 0xe21a_c8db_7cab_a776),
    (64, 64, 63, 65, 0x3286_2d91_5c44_a170, 0xcb88_4300_2ee3_8210),
    (90, 20, 31, 90, 0x7c35_53da_5fe1_e28f, 0x890a_6790_9289_1c47),
];

#[test]
fn sizes_of_all_kinds_are_pillows() {
    for (width, height, to_width, to_height, bilinear, bicubic) in PILLOW {
        for (filter, expected) in [(Filter::Bilinear, bilinear), (Filter::Bicubic, bicubic)] {
            let image = resize(&noise(width, height), to_width, to_height, filter);
            let hash = Sha256::digest(&image.pixels);
            let start = u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"));
            assert_eq!(start, expected, "{width} x {height} to {to_width} x {to_height}, {filter:?}");
        }
    }
}

/// One pass by the rule of the module's page, for one line of one channel.
fn plain_line(line: &[u8], size: usize, filter: Filter) -> Vec<u8> {
    if line.len() == size {
        return line.to_vec();
    }
    let scale = line.len() as f64 / size as f64;
    let stretch = scale.max(1.0);
    let weight_at = |place: usize, x: usize| {
        let distance = (x as f64 - (place as f64 + 0.5) * scale + 0.5) * (1.0 / stretch);
        filter.at(distance)
    };
    let resample = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let reach = filter.radius() * stretch;
        let inside = |x: &usize| {
            let low = (centre - reach + 0.5).max(0.0).floor();
            *x as f64 >= low && (*x as f64) < (centre + reach + 0.5).floor()
        };
        let taps: Vec<usize> = (0..line.len()).filter(inside).collect();
        let total: f64 = taps.iter().map(|&x| weight_at(place, x)).sum();
        let weigh = |&x: &usize| {
            let weight = weight_at(place, x) / total * 4_194_304.0;
            let weight = if weight < 0.0 { (weight - 0.5).ceil() } else { (weight + 0.5).floor() };
            weight as i64 * i64::from(line[x])
        };
        let sum: i64 = taps.iter().map(weigh).sum();
        ((sum + 2_097_152) >> 22).clamp(0, 255) as u8
    };
    (0..size).map(resample).collect()
}

fn plain(image: &RgbImage, width: usize, height: usize, filter: Filter) -> Vec<u8> {
    let (from_width, from_height) = (image.width as usize, image.height as usize);
    let columns_first =
        from_height > height && (from_height as i64 - height as i64) > 2 * (from_width as i64 - width as i64);
    let mut out = vec![0; width * height * 3];
    for channel in 0..3 {
        let rows: Vec<Vec<u8>> = (0..from_height)
            .map(|y| (0..from_width).map(|x| image.pixels[(y * from_width + x) * 3 + channel]).collect())
            .collect();
        let across = |rows: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            rows.iter().map(|row| plain_line(row, width, filter)).collect()
        };
        let down = |rows: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            let columns: Vec<Vec<u8>> = (0..rows[0].len())
                .map(|x| plain_line(&rows.iter().map(|row| row[x]).collect::<Vec<_>>(), height, filter))
                .collect();
            (0..height).map(|y| columns.iter().map(|column| column[y]).collect()).collect()
        };
        let rows = if columns_first { across(down(rows)) } else { down(across(rows)) };
        for (place, value) in rows.concat().into_iter().enumerate() {
            out[place * 3 + channel] = value;
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_plain_rule_gives_the_same(
        width in 1u32..50, height in 1u32..50, to_width in 1u32..50, to_height in 1u32..50, cubic: bool,
    ) {
        let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
        let image = noise(width, height);
        let ours = resize(&image, to_width, to_height, filter);
        prop_assert_eq!(ours.pixels, plain(&image, to_width as usize, to_height as usize, filter));
    }
}

#[test]
fn the_same_size_is_the_same_picture() {
    let image = noise(13, 7);
    assert_eq!(resize(&image, 13, 7, Filter::Bicubic), image);
}

#[test]
fn boxes_outside_a_picture_are_none() {
    let image = noise(5, 4);
    let size = (5, 4);
    let crop = |left, top, width, height| {
        let part = Part { pixels: &image.pixels, rect: Rect::whole(size), reduction: 1, size };
        Crop::of(part, Rect { left, top, width, height })
    };
    assert!(crop(0, 0, 5, 4).is_some());
    for (left, top, width, height) in
        [(1, 0, 5, 4), (0, 1, 5, 4), (0, 0, 0, 4), (u32::MAX, 0, 2, 2), (5, 0, 1, 1)]
    {
        assert!(crop(left, top, width, height).is_none());
    }
}

/// Of a reduced image, a box may begin and end within pixels.
#[test]
fn a_box_of_a_reduced_image_keeps_its_place() {
    // A ramp of two levels a pixel, reduced by 4: pixel `i` has the mean of pixels `4i` to `4i + 3`.
    let pixels: Vec<u8> = (0..30u8).flat_map(|i| [8 * i + 3; 3]).collect();
    let rect = Rect { left: 0, top: 0, width: 30, height: 1 };
    let part = Part { pixels: &pixels, rect, reduction: 4, size: (30, 1) };
    let crop = Crop::of(part, Rect { left: 33, top: 0, width: 50, height: 4 }).expect("a box");
    let mut out = [0; 75];
    let target = Planes { bytes: &mut out, width: 25, stride: 25, plane: 25 };
    let axes = [Axis::whole(25), Axis::whole(1)];
    Resizer::default().run(crop, axes[0], axes[1], Filter::Bilinear, false, target);
    // Place `i` has the mean of pixels `33 + 2i` and `34 + 2i`; at the ends there are fewer pixels to draw on.
    for (i, value) in out[..25].iter().enumerate().skip(2).take(21) {
        assert_eq!(usize::from(*value), 2 * 33 + 4 * i + 1, "place {i}");
    }
}

/// Resamples in both ways.
fn both(image: &RgbImage, (columns, rows): (Axis, Axis), filter: Filter, flip: bool) -> [Vec<u8>; 2] {
    [false, true].map(|fast| {
        let (width, plane) = (columns.span.len as usize, columns.span.len as usize * rows.span.len as usize);
        let mut out = vec![0; 3 * plane];
        let target = Planes { bytes: &mut out, width, stride: width, plane };
        let (mut resizer, source) = (Resizer::default(), Crop::whole(image).expect("an image"));
        if fast {
            resizer.run_fast(source, columns, rows, filter, flip, target);
        } else {
            resizer.run(source, columns, rows, filter, flip, target);
        }
        out
    })
}

/// The largest difference of a level.
fn largest_difference([exact, fast]: &[Vec<u8>; 2]) -> u8 {
    exact.iter().zip(fast).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn fast_results_differ_by_a_level(
        width in 1u32..150, height in 1u32..150, to_width in 1u32..90, to_height in 1u32..90,
        start in 0u32..20, cubic: bool, flip: bool,
    ) {
        let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
        let mut image = noise(width, height);
        // Levels between which no pass is clipped, because the passes clip in a different order.
        image.pixels.iter_mut().for_each(|level| *level = *level / 2 + 64);
        let axis = |size: u32| {
            let start = start.min(size - 1);
            Axis { size, span: Span { start, len: size - start } }
        };
        let results = both(&image, (axis(to_width), axis(to_height)), filter, flip);
        prop_assert!(largest_difference(&results) <= 1);
    }
}

#[test]
fn fast_results_of_a_flat_image_are_flat() {
    for (width, height, size) in [(500, 375, 224), (60, 90, 64), (30, 20, 33), (100, 100, 32), (260, 270, 32)]
    {
        for level in 0..=255 {
            let image = RgbImage { width, height, pixels: vec![level; (width * height * 3) as usize] };
            let axis = Axis::whole(size);
            let results = both(&image, (axis, axis), Filter::Bicubic, false);
            assert!(results[1].iter().all(|&found| found == level), "{width} x {height}, level {level}");
        }
    }
}

/// Where the level jumps, the cubic filter overshoots.
#[test]
fn fast_results_at_edges_are_clipped() {
    let (width, height) = (90, 70);
    let level = |i: u32| if (i / 3 % width / 9 + i / 3 / width / 7).is_multiple_of(2) { 255 } else { 0 };
    let image = RgbImage { width, height, pixels: (0..width * height * 3).map(level).collect() };
    for size in [32, 64, 128] {
        let results = both(&image, (Axis::whole(size), Axis::whole(size)), Filter::Bicubic, true);
        assert!(largest_difference(&results) <= 24, "{}", largest_difference(&results));
        let sum = |levels: &Vec<u8>| levels.iter().map(|&level| i64::from(level)).sum::<i64>();
        let error = (sum(&results[1]) - sum(&results[0])) as f64 / results[0].len() as f64;
        assert!(error.abs() < 0.2, "size {size}: {error}");
    }
}

#[test]
fn what_is_left_in_the_buffers_does_not_matter() {
    let mut used = Resizer::default();
    for (width, height, size) in [(90, 80, 70), (200, 150, 64), (31, 47, 33), (300, 20, 40), (90, 80, 70)] {
        let image = noise(width, height);
        let axis = Axis::whole(size);
        let side = size as usize;
        let mut out = vec![0; 3 * side * side];
        let target = Planes { bytes: &mut out, width: side, stride: side, plane: side * side };
        let source = Crop::whole(&image).expect("an image");
        used.run_fast(source, axis, axis, Filter::Bicubic, true, target);
        assert_eq!(out, both(&image, (axis, axis), Filter::Bicubic, true)[1], "{width} x {height}");
    }
}

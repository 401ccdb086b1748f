//! Colours of a result whose planes are luma and chroma (JFIF 1.02, page 3).

use super::Planes;
use multiversion::multiversion;

/// Binary places of a factor.
const PLACES: u32 = 16;
/// One half in these places.
const HALF: i32 = 1 << (PLACES - 1);
/// The level of chroma that is grey.
const MIDDLE: i32 = 128;

/// Converts planes of Y, Cb and Cr to red, green and blue.
pub(super) fn to_rgb(target: &mut Planes) {
    let (width, stride, plane) = (target.width, target.stride, target.plane);
    let (first, rest) = target.bytes.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    let rows = first.chunks_mut(stride).zip(second.chunks_mut(stride)).zip(third.chunks_mut(stride));
    for ((first, second), third) in rows {
        convert(&mut first[..width], &mut second[..width], &mut third[..width]);
    }
}

/// Copies the first plane to the others.
pub(super) fn repeat_grey(target: &mut Planes) {
    let plane = target.plane;
    let (first, rest) = target.bytes.split_at_mut(plane);
    for other in rest.chunks_mut(plane) {
        let len = other.len();
        other.copy_from_slice(&first[..len]);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn convert(first: &mut [u8], second: &mut [u8], third: &mut [u8]) {
    const fn factor(value: f64) -> i32 {
        (value * (1 << PLACES) as f64 + 0.5) as i32
    }
    const RED: i32 = factor(1.402);
    const GREEN: (i32, i32) = (factor(0.344_136_286), factor(0.714_136_286));
    const BLUE: i32 = factor(1.772);
    for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
        let luma = (i32::from(*first) << PLACES) + HALF;
        let (blue, red) = (i32::from(*second) - MIDDLE, i32::from(*third) - MIDDLE);
        *first = ((luma + RED * red) >> PLACES).clamp(0, 255) as u8;
        *second = ((luma - GREEN.0 * blue - GREEN.1 * red) >> PLACES).clamp(0, 255) as u8;
        *third = ((luma + BLUE * blue) >> PLACES).clamp(0, 255) as u8;
    }
}

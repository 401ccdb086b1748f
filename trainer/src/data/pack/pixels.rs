//! Images without compression: binary PPM, which other programs also read.

use crate::data::decode::MAX_PIXELS;
use crate::data::source::Stored;

/// Longest header: the mark, two numbers of ten digits and the level, each with a break.
const MAX_HEADER: usize = 32;

/// A PPM file of RGB pixels.
pub(crate) fn packed(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
    bytes.extend_from_slice(pixels);
    bytes
}

/// The pixels of a PPM file in the form of [`packed`], without a copy.
pub(crate) fn of_packed(bytes: &[u8]) -> Option<Stored<'_>> {
    let rest = bytes.strip_prefix(b"P6\n")?;
    let head =
        std::str::from_utf8(rest[..rest.len().min(MAX_HEADER)].split(|&byte| byte > 0x7f).next()?).ok()?;
    let (size, after) = head.split_once('\n')?;
    let (width, height) = size.split_once(' ')?;
    let (width, height): (u32, u32) = (width.parse().ok()?, height.parse().ok()?);
    after.strip_prefix("255\n")?;
    let pixels = &rest[size.len() + 1 + 4..];
    let count =
        u64::from(width).checked_mul(u64::from(height)).filter(|count| (1..=MAX_PIXELS).contains(count))?;
    (pixels.len() as u64 == 3 * count).then_some(Stored::Pixels { width, height, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back_and_other_files_are_left_to_the_decoder() {
        for level in [0, 10, 200, 255] {
            let pixels = [level; 18];
            let bytes = packed(3, 2, &pixels);
            assert_eq!(of_packed(&bytes), Some(Stored::Pixels { width: 3, height: 2, pixels: &pixels }));
            assert_eq!(crate::data::decode(&bytes).expect("a PPM").pixels, pixels);
            assert_eq!(of_packed(&bytes[..bytes.len() - 1]), None);
        }
        for other in [
            &b"P6\n3 2\n65535\n"[..],
            b"P6 3 2 255\n",
            b"P6\n0 0\n255\n",
            b"P6\n4294967295 4294967295\n255\n",
            b"",
        ] {
            assert_eq!(of_packed(other), None);
        }
    }
}

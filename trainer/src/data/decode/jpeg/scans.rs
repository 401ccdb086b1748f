//! Where the scans of a JPEG file end.

use super::super::Bytes;

/// The offset after the end marker, if nothing but scans and their tables comes before it, the first scan being at
/// `scan`. A file of one scan has nothing at all between its scan and the end marker.
///
/// libjpeg reports damage in a scan as a warning and never reads past a marker. So it accepts a file for which this is
/// true, whatever the bits of the scans are.
pub(super) fn end(bytes: &[u8], scan: usize, several_scans: bool) -> Option<usize> {
    let segment = |at: usize| Bytes(bytes).u16_be(at + 2).map(|len| at + 2 + usize::from(len.max(2)));
    let mut at = segment(scan)?;
    loop {
        at += memchr::memchr(0xff, bytes.get(at..)?)?;
        match *bytes.get(at + 1)? {
            // A value of 0xff, and a restart marker.
            0x00 | 0xd0..=0xd7 => at += 2,
            // Padding before a marker.
            0xff => at += 1,
            0xd9 => return Some(at + 2),
            // Tables, a scan, application data and comments.
            0xc4 | 0xda | 0xdb | 0xdd | 0xe0..=0xef | 0xfe if several_scans => at = segment(at)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::end;

    const SCAN: &[u8] = b"\xff\xda\0\x04..";

    fn found(data: &[u8], several: bool) -> Option<usize> {
        end(&[SCAN, data].concat(), 0, several)
    }

    #[test]
    fn one_scan_is_followed_by_its_end() {
        assert_eq!(found(b"ab\xff\0c\xff\xd3d\xff\xff\xd9more", false), Some(17));
        assert_eq!(found(b"\xff\xd9", false), Some(8));
        for data in [
            &b""[..],
            b"abc",
            b"abc\xff",
            b"abc\xff\xc4\0\x02\xff\xd9",
            b"a\xff\xda\0\x02\xff\xd9",
            b"\xff\x01\xff\xd9",
        ] {
            assert_eq!(found(data, false), None, "{data:?}");
        }
    }

    #[test]
    fn several_scans_may_have_tables_between_them() {
        assert_eq!(found(b"a\xff\xc4\0\x04\xff\xd9b\xff\xda\0\x02c\xff\xd9", true), Some(21));
        assert_eq!(found(b"a\xff\xc4\0\x09\xff\xd9", true), None);
        assert_eq!(found(b"a\xff\xc0\0\x02\xff\xd9", true), None);
    }
}

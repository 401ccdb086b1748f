//! Damaged files: pixels or an error, the same verdict whether a part or the whole is decoded.

use super::*;

/// Larger images are correct, but take long to decode as a whole.
const LARGE: u64 = 1 << 22;

const FORMATS: [(&str, &[&[u8]]); 7] = [
    ("JPEG", &[b"\xff\xd8"]),
    ("PNG", &[b"\x89PNG"]),
    ("GIF", &[b"GIF8"]),
    ("WebP", &[b"RIFF"]),
    ("TIFF", &[b"II", b"MM"]),
    ("PNM", &[b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"]),
    ("BMP", &[b"BM"]),
];

/// Changes some bytes, and perhaps cuts the file.
fn mutate(bytes: &mut Vec<u8>, next: &mut impl FnMut(usize) -> usize) {
    // Most of the changes to the header, where they matter most.
    let reach = if next(2) == 0 { bytes.len() } else { bytes.len().min(700) };
    for _ in 0..=next(4) {
        let place = next(reach);
        bytes[place] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
    }
    match next(6) {
        0 => bytes.truncate(next(bytes.len())),
        1 => {
            let (from, len) = (next(bytes.len()), next(64));
            let moved: Vec<u8> = bytes.iter().skip(from).take(len).copied().collect();
            let to = next(bytes.len());
            bytes.splice(to..to, moved);
        }
        _ => {}
    }
    if bytes.starts_with(b"\x89PNG") {
        repair_checksums(bytes);
    }
}

/// Decodes a part, and the whole where it is not too large, and compares the verdicts and the pixels.
fn check(format: &str, bytes: &[u8], next: &mut impl FnMut(usize) -> usize, buffers: &mut DecodeBuffers) {
    let part = check_part(bytes, next, buffers);
    let Some((size, part)) = part else {
        return assert!(decode(bytes).is_err(), "{format}: only the whole is decoded");
    };
    if u64::from(size.0) * u64::from(size.1) > LARGE {
        return;
    }
    match (part, decode(bytes)) {
        (Ok((rect, pixels)), Ok(whole)) => {
            assert_eq!(whole.pixels.len(), whole.width as usize * whole.height as usize * 3);
            let rows = (rect.top..rect.top + rect.height).flat_map(|y| {
                let start = (y * whole.width + rect.left) as usize * 3;
                &whole.pixels[start..start + rect.width as usize * 3]
            });
            assert!(pixels.iter().eq(rows), "{format}: the pixels of {rect:?} differ");
        }
        (Err(part), Err(whole)) => assert_eq!(part, whole, "{format}"),
        (Ok(_), Err(whole)) => panic!("{format}: only a part is decoded: {whole}"),
        (Err(part), Ok(_)) => panic!("{format}: only the whole is decoded: {part}"),
    }
}

type WantedPixels = Result<(Rect, Vec<u8>), DecodeError>;

/// Size and pixels of a random part; none if the file is refused before that.
fn check_part(
    bytes: &[u8],
    next: &mut impl FnMut(usize) -> usize,
    buffers: &mut DecodeBuffers,
) -> Option<((u32, u32), WantedPixels)> {
    let mut picture = Picture::open(bytes, buffers).ok()?;
    let size = picture.size();
    let side = |whole: u32, next: &mut dyn FnMut(usize) -> usize| {
        let start = next(whole as usize) as u32;
        (start, 1 + next((whole - start).min(500) as usize) as u32)
    };
    let ((left, width), (top, height)) = (side(size.0, next), side(size.1, next));
    let wanted = Rect { left, top, width, height };
    let components = picture.components(wanted, 1 << next(4)).map(<[Component]>::len);
    let reduced =
        picture.part(wanted, Precision::Fast { reduction: 1 << next(4) }).map(|part| part.pixels.len());
    let part = picture.part(wanted, Precision::Exact).map(|part| {
        let at = |y: u32| ((y - part.rect.top) * part.rect.width + left - part.rect.left) as usize * 3;
        let rows = (top..top + height).flat_map(|y| &part.pixels[at(y)..at(y) + width as usize * 3]);
        (wanted, rows.copied().collect())
    });
    let refusal = part.as_ref().err().filter(|_| components.is_some());
    assert_eq!(refusal, None, "only the components are decoded");
    assert_eq!(reduced.is_ok(), part.is_ok(), "a reduced part is decoded, or not, as the part itself");
    Some((size, part))
}

fn run(mutations: usize) {
    let mut next = random_numbers();
    let mut buffers = DecodeBuffers::default();
    for (format, starts) in FORMATS {
        let mut files = kept_files(starts);
        if format == "JPEG" {
            let photos = std::fs::read_dir(fixtures::kept("photos")).expect("photos");
            files.extend(photos.map(|photo| std::fs::read(photo.expect("a file").path()).expect("a file")));
        }
        files.retain(|file| file.len() > 16);
        assert!(!files.is_empty(), "{format}");
        for round in 0..mutations {
            let mut bytes = files[round % files.len()].clone();
            mutate(&mut bytes, &mut next);
            check(format, &bytes, &mut next, &mut buffers);
        }
    }
}

#[test]
fn mutated_files_have_one_verdict() {
    run(200);
}

/// 10,000 of each format.
#[test]
#[ignore = "long; decodes 70,000 damaged files"]
fn many_mutated_files_have_one_verdict() {
    run(10_000);
}

/// 30,000 x 30,000 pixels are refused by the header, in both ways to decode.
#[test]
fn too_many_pixels_are_refused_by_the_header() {
    let side = 30_000u32;
    let [high, low] = (side as u16).to_be_bytes();
    let mut jpeg = std::fs::read(fixtures::kept("photos").join("astronaut.jpg")).expect("a file");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[high, low, high, low]);
    let gif =
        [b"GIF89a", &[low, high, low, high, 0, 0, 0][..], &[0x2c, 0, 0, 0, 0, low, high, low, high, 0, 2, 1]]
            .concat();
    let pnm = b"P6 30000 30000 255\n".to_vec();
    let entries =
        [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 64)];
    let mut tiff = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in entries {
        tiff.extend([&u16::to_le_bytes(tag)[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat());
    }
    tiff.extend([0; 4]);
    for (format, bytes) in [("JPEG", jpeg), ("GIF", gif), ("PNM", pnm), ("TIFF", tiff)] {
        let expected = DecodeError::Size { format, width: side.into(), height: side.into() };
        assert_eq!(decode(&bytes), Err(expected.clone()));
        assert_eq!(Picture::open(&bytes, &mut DecodeBuffers::default()).err(), Some(expected));
    }
}

//! Pixels against those of Pillow, by their SHA-256.

mod mutated;

use super::*;
use crate::data::fixtures;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Compares every file of a folder with its manifest; returns how many there were.
fn compare_with_manifest(folder: &Path) -> usize {
    let manifest = fixtures::json(&folder.join("manifest.json"));
    let files = manifest["files"].as_object().or(manifest["images"].as_object()).or(manifest.as_object());
    let entries = files.expect("a table of files");
    let mut count = 0;
    let mut wrong = Vec::new();
    for (name, facts) in entries {
        if facts.get("bytes").is_none() {
            continue;
        }
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            wrong.push(format!("{name}: missing"));
            continue;
        };
        count += 1;
        let decoded = decode(&bytes);
        match (facts.get("rgb_sha256").and_then(Value::as_str), decoded) {
            (Some(expected), Ok(image)) => {
                let size = (u64::from(image.width), u64::from(image.height));
                if Some(size) != facts["width"].as_u64().zip(facts["height"].as_u64()) {
                    wrong.push(format!("{name}: size {size:?}, expected {facts}"));
                } else if hex(&Sha256::digest(&image.pixels)) != expected {
                    wrong.push(format!("{name}: other pixels"));
                }
            }
            (Some(_), Err(error)) => wrong.push(format!("{name}: {error}")),
            (None, Ok(_)) => wrong.push(format!("{name}: decoded, expected {}", facts["message"])),
            (None, Err(_)) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0, "no file in {}", folder.display());
    count
}

#[test]
fn kept_odd_images_are_pillows() {
    println!("odd images in the repository: {}", compare_with_manifest(&fixtures::kept("odd")));
}

#[test]
fn all_odd_images_are_pillows() {
    if let Some(folder) = fixtures::data("odd_images") {
        println!("odd images: {}", compare_with_manifest(&folder));
    }
}

#[test]
fn photos_are_pillows() {
    if let Some(folder) = fixtures::data("photos") {
        println!("photos: {}", compare_with_manifest(&folder));
    }
}

/// Numbers below a bound, the same ones in each run.
fn random_numbers() -> impl FnMut(usize) -> usize {
    let mut state = 1u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}

/// The files of the repository that begin with one of these.
fn kept_files(starts: &[&[u8]]) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixtures::kept("odd")).expect("files");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let files = paths.iter().map(|path| std::fs::read(path).expect("a file"));
    files.filter(|bytes| starts.iter().any(|start| bytes.starts_with(start))).collect()
}

fn decode_damaged(bytes: &[u8]) {
    if let Ok(image) = decode(bytes) {
        assert_eq!(image.pixels.len(), image.width as usize * image.height as usize * 3);
    }
}

/// Whatever is done to a file, it is an image or an error.
#[test]
fn damaged_files_do_not_panic() {
    let mut next = random_numbers();
    for whole in kept_files(&[b""]) {
        for round in 0..60 {
            let mut bytes = whole.clone();
            match round % 3 {
                0 => bytes.truncate(next(whole.len())),
                1 => bytes.extend((0..next(40)).map(|i| i as u8)),
                _ => {}
            }
            // Beyond the sizes, which would only make the images large.
            for _ in 0..next(4) {
                let place = 200 + next(bytes.len());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = next(256) as u8;
                }
            }
            decode_damaged(&bytes);
        }
    }
}

/// The same for any bytes of a file, its header among them, with checksums that fit.
#[test]
fn mutated_files_do_not_panic() {
    const MUTATIONS: usize = 4000;
    let mut next = random_numbers();
    for start in [&b"\x89PNG"[..], b"GIF8", b"BM"] {
        let files = kept_files(&[start]);
        assert!(!files.is_empty());
        for round in 0..MUTATIONS {
            let mut bytes = files[round % files.len()].clone();
            for _ in 0..=next(3) {
                let place = next(bytes.len());
                bytes[place] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
            }
            if next(4) == 0 {
                bytes.truncate(next(bytes.len()));
            }
            if start == b"\x89PNG" {
                repair_checksums(&mut bytes);
            }
            decode_damaged(&bytes);
        }
    }
}

/// Writes the checksum of each chunk of a PNG again.
fn repair_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(len) = Bytes(bytes).u32_be(at) {
        let end = at.saturating_add(8).saturating_add(len as usize);
        let Some(content) = bytes.get(at + 4..end) else { return };
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn claimed_sizes_are_refused_before_anything_is_allocated() {
    let mut gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01".to_vec();
    let error = decode(&gif).expect_err("a refusal").to_string();
    assert_eq!(error, "the GIF image has 65535 x 65535 pixels; expected 1 to 178956970 in total");
    gif.truncate(9);
    assert_eq!(decode(&gif), Err(DecodeError::Truncated { format: "GIF" }));
    let bmp = [&b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"[..], &[0xff; 8], &[1, 0, 24, 0], &[0; 24]].concat();
    assert!(matches!(decode(&bmp), Err(DecodeError::Size { .. })));
    let png = |size: &[u8; 8]| {
        let header = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &size[..], b"\x08\x02\0\0\0\0\0\0\0"];
        let mut bytes = [&header.concat()[..], b"\0\0\0\0IDAT\0\0\0\0"].concat();
        repair_checksums(&mut bytes);
        bytes
    };
    let error = decode(&png(b"\xff\xff\xff\xff\0\0\xff\xff")).expect_err("a refusal");
    assert!(matches!(error, DecodeError::Size { width: 0xffff_ffff, height: 0xffff, .. }));
    // A size that is allowed, but more than so few bytes can hold.
    let error = decode(&png(b"\0\0\x27\x10\0\0\x27\x10")).expect_err("a refusal");
    assert_eq!(error, DecodeError::Truncated { format: "PNG" });
}

#[test]
fn refusals_say_what_is_expected() {
    assert_eq!(
        decode(b"").expect_err("a refusal").to_string(),
        "the file is empty; expected a JPEG, PNG, WebP, GIF, BMP, TIFF or PNM image"
    );
    assert_eq!(
        decode(b"some words").expect_err("a refusal").to_string(),
        "not an image of a known format (first bytes 73 6f 6d 65 20 77 6f 72); expected JPEG, PNG, WebP, GIF, BMP, \
         TIFF or PNM"
    );
    assert_eq!(
        decode(b"\0\0\0\x18ftypavif\0\0\0\0").expect_err("a refusal").to_string(),
        "the AVIF format is not decoded\nhint: convert the file to JPEG, PNG, WebP, GIF, BMP, TIFF or PNM"
    );
    assert_eq!(
        decode(b"\xff\xd8\xff\xe0\0\x10JF").expect_err("a refusal").to_string(),
        "the JPEG image is cut short\nhint: copy the file again"
    );
}

/// Neither images that are not decoded nor texts that begin like images are taken for images.
#[test]
fn content_is_named() {
    let dicom = [[0; 128].as_slice(), b"DICM"].concat();
    let cases: [(&[u8], DecodeError); 12] = [
        (
            b"<!DOCTYPE html><html>",
            DecodeError::NoImage("an HTML page, such as the error page of a download"),
        ),
        (
            b"\xef\xbb\xbf\n <HTML>",
            DecodeError::NoImage("an HTML page, such as the error page of a download"),
        ),
        (
            b"<?xml version=\"1.0\"?><Error/>",
            DecodeError::NoImage("an XML file, such as the error of a download"),
        ),
        (b"<?xml version=\"1.0\"?><svg/>", DecodeError::OtherImage("SVG")),
        (
            b"version https://git-lfs.github.com/spec/v1",
            DecodeError::NoImage("a Git LFS pointer, whose content was not fetched (`git lfs pull`)"),
        ),
        (b"\x93NUMPY\x01\0", DecodeError::NoImage("a NumPy array")),
        (&dicom, DecodeError::OtherImage("DICOM")),
        (b"\0\0\0\x18ftypheic", DecodeError::OtherImage("HEIC")),
        (b"\0\0\0\x0cJXL \r\n", DecodeError::OtherImage("JPEG XL")),
        (b"\0\0\0\x20ftypisom", DecodeError::NoImage("a video")),
        (b"BMW and others", DecodeError::Unrecognised { start: "42 4d 57 20 61 6e 64 20".into() }),
        (b"P5 notes", DecodeError::Unrecognised { start: "50 35 20 6e 6f 74 65 73".into() }),
    ];
    for (bytes, error) in cases {
        assert_eq!(probe(bytes), Err(error.clone()));
        assert_eq!(decode(bytes), Err(error));
    }
    for image in [&b"\xff\xd8\xff\xe0"[..], b"II*\0", b"MM\0+", b"P6\n# a comment\n", b"P1 2 2"] {
        assert_eq!(probe(image), Ok(()));
    }
}

/// A damaged JPEG leaves nothing behind that spoils the next one.
#[test]
fn a_damaged_jpeg_does_not_spoil_the_next() {
    let file = std::fs::read(fixtures::kept("odd").join("pillow_hopper_gray.jpg")).expect("a file");
    let first = decode(&file).expect("a picture");
    let table = file.windows(2).position(|pair| pair == [0xff, 0xc4]).expect("a Huffman table");
    let mut damaged = file.clone();
    damaged[table + 5..table + 21].fill(0xff);
    decode(&damaged).expect_err("a refusal");
    assert_eq!(decode(&file).expect("a picture"), first);
}

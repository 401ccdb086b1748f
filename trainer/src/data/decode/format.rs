//! The format of a file, detected from its first bytes. The file name is ignored.

/// Number of bytes that detection needs.
pub const START: usize = 512;

/// A format that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureFormat {
    Jpeg,
    Png,
    Gif,
    Bmp,
    WebP,
    Tiff,
    Pnm,
}

/// The kind of content that the first bytes of a file indicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An image that is decoded.
    Image(PictureFormat),
    /// An image of an unsupported format, by the name of the format.
    OtherImage(&'static str),
    /// A known format that is not an image.
    Other(&'static str),
    /// Unknown content.
    Unknown,
}

/// Detects the content of a file from its first [`START`] bytes.
pub(super) fn recognise(start: &[u8]) -> Content {
    match start {
        [0xff, 0xd8, 0xff, ..] => Content::Image(PictureFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Content::Image(PictureFormat::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Content::Image(PictureFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            Content::Image(PictureFormat::WebP)
        }
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Content::Image(PictureFormat::Tiff),
        // Two letters are not enough for detection: a BMP header is shorter than 256 bytes, and text contains no zeros.
        [b'B', b'M', _, _, _, _, _, _, _, _, _, _, _, _, _, 0, 0, 0, ..] => {
            Content::Image(PictureFormat::Bmp)
        }
        [b'P', b'1'..=b'6', b' ' | b'\t' | b'\n' | b'\r', b'0'..=b'9' | b'#' | b' ' | b'\n' | b'\r', ..] => {
            Content::Image(PictureFormat::Pnm)
        }
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => media(brand),
        _ => other(start),
    }
}

/// Files of the ISO base media format, by their brand.
fn media(brand: &[u8]) -> Content {
    match brand {
        [b'a', b'v', b'i', b'f' | b's', ..] => Content::OtherImage("AVIF"),
        [b'h', b'e', ..] | [b'm', b'i' | b's', b'f', b'1', ..] => Content::OtherImage("HEIC"),
        _ => Content::Other("a video"),
    }
}

/// Formats that are detected but not decoded.
fn other(start: &[u8]) -> Content {
    const IMAGES: [(&[u8], &str); 9] = [
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "Photoshop"),
        (b"\0\0\x01\0", "ICO"),
        (b"P7\n", "PAM"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"DDS ", "DDS"),
    ];
    const FILES: [(&[u8], &str); 9] = [
        (b"version https://git-lfs", "a Git LFS pointer, whose content was not fetched (`git lfs pull`)"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x7fELF", "a program"),
        (b"\0\x05\x16\x07", "a macOS resource file"),
        (b"\xd0\xcf\x11\xe0", "a Windows thumbnail or Office file"),
        (b"\0\0\0\x01Bud1", "a macOS folder file"),
    ];
    let known = |table: &[(&[u8], &'static str)]| {
        table.iter().find(|(magic, _)| start.starts_with(magic)).map(|&(_, name)| name)
    };
    if let Some(name) = known(&IMAGES) {
        return Content::OtherImage(name);
    }
    if let Some(name) = known(&FILES) {
        return Content::Other(name);
    }
    if start.get(128..132) == Some(b"DICM") {
        return Content::OtherImage("DICOM");
    }
    markup(start)
}

/// HTML, SVG and XML.
fn markup(start: &[u8]) -> Content {
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with('<') {
        return Content::Unknown;
    }
    if text.contains("<svg") {
        Content::OtherImage("SVG")
    } else if text.starts_with("<!doctype html") || text.contains("<html") {
        Content::Other("an HTML page, such as the error page of a download")
    } else if text.starts_with("<?xml") {
        Content::Other("an XML file, such as the error of a download")
    } else {
        Content::Unknown
    }
}

//! Images of which only a part is decoded.
//!
//! A crop needs some rows and columns of an image. From a JPEG file the others are not reconstructed, and rows below the
//! crop are not even read. The pixels are bitwise those of the whole image, or on request nearly, and a file is refused
//! exactly if [`decode`](super::decode()) refuses it.

use super::{Component, DecodeError, PictureFormat, RgbImage, can_be_decoded, decode, jpeg};
use std::time::{Duration, Instant};

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Number of columns.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

impl Rect {
    /// All of an image.
    pub fn whole((width, height): (u32, u32)) -> Self {
        Self { left: 0, top: 0, width, height }
    }
}

/// How near the pixels of a part are to those of the whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// They are the same.
    Exact,
    /// JPEG files that have only parts: coarse colours are repeated instead of interpolated, and the image is reduced by 1, 2, 4 or 8 within
    /// the transform.
    Fast {
        /// Pixels of the image for each of the reduced image, in both directions.
        reduction: u32,
    },
}

impl Precision {
    /// Pixels of the image for each of the decoded image, in both directions, if the format can.
    pub fn reduction(self) -> u32 {
        match self {
            Self::Exact => 1,
            Self::Fast { reduction } => reduction,
        }
    }
}

/// Decoded pixels of a part of an image.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Row by row, three bytes a pixel.
    pub pixels: &'a [u8],
    /// The rectangle of the reduced image that the pixels are; it contains the wanted one.
    pub rect: Rect,
    /// Pixels of the image for each of the reduced image, in both directions.
    pub reduction: u32,
    /// Width and height of the reduced image.
    pub size: (u32, u32),
}

/// Buffers for one image after the other.
#[derive(Debug, Default)]
pub struct DecodeBuffers {
    /// A file with a rebuilt header.
    pub(super) file: Vec<u8>,
    /// Pixels of a part.
    pub(super) pixels: Vec<u8>,
    pub(super) components: jpeg::ComponentDecoder,
}

/// Limit on a buffer that is kept for the next image, in bytes.
const MOST_KEPT: usize = 16 << 20;

impl DecodeBuffers {
    /// Releases what an unusually large image needed.
    fn shrink(&mut self) {
        for buffer in [&mut self.file, &mut self.pixels] {
            if buffer.capacity() > MOST_KEPT {
                *buffer = Vec::new();
            }
        }
        self.components.shrink(MOST_KEPT);
    }
}

/// An image whose size is known and whose pixels are decoded on request.
#[derive(Debug)]
pub struct Picture<'a> {
    content: Content<'a>,
    spent: Duration,
}

#[derive(Debug)]
enum Content<'a> {
    Pixels { width: u32, height: u32, pixels: &'a [u8] },
    Decoded(RgbImage),
    Jpeg(jpeg::Opened<'a>),
}

impl<'a> Picture<'a> {
    /// Reads the size of an image file. Files other than JPEG are decoded at once.
    pub fn open(bytes: &'a [u8], buffers: &'a mut DecodeBuffers) -> Result<Self, DecodeError> {
        let start = Instant::now();
        buffers.shrink();
        let content = match can_be_decoded(bytes)? {
            PictureFormat::Jpeg => Content::Jpeg(jpeg::Opened::new(bytes, buffers)?),
            _ => Content::Decoded(decode(bytes)?),
        };
        Ok(Self { content, spent: start.elapsed() })
    }

    /// An image that needs no decoding: `height * width * 3` bytes.
    pub fn of_pixels(width: u32, height: u32, pixels: &'a [u8]) -> Self {
        Self { content: Content::Pixels { width, height, pixels }, spent: Duration::ZERO }
    }

    /// Time that decoding has taken so far.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        match &self.content {
            Content::Pixels { width, height, .. } => (*width, *height),
            Content::Decoded(image) => (image.width, image.height),
            Content::Jpeg(file) => file.size(),
        }
    }

    /// Luma and chroma of at least `wanted`, which lies within the image, reduced by 1, 2, 4 or 8. None if the image has no such
    /// components, or is one that libjpeg must decode: it then has only [`part`](Self::part)s.
    pub fn components(&mut self, wanted: Rect, reduction: u32) -> Option<&[Component]> {
        let start = Instant::now();
        let Content::Jpeg(file) = &mut self.content else { return None };
        let components = file.components(wanted, reduction);
        self.spent += start.elapsed();
        components
    }

    /// Decodes at least `wanted`, which lies within the image.
    pub fn part(&mut self, wanted: Rect, precision: Precision) -> Result<Part<'_>, DecodeError> {
        let start = Instant::now();
        if let Content::Jpeg(file) = &mut self.content
            && !file.decode(wanted, precision)
        {
            self.content = Content::Decoded(decode(file.bytes())?);
        }
        self.spent += start.elapsed();
        let size = self.size();
        let whole = |pixels| Part { pixels, rect: Rect::whole(size), reduction: 1, size };
        Ok(match &self.content {
            Content::Jpeg(file) => file.decoded(),
            Content::Pixels { pixels, .. } => whole(pixels),
            Content::Decoded(image) => whole(&image.pixels),
        })
    }
}

impl<'a> From<&'a RgbImage> for Picture<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self::of_pixels(image.width, image.height, &image.pixels)
    }
}

#[cfg(test)]
pub(super) mod tests;

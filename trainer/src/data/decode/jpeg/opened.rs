//! JPEG files of which a part is decoded.

use super::super::part::{DecodeBuffers, Part, Precision, Rect};
use super::super::{DecodeError, checked_pixels};
use super::turbo::PartDecoder;
use super::{Component, FORMAT, Frame, MAX_SCANS, has_several_scans, is_warning, rebuild_header, scans};

/// Columns beside an exact part that are decoded as well, because smooth upsampling treats the border of what is decoded like
/// that of an image. Four times what it looks at, for components at a quarter of the resolution.
const BORDER: u32 = 4;

/// Bytes after the end marker, which are not read. Where fewer than 512 bytes for each block of a unit are left, libjpeg
/// reads bit by bit; a unit has at most ten blocks.
const AFTER: usize = 512 * 10;

/// A file whose header was read.
#[derive(Debug)]
pub(in crate::data::decode) struct Opened<'a> {
    bytes: &'a [u8],
    frame: Frame,
    /// Offset of the first scan.
    scan: usize,
    /// The rebuilt header.
    buffers: &'a mut DecodeBuffers,
    /// The rectangle and the reduction of the part that was decoded last.
    rect: Rect,
    reduction: u32,
}

impl<'a> Opened<'a> {
    pub(in crate::data::decode) fn new(
        bytes: &'a [u8],
        buffers: &'a mut DecodeBuffers,
    ) -> Result<Self, DecodeError> {
        buffers.file.clear();
        let (frame, scan) = rebuild_header(bytes, &mut buffers.file)?;
        checked_pixels(FORMAT, frame.width.into(), frame.height.into())?;
        let rect = Rect { left: 0, top: 0, width: 0, height: 0 };
        Ok(Self { bytes, frame, scan, buffers, rect, reduction: 1 })
    }

    pub(in crate::data::decode) fn size(&self) -> (u32, u32) {
        (self.frame.width.into(), self.frame.height.into())
    }

    pub(in crate::data::decode) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The part that was decoded last.
    pub(in crate::data::decode) fn decoded(&self) -> Part<'_> {
        let (width, height) = self.size();
        let size = (width.div_ceil(self.reduction), height.div_ceil(self.reduction));
        Part { pixels: &self.buffers.pixels, rect: self.rect, reduction: self.reduction, size }
    }

    /// Decodes the components of a part. None if libjpeg must decode it, or the whole file.
    pub(in crate::data::decode) fn components(
        &mut self,
        wanted: Rect,
        reduction: u32,
    ) -> Option<&[Component]> {
        let several_scans = has_several_scans(self.bytes, self.scan, &self.frame);
        if several_scans {
            return None;
        }
        let end = scans::end(self.bytes, self.scan, several_scans)?;
        let DecodeBuffers { file, components, .. } = self.buffers;
        components.decode(file, &self.bytes[self.scan..end], wanted, reduction)
    }

    /// Decodes a part. False if the whole file must be decoded to know whether it can be.
    pub(in crate::data::decode) fn decode(&mut self, wanted: Rect, precision: Precision) -> bool {
        let several_scans = has_several_scans(self.bytes, self.scan, &self.frame);
        let Some(end) = scans::end(self.bytes, self.scan, several_scans) else { return false };
        if self.frame.components == 4 {
            return false;
        }
        let header = self.buffers.file.len();
        self.buffers.file.extend_from_slice(&self.bytes[self.scan..end]);
        self.buffers.file.resize(header + end - self.scan + AFTER, 0);
        let decoded = self.decode_rows(wanted, precision, several_scans);
        self.buffers.file.truncate(header);
        decoded.is_ok_and(|rect| {
            (self.rect, self.reduction) = (rect, precision.reduction());
            true
        })
    }

    fn decode_rows(
        &mut self,
        wanted: Rect,
        precision: Precision,
        several_scans: bool,
    ) -> Result<Rect, String> {
        let (reduction, exact) = (precision.reduction(), precision == Precision::Exact);
        let mut decoder = PartDecoder::new(MAX_SCANS, exact)?;
        let across = decoder.open(&self.buffers.file)?;
        let (width, _) = self.size();
        let (top, bottom) = (wanted.top / reduction, (wanted.top + wanted.height).div_ceil(reduction));
        let (mut left, mut right) = (0, width.div_ceil(reduction));
        // The blocks of an incomplete progressive image are smoothed, at the sides of a part as at those of the image.
        if !several_scans {
            let (unit, border) = (across / reduction, if exact { BORDER } else { 0 });
            left = (wanted.left / reduction).saturating_sub(border) / unit * unit;
            right = right.min((wanted.left + wanted.width).div_ceil(reduction) + border);
        }
        let rect = Rect { left, top, width: right - left, height: bottom - top };
        match decoder.decode(&self.buffers.file, rect, reduction, &mut self.buffers.pixels) {
            Err(message) if !is_warning(&message) => Err(message),
            _ => Ok(rect),
        }
    }
}

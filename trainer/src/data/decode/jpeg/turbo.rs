//! The functions of libjpeg-turbo that decode a part of an image, which its Rust binding does not have.

use super::super::part::Rect;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;
use turbojpeg::raw;

/// A decoder for one file.
#[derive(Debug)]
pub(super) struct PartDecoder(NonNull<c_void>);

impl PartDecoder {
    /// Smooth upsampling interpolates components that are stored at a lower resolution; otherwise they are repeated.
    pub(super) fn new(scan_limit: u32, smooth_upsampling: bool) -> Result<Self, String> {
        // SAFETY: no argument is a pointer.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let decoder = Self(NonNull::new(handle).ok_or("no memory for a decoder")?);
        decoder.set(raw::TJPARAM_TJPARAM_SCANLIMIT, scan_limit)?;
        decoder.set(raw::TJPARAM_TJPARAM_FASTUPSAMPLE, u32::from(!smooth_upsampling))?;
        Ok(decoder)
    }

    /// Reads the header; returns the width of the units in which blocks of all components are coded.
    pub(super) fn open(&mut self, file: &[u8]) -> Result<u32, String> {
        // SAFETY: the handle is valid until `self` is dropped, and the bytes are only read during the call.
        self.check(unsafe {
            raw::tj3DecompressHeader(self.0.as_ptr(), file.as_ptr(), file.len() as raw::size_t)
        })?;
        // SAFETY: the handle is valid until `self` is dropped.
        let subsampling = unsafe { raw::tj3Get(self.0.as_ptr(), raw::TJPARAM_TJPARAM_SUBSAMP as c_int) };
        unit_width(subsampling).ok_or_else(|| "unusual sampling of components".into())
    }

    /// Decodes a rectangle of the opened file as RGB, after a reduction of the image by 1, 2, 4 or 8. The rectangle
    /// begins with a reduced unit. Of a file of one scan, rows below the rectangle are not read.
    pub(super) fn decode(
        &mut self,
        file: &[u8],
        rect: Rect,
        reduction: u32,
        pixels: &mut Vec<u8>,
    ) -> Result<(), String> {
        let pitch = rect.width as usize * 3;
        let bytes = pitch * rect.height as usize;
        if pixels.len() < bytes {
            pixels.resize(bytes, 0);
        }
        let factor = raw::tjscalingfactor { num: 1, denom: reduction as c_int };
        let [x, y, w, h] = [rect.left, rect.top, rect.width, rect.height].map(|side| side as c_int);
        // SAFETY: the handle is valid until `self` is dropped.
        self.check(unsafe { raw::tj3SetScalingFactor(self.0.as_ptr(), factor) })?;
        // SAFETY: as above. The call refuses a rectangle outside of the image.
        self.check(unsafe { raw::tj3SetCroppingRegion(self.0.as_ptr(), raw::tjregion { x, y, w, h }) })?;
        // SAFETY: as above. `pixels` has `h` rows of `pitch` bytes for `w` pixels of three bytes, which is what the call
        // writes: the region was accepted for the header of the same file.
        self.check(unsafe {
            raw::tj3Decompress8(
                self.0.as_ptr(),
                file.as_ptr(),
                file.len() as raw::size_t,
                pixels.as_mut_ptr(),
                pitch as c_int,
                raw::TJPF_TJPF_RGB as c_int,
            )
        })
    }

    fn set(&self, parameter: raw::TJPARAM, value: u32) -> Result<(), String> {
        // SAFETY: the handle is valid until `self` is dropped.
        self.check(unsafe { raw::tj3Set(self.0.as_ptr(), parameter as c_int, value as c_int) })
    }

    /// The message of a call that failed or warned.
    fn check(&self, status: c_int) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid, and the text that it owns is copied before the next call.
        let message = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.0.as_ptr())) };
        Err(message.to_string_lossy().into_owned())
    }
}

impl Drop for PartDecoder {
    fn drop(&mut self) {
        // SAFETY: the handle is valid, and nothing uses it afterwards.
        unsafe { raw::tj3Destroy(self.0.as_ptr()) }
    }
}

/// Width of the coding unit of a kind of subsampling.
fn unit_width(subsampling: raw::TJSAMP) -> Option<u32> {
    Some(match subsampling {
        raw::TJSAMP_TJSAMP_444
        | raw::TJSAMP_TJSAMP_GRAY
        | raw::TJSAMP_TJSAMP_440
        | raw::TJSAMP_TJSAMP_441 => 8,
        raw::TJSAMP_TJSAMP_422 | raw::TJSAMP_TJSAMP_420 => 16,
        raw::TJSAMP_TJSAMP_411 => 32,
        _ => return None,
    })
}

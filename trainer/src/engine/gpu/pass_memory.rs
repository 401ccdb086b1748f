//! How many images fit into the GPU's memory, from the pass that did not fit.
//!
//! A pass notes what was in use when it began and how many of its parts it has passed. If memory runs out in it, the need
//! of the whole pass follows from what it used so far, and so does the number of images that fit.

use super::memory::{allocated, room};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::Device;

/// The pass under way: of the main thread, which makes one at a time.
static PASS: Mutex<Option<PassUnderWay>> = Mutex::new(None);

/// Share of the room that the estimate fills: blocks of memory do not fit together without gaps.
const FILLED: f64 = 0.9;
/// Without gradients, a pass needs what its largest part needs; this is how much more that may be than what was seen.
const LARGEST_PART: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
struct PassUnderWay {
    device: Device,
    images: u64,
    /// Bytes of tensors when it began.
    before: u64,
    /// Parts whose activations are kept, of how many; none where none are.
    kept: Option<(u32, u32)>,
}

/// Ends the note when the pass ends.
#[derive(Debug)]
pub struct PassMemory(());

impl PassMemory {
    /// Notes a pass of so many images; `parts` keep their activations for the backward pass.
    pub fn begin(device: Device, images: u64, parts: usize) -> Option<Self> {
        let before = allocated(device)?;
        let kept = (parts > 0).then_some((0, parts as u32));
        *pass() = Some(PassUnderWay { device, images, before, kept });
        Some(Self(()))
    }

    /// One more part keeps its activations.
    pub fn part_done(&self) {
        if let Some(PassUnderWay { kept: Some((done, _)), .. }) = pass().as_mut() {
            *done += 1;
        }
    }
}

impl Drop for PassMemory {
    fn drop(&mut self) {
        *pass() = None;
    }
}

fn pass() -> MutexGuard<'static, Option<PassUnderWay>> {
    PASS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a pass through the model is under way.
pub fn is_under_way() -> bool {
    pass().is_some()
}

/// The number of images that should fit, after an allocation of `asked` bytes has failed; none outside of a pass, or if not
/// even one image fits.
pub fn images_that_fit(asked: u64) -> Option<u64> {
    let pass = (*pass())?;
    pass.fitting(allocated(pass.device)?, room(pass.device)?, asked)
}

impl PassUnderWay {
    /// With `allocated` bytes of tensors and `room` for more, when `asked` were refused.
    fn fitting(&self, allocated: u64, room: u64, asked: u64) -> Option<u64> {
        let used = (allocated.saturating_sub(self.before) + asked) as f64;
        let needed = match self.kept {
            // The part in which it failed counts as done.
            Some((done, all)) => used * f64::from(all) / f64::from((done + 1).min(all)),
            None => used * LARGEST_PART,
        };
        let available = (allocated + room).saturating_sub(self.before) as f64;
        let images = (self.images as f64 * FILLED * available / needed) as u64;
        let images = images.min(self.images / 2);
        (images > 0).then(|| 1 << images.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn pass(kept: Option<(u32, u32)>) -> PassUnderWay {
        PassUnderWay { device: Device::Cuda(0), images: 128, before: 2 * GB, kept }
    }

    #[test]
    fn the_need_of_a_pass_follows_from_its_part() {
        // Half of the blocks took all 8 GB: 128 images need 16 GB, and 57 of them 7.2 GB.
        assert_eq!(pass(Some((5, 12))).fitting(9 * GB, GB, GB), Some(32));
        // The backward pass has all of them.
        assert_eq!(pass(Some((12, 12))).fitting(10 * GB, 0, GB), Some(64));
        assert_eq!(pass(None).fitting(9 * GB, GB, GB), Some(32));
    }

    #[test]
    fn nothing_is_said_where_one_image_does_not_fit() {
        let one = PassUnderWay { images: 1, ..pass(None) };
        assert_eq!(one.fitting(9 * GB, GB, GB), None);
        assert_eq!(pass(None).fitting(2 * GB, 0, GB), None);
    }
}

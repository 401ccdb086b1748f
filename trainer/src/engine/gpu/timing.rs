//! Seconds of work on a device, by measurement at the start of a run.

use std::convert::Infallible;
use std::time::Instant;
use tch::{Cuda, Device};

/// Seconds of one pass: of the fastest of `times` measurements of `passes` passes. Waits for the device before and after each.
pub(in crate::engine) fn seconds_of_pass(
    device: Device,
    (times, passes): (usize, usize),
    mut pass: impl FnMut(),
) -> f64 {
    let Ok(seconds) = try_seconds_of_pass(device, (times, passes), || {
        pass();
        Ok::<(), Infallible>(())
    });
    seconds
}

/// The same for passes that may fail; ends with the first failure.
pub(in crate::engine) fn try_seconds_of_pass<E>(
    device: Device,
    (times, passes): (usize, usize),
    mut pass: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    let mut fastest = f64::INFINITY;
    for _ in 0..times {
        finish(device);
        let start = Instant::now();
        (0..passes).try_for_each(|_| pass())?;
        finish(device);
        fastest = fastest.min(start.elapsed().as_secs_f64() / passes as f64);
    }
    Ok(fastest)
}

/// Waits for a GPU. A CPU has done its work when a call returns.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_made_until_one_fails() {
        let mut made = 0;
        assert!(seconds_of_pass(Device::Cpu, (3, 4), || made += 1) >= 0.0);
        assert_eq!(made, 12);
        let failing = try_seconds_of_pass(Device::Cpu, (3, 4), || {
            made += 1;
            if made == 18 { Err("the sixth") } else { Ok(()) }
        });
        assert_eq!((failing, made), (Err("the sixth"), 18));
    }
}

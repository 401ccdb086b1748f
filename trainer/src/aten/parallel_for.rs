//! Loops on libtorch's compute threads.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    fn torch_parallel_for(
        begin: i64,
        end: i64,
        grain: i64,
        body: extern "C" fn(i64, i64, *mut c_void),
        context: *mut c_void,
    ) -> c_int;
}

/// Calls `body` for parts of `0..length`, on all compute threads.
///
/// # Panics
/// If `body` panics.
pub fn parallel_for<F: Fn(Range<i64>) + Sync>(length: i64, body: &F) {
    let mut context = Context { body, panicked: AtomicBool::new(false) };
    // SAFETY: libtorch calls `part` with this context only, and returns when all parts are done.
    let code = unsafe { torch_parallel_for(0, length, 1, part::<F>, (&raw mut context).cast()) };
    assert!(code == 0 && !context.panicked.into_inner(), "a part of a loop on several threads failed");
}

struct Context<'a, F> {
    body: &'a F,
    panicked: AtomicBool,
}

extern "C" fn part<F: Fn(Range<i64>) + Sync>(begin: i64, end: i64, context: *mut c_void) {
    // SAFETY: it is the context of the call under way, which is shared between threads.
    let Context { body, panicked } = unsafe { &*context.cast::<Context<'_, F>>() };
    // A panic must not unwind into libtorch; the thread that waits passes it on.
    if catch_unwind(AssertUnwindSafe(|| body(begin..end))).is_err() {
        panicked.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

    #[test]
    fn every_number_is_passed_once() {
        let sum = AtomicI64::new(0);
        parallel_for(1000, &|range: Range<i64>| {
            sum.fetch_add(range.sum::<i64>(), Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 499_500);
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller() {
        let failing = || parallel_for(10, &|range: Range<i64>| assert!(!range.contains(&7), "seven"));
        assert!(catch_unwind(failing).is_err());
    }
}

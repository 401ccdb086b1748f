//! Memory of CPU tensors that is kept for the next tensor of about the same size.
//!
//! Every step makes and frees the same tensors, of a few sizes and megabytes each. The C library's allocator divides what was
//! freed for large ones among small ones that stay, so the process grows by half of what it needs, and gives pages back to the
//! system that the next step asks for again.

mod pool;

use pool::Pool;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

unsafe extern "C" {
    fn trainer_allocate_by(
        take: extern "C" fn(usize) -> *mut c_void,
        give: extern "C" fn(*mut c_void) -> bool,
    );
}

/// Bytes from which on a tensor's memory is kept. Smaller ones stay with the C library.
const SMALLEST: usize = 256 << 10;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());
static INSTALLED: Once = Once::new();

/// From now on, CPU tensors of this process reuse memory. What is kept unused is at most an eighth of the most that was in use.
pub fn cache_cpu_tensors() {
    // SAFETY: both functions may be called from any thread at any time. `take` returns memory that nobody else uses until
    // it comes back to `give`.
    INSTALLED.call_once(|| unsafe { trainer_allocate_by(take, give) });
}

/// Bytes that CPU tensors of this process use now, small ones not counted.
pub fn bytes_of_cpu_tensors() -> usize {
    pool().used_bytes()
}

/// Memory of at least this size, or null if libtorch should ask elsewhere.
extern "C" fn take(bytes: usize) -> *mut c_void {
    if bytes < SMALLEST {
        return ptr::null_mut();
    }
    pool().take(bytes).map_or(ptr::null_mut(), |place| place.as_ptr().cast())
}

/// Takes memory back; false if it is not of the pool.
extern "C" fn give(place: *mut c_void) -> bool {
    pool().give(place.addr())
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn tensors_reuse_the_memory_of_others() {
        cache_cpu_tensors();
        let tensor = |value: f64| Tensor::full([3 << 18], value, (Kind::Float, Device::Cpu));
        let (kept, freed) = (tensor(1.0), tensor(2.0));
        drop(freed);
        let next = tensor(3.0);
        let (doubled, grown) = (&kept * 2.0, Tensor::cat(&[&kept, &next, &kept], 0));
        assert_eq!(
            [&kept, &next, &doubled].map(|tensor| tensor.mean(Kind::Float).double_value(&[])),
            [1.0, 3.0, 2.0]
        );
        assert_eq!(grown.sum(Kind::Double).double_value(&[]), 5.0 * f64::from(3 << 18));
        assert!(pool().holds(kept.data_ptr().addr()));
        // A storage that grows is allocated anew, and its small predecessor goes back to the C library.
        let mut small = Tensor::full([4], 7.0, (Kind::Float, Device::Cpu));
        assert!(!pool().holds(small.data_ptr().addr()));
        let _ = small.resize_([1 << 18]);
        assert!(pool().holds(small.data_ptr().addr()));
        assert_eq!(small.narrow(0, 0, 4).sum(Kind::Float).double_value(&[]), 28.0);
    }
}

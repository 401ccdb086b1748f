//! The kernel of libtorch that computes attention on a GPU.
//!
//! libtorch tries its kernels in an order, and takes the first that serves the tensors. What is preferred here comes first in that
//! order: attention of another shape, such as that of a pooling head, is still computed if the preferred kernel does not serve it.

use super::refusal::reason;
use crate::config::AttentionName;
use std::ffi::{CStr, c_char, c_int, c_void};
use tch::{Device, Tensor};

unsafe extern "C" {
    fn trainer_prefer_attention(index: c_int, kernel: c_int) -> c_int;
    fn trainer_attention_kernel(query: *const c_void, key: *const c_void, value: *const c_void) -> c_int;
    fn trainer_attention_is_refused(
        kernel: c_int,
        query: *const c_void,
        key: *const c_void,
        value: *const c_void,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// Bytes of a reason of libtorch, as far as it is reported.
const REASON: usize = 1024;
/// Stands for the order that libtorch has by itself.
const OWN_ORDER: c_int = -1;

/// The kernels of libtorch that the option names.
const KERNELS: [AttentionName; 4] =
    [AttentionName::Flash, AttentionName::Efficient, AttentionName::CuDnn, AttentionName::Math];

/// Queries, keys and values, each `[images, heads, tokens, head width]`.
pub(in crate::engine) type Inputs = [Tensor; 3];

/// libtorch's number of a kernel.
fn number(kernel: AttentionName) -> c_int {
    match kernel {
        AttentionName::Auto => OWN_ORDER,
        AttentionName::Math => 0,
        AttentionName::Flash => 1,
        AttentionName::Efficient => 2,
        AttentionName::CuDnn => 3,
    }
}

/// Lets libtorch try this kernel before the others; `auto` is its own order. False if libtorch refuses.
#[must_use]
pub(in crate::engine) fn prefer(kernel: AttentionName, device: Device) -> bool {
    let Device::Cuda(index) = device else { return true };
    // SAFETY: takes numbers; the shim catches every exception.
    unsafe { trainer_prefer_attention(index as c_int, number(kernel)) == 0 }
}

/// The kernel that libtorch takes for these tensors; none if it takes one that is no word of the option.
pub(in crate::engine) fn taken([query, key, value]: &Inputs) -> Option<AttentionName> {
    // SAFETY: the tensors live for the call; the shim catches every exception.
    let found = unsafe {
        trainer_attention_kernel(query.as_ptr().cast(), key.as_ptr().cast(), value.as_ptr().cast())
    };
    KERNELS.into_iter().find(|&kernel| number(kernel) == found)
}

/// Why libtorch does not compute attention over these tensors with this kernel; none if it does.
pub(in crate::engine) fn refusal(kernel: AttentionName, [query, key, value]: &Inputs) -> Option<String> {
    let mut message = [0; REASON];
    // SAFETY: the tensors live for the call, and the shim writes at most `REASON` bytes, the last of them zero. It catches
    // every exception.
    let code = unsafe {
        let (query, key, value) = (query.as_ptr().cast(), key.as_ptr().cast(), value.as_ptr().cast());
        trainer_attention_is_refused(number(kernel), query, key, value, message.as_mut_ptr(), REASON)
    };
    // SAFETY: the shim ends every message with a zero byte.
    let said = || unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy();
    (code != 0).then(|| reason(said()))
}

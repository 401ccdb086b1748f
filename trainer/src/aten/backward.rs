//! The backward pass from a tensor whose gradient is known.

use std::ffi::{CStr, c_char, c_int, c_void};
use tch::Tensor;

unsafe extern "C" {
    fn trainer_backward(
        output: *const c_void,
        gradient: *const c_void,
        keep_graph: c_int,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// Bytes of a message of libtorch, as far as it is reported.
const MESSAGE: usize = 1024;

/// Runs the backward pass of `output`, whose gradient is `gradient`, into the leaves of its graph. With `keep_graph`, parts of
/// the graph may be passed again from another tensor.
///
/// # Panics
/// As every operation of tch: if memory runs out, with libtorch's message.
pub fn backward_from(output: &Tensor, gradient: &Tensor, keep_graph: bool) {
    if let Err(said) = try_backward_from(output, gradient, keep_graph) {
        panic!("the backward pass failed: {said}");
    }
}

/// The same, with the message of libtorch if it fails.
pub fn try_backward_from(output: &Tensor, gradient: &Tensor, keep_graph: bool) -> Result<(), String> {
    let mut message = [0; MESSAGE];
    // SAFETY: both tensors live for the call, and the shim writes at most `MESSAGE` bytes, the last of them zero. It
    // catches every exception.
    let code = unsafe {
        let (output, gradient) = (output.as_ptr().cast(), gradient.as_ptr().cast());
        trainer_backward(output, gradient, c_int::from(keep_graph), message.as_mut_ptr(), MESSAGE)
    };
    // SAFETY: the shim ends every message with a zero byte.
    let said = || unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
    if code == 0 { Ok(()) } else { Err(said()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Tensor {
        Tensor::from_slice(&[1.0_f64, 2.0, 3.0]).set_requires_grad(true)
    }

    #[test]
    fn a_backward_pass_starts_from_a_gradient() {
        let x = leaf();
        let gradient = Tensor::from_slice(&[1.0_f64, 10.0, 100.0]);
        backward_from(&x.square(), &gradient, false);
        assert_eq!(Vec::<f64>::try_from(x.grad()).unwrap(), [2.0, 40.0, 600.0]);
    }

    #[test]
    fn a_kept_graph_is_passed_again() {
        let x = leaf();
        let y = x.square();
        let ones = y.ones_like();
        backward_from(&y, &ones, true);
        backward_from(&y, &ones, false);
        assert_eq!(Vec::<f64>::try_from(x.grad()).unwrap(), [4.0, 8.0, 12.0]);
    }

    #[test]
    fn a_failure_has_the_message_of_libtorch() {
        let panic = std::panic::catch_unwind(|| {
            backward_from(&Tensor::from_slice(&[1.0_f64]), &Tensor::from_slice(&[1.0_f64]), false);
        });
        let said = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(said.starts_with("the backward pass failed: ") && said.contains("grad"), "{said}");
    }
}

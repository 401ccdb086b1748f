//! Calls of an operation by its name, with the values of its schema.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Once;
use tch::Tensor;

/// The version of libtorch whose conventions for values this file follows: 2.10.
const CONVENTIONS: u64 = (2 << 56) | (10 << 48);

type Handle = *mut c_void;

unsafe extern "C" {
    fn torch_call_dispatcher(
        name: *const c_char,
        overload: *const c_char,
        stack: *mut u64,
        conventions: u64,
    ) -> c_int;
    fn aoti_torch_new_tensor_handle(tensor: *const c_void, copy: *mut Handle) -> c_int;
    fn torch_new_list_reserve_size(size: usize, list: *mut Handle) -> c_int;
    fn torch_list_push_back(list: Handle, value: u64) -> c_int;
    fn torch_new_string_handle(text: *const c_char, length: usize, string: *mut Handle) -> c_int;
    fn trainer_log_nothing();
    /// C++'s `operator new`, whose memory libtorch frees with `delete`.
    #[link_name = "_Znwm"]
    fn operator_new(size: usize) -> *mut c_void;
}

/// A value of an operation's schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Tensor(&'a Tensor),
    Tensors(&'a [&'a Tensor]),
    /// An argument of an optional type that has a value.
    Some(&'a Value<'a>),
    None,
    Text(&'a str),
    /// A list without elements, of any type.
    Empty,
    Float(f64),
    Int(i64),
    Bool(bool),
}

/// An operation that libtorch refused. Its C interface does not say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("libtorch refuses the operation `{0}`")]
pub struct Refused(&'static str);

impl Value<'_> {
    /// The value as a word of libtorch's stack, which owns what it refers to.
    ///
    /// # Safety
    /// The word must be passed to libtorch once: it frees the object behind it.
    unsafe fn word(self) -> Option<u64> {
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: each call gets valid pointers and writes a new handle, which is passed on; the result is checked.
        unsafe {
            let made = match self {
                Self::Tensor(tensor) => aoti_torch_new_tensor_handle(tensor.as_ptr().cast(), &raw mut handle),
                Self::Tensors(tensors) => {
                    let made = torch_new_list_reserve_size(tensors.len(), &raw mut handle);
                    for tensor in tensors {
                        if made != 0 || torch_list_push_back(handle, Value::Tensor(tensor).word()?) != 0 {
                            return None;
                        }
                    }
                    made
                }
                Self::Some(value) => {
                    let word = value.word()?;
                    handle = operator_new(size_of::<u64>());
                    handle.cast::<u64>().write(word);
                    0
                }
                Self::Text(text) => {
                    torch_new_string_handle(text.as_ptr().cast(), text.len(), &raw mut handle)
                }
                Self::Empty => torch_new_list_reserve_size(0, &raw mut handle),
                Self::None => 0,
                Self::Float(value) => return Some(value.to_bits()),
                Self::Int(value) => return Some(value.cast_unsigned()),
                Self::Bool(value) => return Some(u64::from(value)),
            };
            (made == 0).then_some(handle as u64)
        }
    }
}

/// Calls an operation that returns one tensor.
pub(super) fn tensor(
    name: &'static str,
    operation: &CStr,
    arguments: &[Value<'_>],
) -> Result<Tensor, Refused> {
    let results = call(name, operation, c"", arguments)?;
    // SAFETY: libtorch returns an owned tensor as the first word, which becomes the only owner.
    Ok(unsafe { Tensor::from_ptr(results[0] as *mut torch_sys::C_tensor) })
}

/// Calls an operation, and returns the words of its stack: first those of its results.
pub(super) fn call(
    name: &'static str,
    operation: &CStr,
    overload: &CStr,
    arguments: &[Value<'_>],
) -> Result<Vec<u64>, Refused> {
    static QUIET: Once = Once::new();
    // SAFETY: sets a number that libtorch reads when it logs.
    QUIET.call_once(|| unsafe { trainer_log_nothing() });
    let mut stack = Vec::with_capacity(arguments.len().max(1));
    for argument in arguments {
        // SAFETY: the words go to libtorch in the call below.
        stack.push(unsafe { argument.word() }.ok_or(Refused(name))?);
    }
    stack.resize(stack.len().max(1), 0);
    // SAFETY: both names end in a zero byte, and the stack has a word for every argument and for the one result that the
    // operations of this module have at most. libtorch catches every exception.
    let code = unsafe {
        torch_call_dispatcher(operation.as_ptr(), overload.as_ptr(), stack.as_mut_ptr(), CONVENTIONS)
    };
    if code == 0 { Ok(stack) } else { Err(Refused(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_called_by_its_name_and_a_wrong_name_is_refused() {
        let x = Tensor::from_slice(&[1.0_f32, -2.0]);
        let y = tensor("relu", c"aten::relu", &[Value::Tensor(&x)]).unwrap();
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [1.0, 0.0]);
        let error = tensor("nothing", c"aten::nothing", &[Value::Tensor(&x)]).unwrap_err();
        assert_eq!(error.to_string(), "libtorch refuses the operation `nothing`");
    }
}

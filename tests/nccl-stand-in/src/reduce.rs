//! Reduction of the elements of all ranks, always in rank order.

use half::bf16;

/// The supported values of `ncclDataType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    U8,
    I64,
    F32,
    F64,
    BF16,
}

impl ElementType {
    pub(crate) const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::U8,
            4 => Self::I64,
            7 => Self::F32,
            8 => Self::F64,
            9 => Self::BF16,
            _ => return None,
        })
    }

    pub(crate) const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::BF16 => 2,
            Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// The supported values of `ncclRedOp_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Sum,
    Max,
    Min,
}

impl Op {
    pub(crate) const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::Sum,
            2 => Self::Max,
            3 => Self::Min,
            _ => return None,
        })
    }
}

/// Reduces `count` elements at each of `inputs` into `output`.
///
/// # Safety
/// Every pointer must point to `count` elements of `kind`; `output` must not overlap with `inputs`.
pub(crate) unsafe fn reduce(inputs: &[*const u8], output: *mut u8, count: usize, kind: ElementType, op: Op) {
    // SAFETY: guaranteed by the caller, for the type of `kind`.
    unsafe {
        match kind {
            ElementType::U8 => fold(inputs, output, count, |v: u8| v, |v| v, binary_op(op, u8::wrapping_add)),
            ElementType::I64 => {
                fold(inputs, output, count, |v: i64| v, |v| v, binary_op(op, i64::wrapping_add));
            }
            ElementType::F32 => fold(inputs, output, count, |v: f32| v, |v| v, binary_op(op, |a, b| a + b)),
            ElementType::F64 => fold(inputs, output, count, |v: f64| v, |v| v, binary_op(op, |a, b| a + b)),
            // Summed in f32, rounded once.
            ElementType::BF16 => {
                fold(inputs, output, count, bf16::to_f32, bf16::from_f32, binary_op(op, |a: f32, b| a + b));
            }
        }
    }
}

/// The reduction of two values. Minimum and maximum of a value and NaN are the second one, because the comparison is
/// false.
fn binary_op<T: PartialOrd + Copy>(op: Op, sum: fn(T, T) -> T) -> impl Fn(T, T) -> T {
    move |a, b| match op {
        Op::Sum => sum(a, b),
        Op::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Op::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

/// # Safety
/// As [`reduce`], for elements `E`.
unsafe fn fold<E: Copy, V: Copy>(
    inputs: &[*const u8],
    output: *mut u8,
    count: usize,
    widen: fn(E) -> V,
    narrow: fn(V) -> E,
    combine: impl Fn(V, V) -> V,
) {
    for index in 0..count {
        // SAFETY: `index` is below `count`; the access is unaligned, because a buffer may start at any address.
        unsafe {
            let at = |input: &*const u8| widen(input.cast::<E>().add(index).read_unaligned());
            if let Some(value) = inputs.iter().map(at).reduce(&combine) {
                output.cast::<E>().add(index).write_unaligned(narrow(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_summed_in_f32_and_rounded_once() {
        // 256 + 1 + 1: with rounding after each addition, the sum would stay at 256.
        let ranks = [256.0f32, 1.0, 1.0].map(|v| [bf16::from_f32(v)]);
        let inputs = ranks.each_ref().map(|r| r.as_ptr().cast::<u8>());
        let mut output = [bf16::ZERO];
        // SAFETY: all pointers point to one element.
        unsafe { reduce(&inputs, output.as_mut_ptr().cast(), 1, ElementType::BF16, Op::Sum) };
        assert_eq!(output[0].to_f32(), 258.0);
    }
}

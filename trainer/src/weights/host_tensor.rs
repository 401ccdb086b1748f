//! Tensors in host memory as plain bytes, and the comparison of a set of them with the tensors of a model.
//!
//! The official loader silently skips tensors that do not fit (`strict=False`, heads of another size); here a
//! checkpoint fits exactly or is refused with the full list of differences.

use super::dtype::DType;
use std::collections::BTreeMap;
use std::fmt;

/// A full tensor: contiguous, row-major, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The numbers.
    pub bytes: Vec<u8>,
}

impl HostTensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether no element is infinite or not a number. True for integers.
    pub fn all_finite(&self) -> bool {
        all_finite(self.dtype, &self.bytes)
    }
}

/// Whether no element is infinite or not a number: the exponent of those is all ones. True for integers.
pub fn all_finite(dtype: DType, bytes: &[u8]) -> bool {
    match dtype {
        DType::F64 => {
            bytes.as_chunks().0.iter().all(|&b| u64::from_le_bytes(b) & F64_EXPONENT != F64_EXPONENT)
        }
        DType::F32 => {
            bytes.as_chunks().0.iter().all(|&b| u32::from_le_bytes(b) & F32_EXPONENT != F32_EXPONENT)
        }
        DType::F16 => {
            bytes.as_chunks().0.iter().all(|&b| u16::from_le_bytes(b) & F16_EXPONENT != F16_EXPONENT)
        }
        DType::Bf16 => {
            bytes.as_chunks().0.iter().all(|&b| u16::from_le_bytes(b) & BF16_EXPONENT != BF16_EXPONENT)
        }
        _ => true,
    }
}

const F64_EXPONENT: u64 = 0x7ff0_0000_0000_0000;
const F32_EXPONENT: u32 = 0x7f80_0000;
const F16_EXPONENT: u16 = 0x7c00;
const BF16_EXPONENT: u16 = 0x7f80;

/// Most lines of each kind that [`MismatchError`] prints.
const MAX_LISTED: usize = 8;

/// The differences between a set of tensors and those of the model.
///
/// Displayed as one sentence, then a line for each difference (the first eight of each kind).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MismatchError {
    /// Missing tensors, with the expected shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Unexpected tensors, with the shape found.
    pub left_over: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: name, expected, found.
    pub reshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors with an element that is infinite or not a number.
    pub not_finite: Vec<String>,
}

/// Compares names, shapes and finiteness. Any element type is accepted: checkpoints may be saved in half precision.
pub fn match_exact(
    expected: &BTreeMap<String, Vec<usize>>,
    found: &BTreeMap<String, HostTensor>,
) -> Result<(), MismatchError> {
    let mut error = MismatchError::default();
    for (name, shape) in expected {
        match found.get(name) {
            None => error.missing.push((name.clone(), shape.clone())),
            Some(tensor) if tensor.shape != *shape => {
                error.reshaped.push((name.clone(), shape.clone(), tensor.shape.clone()));
            }
            Some(_) => {}
        }
    }
    for (name, tensor) in found {
        if !expected.contains_key(name) {
            error.left_over.push((name.clone(), tensor.shape.clone()));
        }
        if !tensor.all_finite() {
            error.not_finite.push(name.clone());
        }
    }
    if error == MismatchError::default() { Ok(()) } else { Err(error) }
}

impl fmt::Display for MismatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.missing.len(), "missing"),
            (self.left_over.len(), "left over"),
            (self.reshaped.len(), "of another shape"),
            (self.not_finite.len(), "not finite"),
        ];
        write!(f, "the tensors do not fit the model: ")?;
        for (position, (count, what)) in counts.iter().filter(|(count, _)| *count > 0).enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {what}")?;
        }
        list(f, &self.missing, |f, (name, shape)| write!(f, "missing: `{name}` {shape:?}"))?;
        list(f, &self.left_over, |f, (name, shape)| write!(f, "left over: `{name}` {shape:?}"))?;
        list(f, &self.reshaped, |f, (name, expected, found)| {
            write!(f, "of another shape: `{name}` is {found:?}, expected {expected:?}")
        })?;
        list(f, &self.not_finite, |f, name| {
            write!(f, "not finite: `{name}` contains a value that is infinite or not a number")
        })?;
        Ok(())
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut line: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for item in items.iter().take(MAX_LISTED) {
        write!(f, "\n  ")?;
        line(f, item)?;
    }
    match items.len().checked_sub(MAX_LISTED + 1) {
        Some(rest) => write!(f, "\n  ... and {} more", rest + 1),
        None => Ok(()),
    }
}

impl std::error::Error for MismatchError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(items: &[(&str, &[usize])]) -> BTreeMap<String, Vec<usize>> {
        items.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    fn tensors(items: &[(&str, &[usize])]) -> BTreeMap<String, HostTensor> {
        let zeros = |shape: &[usize]| HostTensor {
            dtype: DType::F32,
            shape: shape.to_vec(),
            bytes: vec![0; 4 * shape.iter().product::<usize>()],
        };
        items.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect()
    }

    #[test]
    fn equal_sets_match() {
        let names: &[(&str, &[usize])] = &[("head.weight", &[10, 4]), ("tuner.a", &[1])];
        assert_eq!(match_exact(&shapes(names), &tensors(names)), Ok(()));
    }

    #[test]
    fn every_difference_is_listed() {
        let expected = shapes(&[("a", &[1, 128]), ("b", &[2]), ("c", &[])]);
        let mut found = tensors(&[("b", &[2, 1]), ("c", &[]), ("d", &[3])]);
        found.get_mut("c").expect("c is there").bytes = f32::NAN.to_le_bytes().to_vec();
        let error = match_exact(&expected, &found).expect_err("they differ");
        assert_eq!(
            error.to_string(),
            "the tensors do not fit the model: 1 missing, 1 left over, 1 of another shape, 1 not finite\n  \
             missing: `a` [1, 128]\n  \
             left over: `d` [3]\n  \
             of another shape: `b` is [2, 1], expected [2]\n  \
             not finite: `c` contains a value that is infinite or not a number"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..11).map(|i| format!("t{i:02}")).collect();
        let expected = names.iter().map(|name| (name.clone(), vec![1])).collect();
        let text = match_exact(&expected, &BTreeMap::new()).expect_err("all are missing").to_string();
        assert!(text.ends_with("missing: `t07` [1]\n  ... and 3 more"), "{text}");
        assert_eq!(text.lines().count(), 10);
    }

    #[test]
    fn finiteness_is_seen_in_every_type() {
        let mut cases: Vec<(DType, Vec<u8>, bool)> = vec![(DType::I64, vec![0xff; 8], true)];
        for value in [0.0, -0.0, 1.5, f64::MAX, f64::MIN_POSITIVE / 4.0] {
            cases.push((DType::F64, value.to_le_bytes().to_vec(), true));
        }
        for value in [f32::MAX, f32::MIN] {
            cases.push((DType::F32, value.to_le_bytes().to_vec(), true));
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            cases.push((DType::F32, value.to_le_bytes().to_vec(), false));
            cases.push((DType::F64, f64::from(value).to_le_bytes().to_vec(), false));
            cases.push((DType::F16, half::f16::from_f32(value).to_le_bytes().to_vec(), false));
            cases.push((DType::Bf16, half::bf16::from_f32(value).to_le_bytes().to_vec(), false));
        }
        cases.push((DType::F16, half::f16::MAX.to_le_bytes().to_vec(), true));
        cases.push((DType::Bf16, half::bf16::MAX.to_le_bytes().to_vec(), true));
        for (dtype, bytes, finite) in cases {
            assert_eq!(all_finite(dtype, &bytes), finite, "{dtype:?} {bytes:?}");
        }
    }
}

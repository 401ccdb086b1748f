//! Types of the values that are passed to NCCL.

use crate::ffi::RawUniqueId;
use std::ffi::c_int;

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// 64-bit signed integer.
    I64,
    /// Byte.
    U8,
    /// bfloat16.
    BF16,
}

impl DataType {
    /// Size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// `ncclDataType_t`.
    pub(crate) const fn code(self) -> c_int {
        match self {
            Self::U8 => 1,
            Self::I64 => 4,
            Self::F32 => 7,
            Self::F64 => 8,
            Self::BF16 => 9,
        }
    }
}

/// Reduction over ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedOp {
    /// Sum over ranks.
    Sum,
    /// Maximum over ranks.
    Max,
    /// Minimum over ranks.
    Min,
}

impl RedOp {
    /// `ncclRedOp_t`.
    pub(crate) const fn code(self) -> c_int {
        match self {
            Self::Sum => 0,
            Self::Max => 2,
            Self::Min => 3,
        }
    }
}

/// Id of a new communicator: one rank creates it, and all ranks need the same bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UniqueId([u8; Self::BYTES]);

impl UniqueId {
    /// Length in bytes.
    pub const BYTES: usize = 128;

    /// The id from the bytes of another rank.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to send to other ranks.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    pub(crate) const fn raw(self) -> RawUniqueId {
        RawUniqueId(self.0)
    }
}

impl std::fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UniqueId(..)")
    }
}

/// A version of NCCL, e.g. 2.28.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch number.
    pub patch: u32,
}

impl Version {
    /// Decodes NCCL's version code: `22809`, or `2708` in the format up to 2.8.
    pub const fn from_code(code: c_int) -> Self {
        let code = code as u32;
        let major = if code < 10_000 { code / 1000 } else { code / 10_000 };
        let rest = if code < 10_000 { code % 1000 } else { code % 10_000 };
        Self { major, minor: rest / 100, patch: rest % 100 }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_codes_of_nccl_are_decoded() {
        assert_eq!(Version::from_code(22_809).to_string(), "2.28.9");
        assert_eq!(Version::from_code(2708).to_string(), "2.7.8");
        assert!(Version::from_code(21_303) < Version::from_code(21_400));
    }

    #[test]
    fn a_unique_id_survives_the_conversion_to_bytes() {
        let mut bytes = [0; UniqueId::BYTES];
        (bytes[0], bytes[127]) = (3, 250);
        assert_eq!(UniqueId::from_bytes(bytes).as_bytes(), &bytes);
    }
}

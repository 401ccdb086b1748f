//! Small JSON files that contain their own checksum.
//!
//! The checksum is the last field and covers every byte before it; the bytes after it are fixed. A change of any byte
//! is therefore detected.

use protocol::numbers::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const BEFORE: &[u8] = b",\n  \"checksum\": \"";
const AFTER: &[u8] = b"\"\n}\n";
/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// `value`, a struct with fields, as text with a checksum.
pub(super) fn seal(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.truncate(text.len().saturating_sub(b"\n}".len()));
    let checksum = hex(&Sha256::digest(&text));
    text.extend_from_slice(BEFORE);
    text.extend_from_slice(checksum.as_bytes());
    text.extend_from_slice(AFTER);
    Ok(text)
}

/// The text inside, as JSON, if it is what was sealed.
pub(super) fn unseal(text: &[u8]) -> Result<Vec<u8>, String> {
    let inside = || {
        let rest = text.strip_suffix(AFTER)?;
        let (rest, checksum) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        Some((rest.strip_suffix(BEFORE)?, checksum))
    };
    let (inside, checksum) = inside().ok_or("it does not end with a checksum")?;
    let found = hex(&Sha256::digest(inside));
    if found.as_bytes() != checksum {
        return Err(format!(
            "its checksum is {found}, but it records {}",
            String::from_utf8_lossy(checksum).escape_debug()
        ));
    }
    Ok([inside, b"\n}"].concat())
}

/// A sealed value.
pub(super) fn open<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(&unseal(text)?).map_err(|error| error.to_string())
}

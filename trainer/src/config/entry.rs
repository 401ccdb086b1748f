//! A value of the configuration with its origin, and its form in messages.

use super::origin::Origin;
use crate::options::render;
use std::collections::BTreeMap;
use toml::Value;

/// A value and its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// The value, of the key's type.
    pub(super) value: Value,
    /// Its origin.
    pub(super) origin: Origin,
}

/// A setting with its value and origin, for a message.
fn setting(full: &str, entry: &Setting) -> String {
    format!("`{full} = {}` (from {})", render(&entry.value), entry.origin)
}

/// The same for a key, if it is set.
pub(super) fn setting_of(key: &str, entries: &BTreeMap<String, Setting>) -> String {
    entries.get(key).map_or_else(|| format!("`{key}`"), |entry| setting(key, entry))
}

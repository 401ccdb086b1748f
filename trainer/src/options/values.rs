//! Values of keys.

use super::key::OptionKey;
use super::kind::OptionType;
use std::collections::BTreeMap;
use toml::Value;

/// Values by `section.key`. Each has the type of its key, in the canonical form of that type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    values: BTreeMap<&'static str, Value>,
}

impl Values {
    /// Sets a key, if it accepts the value.
    pub fn set(&mut self, key: &OptionKey, value: &Value) -> bool {
        let Some(value) = (key.canonical)(value) else { return false };
        self.values.insert(key.name, value);
        true
    }

    /// Sets a key of this type.
    pub(crate) fn put(&mut self, name: &'static str, value: &impl OptionType) {
        self.values.insert(name, value.write());
    }

    /// The values of some keys, by their names.
    #[must_use]
    pub fn only(&self, is_one: impl Fn(&str) -> bool) -> Self {
        let values = self.values.iter().filter(|(name, _)| is_one(name));
        Self { values: values.map(|(name, value)| (*name, value.clone())).collect() }
    }

    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The value of a key, if it has this type.
    pub fn of<T: OptionType>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(T::read)
    }
}

//! Options that the user chose and that would change nothing. A value of a preset may be idle, for presets are laid over
//! each other; one of the user may not.

use super::entry::{Setting, setting_of};
use super::error::ConfigError;
use super::tables::{find_key, keys, users};
use crate::options::{OptionKey, Values, is_one_of};
use std::collections::BTreeMap;

/// Refuses the first key that the user set although others make it idle.
pub(super) fn check(values: &Values, entries: &BTreeMap<String, Setting>) -> Result<(), ConfigError> {
    for key in keys() {
        if let Some(entry) = entries.get(key.name).filter(|entry| entry.origin.is_of_user())
            && let Some(cause) = cause(key, values)
        {
            return Err(ConfigError::NoEffect {
                key: key.name.to_owned(),
                origin: entry.origin.clone(),
                setting: setting_of(cause, entries),
                cause: cause.to_owned(),
            });
        }
    }
    Ok(())
}

/// The key that makes this one idle, if one does.
fn cause(key: &OptionKey, values: &Values) -> Option<&'static str> {
    let unmet = key.needs.iter().find(|needs| !needs.hold(values)).map(|needs| needs.cause);
    unmet.or_else(|| cause_of_methods(key, values))
}

/// The same for an option of methods: it takes effect where one of them is chosen, by a key that takes effect.
fn cause_of_methods(key: &OptionKey, values: &Values) -> Option<&'static str> {
    let mut found = None;
    for users in users(key) {
        let unmet = find_key(users.key).and_then(|chooser| cause(chooser, values));
        if unmet.is_none() && is_one_of(users.key, &users.words, values) {
            return None;
        }
        found = Some(unmet.unwrap_or(users.key));
    }
    found
}

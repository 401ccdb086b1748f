//! Options of the user that have no effect. They are refused. A value of a preset may have no effect, because presets
//! are layered.

use super::entry::{Setting, setting_of};
use super::error::ConfigError;
use super::tables::{find_key, keys, users};
use crate::options::{OptionKey, Values, is_one_of};
use std::collections::BTreeMap;

/// Refuses the first key that the user set and that has no effect with the other settings.
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

/// The key that disables this one, if any.
fn cause(key: &OptionKey, values: &Values) -> Option<&'static str> {
    let unmet = key.needs.iter().find(|needs| !needs.hold(values)).map(|needs| needs.cause);
    unmet.or_else(|| cause_of_methods(key, values))
}

/// The same for an option of methods: it has an effect if one of them is chosen by a key that has an effect.
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

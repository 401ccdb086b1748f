//! Method names and options from the registries, and the check of a combination by the configuration.

use std::path::Path;
use tests::draw::Draw;
use toml::Value;
use trainer::config::{Presets, Resolved, Selection, methods, words_of};
use trainer::options::OptionKey;

/// The words of a key.
pub fn words(key: &str) -> Vec<&'static str> {
    words_of(key).iter().map(|word| word.word).collect()
}

/// Draws one of the words of a key.
pub fn one_of(key: &str, draw: &mut Draw) -> &'static str {
    draw.one_of(&words(key))
}

/// The options of the selected methods, without duplicates.
pub fn options_of(chosen: &[(&str, &str)]) -> Vec<&'static OptionKey> {
    let mut keys: Vec<&'static OptionKey> = Vec::new();
    for method in methods().filter(|method| chosen.contains(&(method.key, method.word))) {
        for key in method.options.iter().flat_map(|section| section.keys) {
            if keys.iter().all(|known| known.name != key.name) {
                keys.push(key);
            }
        }
    }
    keys
}

/// A value of an option other than its default; `None` for text options.
pub fn other_value(key: &OptionKey, draw: &mut Draw) -> Option<String> {
    let words = (key.words)();
    if !words.is_empty() {
        return Some(draw.one_of(&words).word.to_owned());
    }
    match (key.default)() {
        // 0 usually selects a rule.
        Value::Integer(0) => Some(draw.within(1, 3).to_string()),
        Value::Integer(number) => Some(draw.one_of(&[number / 2, number * 2]).to_string()),
        Value::Float(0.0) => Some("0.5".to_owned()),
        Value::Float(number) => Some(format!("{:?}", number / 2.0)),
        _ => None,
    }
}

/// The error of the configuration for these settings with the preset of the data; `None` if it accepts them.
pub fn refusal(preset: &Path, settings: &[String]) -> Option<String> {
    let data = preset.display().to_string();
    let [model, method] = ["demo", "lift"].map(str::to_owned);
    let selection = Selection { data, model, method, set: settings.to_vec() };
    let resolved = Resolved::new(&selection, &Presets::embedded(), Path::new("."));
    resolved.err().map(|error| error.to_string())
}

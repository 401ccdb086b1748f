//! Conditions under which an option has an effect.

use super::text::render;
use super::values::Values;
use toml::Value;

/// A condition on the other settings that must hold for an option to have an effect.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// The key that disables the option if the condition does not hold.
    pub cause: &'static str,
    /// The condition.
    pub test: Condition,
    /// Whether the documentation states it beside the option.
    pub is_documented: bool,
}

/// A condition on the settings.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// The cause is, or lists, one of these words.
    OneOf(&'static [&'static str]),
    /// The cause neither is nor lists one of these words.
    NoneOf(&'static [&'static str]),
    /// Another condition, with a phrase for it after "Takes effect".
    Holds(&'static str, fn(&Values) -> bool),
}

/// `cause` is, or lists, one of these words.
pub const fn one_of(cause: &'static str, words: &'static [&'static str]) -> Needs {
    Needs { cause, test: Condition::OneOf(words), is_documented: true }
}

/// `cause` neither is nor lists one of these words.
pub const fn none_of(cause: &'static str, words: &'static [&'static str]) -> Needs {
    Needs { cause, test: Condition::NoneOf(words), is_documented: true }
}

/// `test` holds; `words` is the phrase after "Takes effect".
pub const fn holds(cause: &'static str, words: &'static str, test: fn(&Values) -> bool) -> Needs {
    Needs { cause, test: Condition::Holds(words, test), is_documented: true }
}

impl Needs {
    /// The same, but the documentation does not state it beside the option.
    #[must_use]
    pub const fn documented_elsewhere(self) -> Self {
        Self { is_documented: false, ..self }
    }

    /// Whether the option has an effect with these settings.
    pub fn hold(&self, values: &Values) -> bool {
        match self.test {
            Condition::OneOf(words) => is_one_of(self.cause, words, values),
            Condition::NoneOf(words) => !is_one_of(self.cause, words, values),
            Condition::Holds(_, test) => test(values),
        }
    }

    /// The words of the condition.
    pub const fn words(&self) -> &'static [&'static str] {
        match self.test {
            Condition::OneOf(words) | Condition::NoneOf(words) => words,
            Condition::Holds(..) => &[],
        }
    }

    /// The condition, as a phrase after "Takes effect".
    pub fn sentence(&self) -> String {
        match self.test {
            Condition::OneOf(words) => format!("with {}", settings(self.cause, words)),
            Condition::NoneOf(words) => format!("unless {}", settings(self.cause, words)),
            Condition::Holds(words, _) => words.to_owned(),
        }
    }
}

/// Whether a key is, or lists, one of these words.
pub fn is_one_of(key: &str, words: &[&str], values: &Values) -> bool {
    values.get(key).is_some_and(|value| holds_a_word(value, words))
}

fn holds_a_word(value: &Value, words: &[&str]) -> bool {
    match value {
        Value::String(text) => words.contains(&text.as_str()),
        Value::Array(values) => values.iter().any(|value| holds_a_word(value, words)),
        _ => false,
    }
}

/// `key = "one"`, `"two"` or `"three"`, in code.
pub fn settings(key: &str, words: &[&str]) -> String {
    let setting = |(place, word): (usize, &&str)| {
        let word = render(&Value::String((*word).to_owned()));
        if place == 0 { format!("`{key} = {word}`") } else { format!("`{word}`") }
    };
    let settings: Vec<_> = words.iter().enumerate().map(setting).collect();
    match settings.split_last() {
        None => format!("`{key}`"),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

//! Types of options: the conversion between a TOML value and a Rust type.
//!
//! Each type describes in words what it expects, so that errors need no second table. Every value is read by
//! [`OptionType::read`], both to check one key and to load a section.

use std::path::PathBuf;
use toml::Value;

/// A word that a key accepts, for documentation and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionWord {
    /// As written in a file.
    pub word: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
}

impl OptionWord {
    /// The text of "expected" for a choice of these words.
    pub fn one_of(words: &[Self]) -> String {
        let words = words.iter().map(|word| format!("`{}`", word.word));
        format!("one of {}", words.collect::<Vec<_>>().join(", "))
    }
}

/// A type that a key may have.
pub trait OptionType: Sized {
    /// All words, for a type that is a choice of words.
    fn words() -> Vec<OptionWord> {
        Vec::new()
    }

    /// Whether the value names a file or folder, rather than none or something else.
    fn is_path(&self) -> bool {
        false
    }

    /// The name of the type before a range; empty if the range contains it.
    fn noun() -> &'static str {
        ""
    }

    /// The accepted values, as a phrase after "expected".
    fn expected() -> String;
    /// The value, or `None` if it is not accepted.
    fn read(value: &Value) -> Option<Self>;
    /// The TOML value that reads back as this one.
    fn write(&self) -> Value;
}

impl OptionType for u64 {
    fn noun() -> &'static str {
        "a whole number, "
    }

    fn expected() -> String {
        "a whole number, 0 or more".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }

    /// TOML's integers end at 2^63 - 1, and so do the values that [`OptionType::read`] accepts.
    fn write(&self) -> Value {
        Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl OptionType for u32 {
    fn noun() -> &'static str {
        "a whole number, "
    }

    fn expected() -> String {
        format!("a whole number from 0 to {}", Self::MAX)
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }

    fn write(&self) -> Value {
        Value::Integer((*self).into())
    }
}

impl OptionType for f64 {
    fn noun() -> &'static str {
        "a finite number, "
    }

    fn expected() -> String {
        "a finite number".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as Self))?;
        number.is_finite().then_some(number)
    }

    fn write(&self) -> Value {
        Value::Float(*self)
    }
}

impl OptionType for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self) -> Value {
        Value::Boolean(*self)
    }
}

/// A type of which an option may have several.
pub trait ListElement: OptionType {
    /// Several of them, in words.
    const PLURAL: &'static str;
}

impl ListElement for f64 {
    const PLURAL: &'static str = "finite numbers";
}

impl ListElement for u64 {
    const PLURAL: &'static str = "whole numbers";
}

impl<T: ListElement, const N: usize> OptionType for [T; N] {
    fn expected() -> String {
        format!("a list of {N} {}", T::PLURAL)
    }

    fn read(value: &Value) -> Option<Self> {
        let elements = value.as_array()?.iter().map(T::read).collect::<Option<Vec<_>>>()?;
        elements.try_into().ok()
    }

    fn write(&self) -> Value {
        Value::Array(self.iter().map(T::write).collect())
    }
}

impl OptionType for String {
    fn expected() -> String {
        "a text".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn write(&self) -> Value {
        Value::String(self.clone())
    }
}

/// An optional file or folder; TOML has no null, so the empty string means none.
impl OptionType for Option<PathBuf> {
    fn is_path(&self) -> bool {
        self.is_some()
    }

    fn expected() -> String {
        "a path, or \"\" for none".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        if text.contains('\0') {
            return None;
        }
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn write(&self) -> Value {
        Value::String(self.as_ref().map_or_else(String::new, |path| path.to_string_lossy().into_owned()))
    }
}

//! What a key may hold: the border between a TOML value and a Rust type.
//!
//! Each type says in words what it expects, so that a refusal needs no second table. A value is read by
//! [`Kind::read`] alone, for checking one key as for loading a whole section.

use std::fmt::Write;
use std::path::PathBuf;
use toml::Value;

/// A word that a key may hold, for documentation and refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// As written in a file.
    pub word: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
}

/// A type that a key may have.
pub trait Kind: Sized {
    /// All words, for a type that is a choice of words.
    const WORDS: &'static [Word] = &[];
    /// The value names a file or folder.
    const IS_PATH: bool = false;

    /// What is accepted, as it stands after "expected".
    fn expected() -> String;
    /// The value, or nothing if it is not what is expected.
    fn read(value: &Value) -> Option<Self>;
    /// The TOML value that reads back as this one.
    fn write(&self) -> Value;
}

impl Kind for u64 {
    fn expected() -> String {
        "a whole number, 0 or more".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }

    /// TOML's integers end at 2^63 - 1, and so do the values that [`Kind::read`] lets in.
    fn write(&self) -> Value {
        Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Kind for u32 {
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

impl Kind for f64 {
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

impl Kind for bool {
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

impl Kind for [f64; 3] {
    fn expected() -> String {
        "a list of 3 finite numbers".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        let numbers = value.as_array()?.iter().map(f64::read).collect::<Option<Vec<_>>>()?;
        numbers.try_into().ok()
    }

    fn write(&self) -> Value {
        Value::Array(self.iter().map(f64::write).collect())
    }
}

impl Kind for String {
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

/// A file or folder that need not be given; TOML has no null, so the empty text stands for none.
impl Kind for Option<PathBuf> {
    const IS_PATH: bool = true;

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

/// One of some words, or a file. What holds a `/` or a `.` is a path, so that a misspelt word is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordOrFile<W> {
    /// A word.
    Word(W),
    /// A file.
    File(PathBuf),
}

impl<W: Kind> Kind for WordOrFile<W> {
    const WORDS: &'static [Word] = W::WORDS;
    const IS_PATH: bool = true;

    fn expected() -> String {
        format!("{}, or the path of a file, with a `/` or a `.` in it", W::expected())
    }

    fn read(value: &Value) -> Option<Self> {
        if let Some(word) = W::read(value) {
            return Some(Self::Word(word));
        }
        let text = value.as_str()?;
        let is_path = text.contains(['/', '.']) && !text.contains('\0');
        is_path.then(|| Self::File(PathBuf::from(text)))
    }

    fn write(&self) -> Value {
        match self {
            Self::Word(word) => word.write(),
            Self::File(path) => Value::String(path.to_string_lossy().into_owned()),
        }
    }
}

/// `serde(with)` for every field of a section.
pub(super) mod plain {
    use super::{Kind, Value, describe};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::config) fn serialize<T: Kind, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.write().serialize(to)
    }

    pub(in crate::config) fn deserialize<'de, T: Kind, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let value = Value::deserialize(from)?;
        T::read(&value)
            .ok_or_else(|| Error::custom(format!("expected {}; found {}", T::expected(), describe(&value))))
    }
}

/// A value in words, as it stands after "found".
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {}", render(value)),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(date) => format!("the date {date}"),
        Value::Array(_) => format!("the list {}", render(value)),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// A value as TOML on one line.
pub(super) fn render(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Float(number) => render_float(*number),
        Value::Array(values) => format!("[{}]", values.iter().map(render).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| format!("{} = {}", quote(key), render(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Integer(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}

/// TOML writes `nan` and `inf` in small letters.
fn render_float(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { format!("{number:?}") }
}

/// A basic string; every control character is escaped, so it never breaks the line.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

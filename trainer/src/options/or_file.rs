//! A word, or a file in its place.

use super::kind::{OptionType, OptionWord};
use std::path::{Path, PathBuf};
use toml::Value;

/// A choice of words that also accepts the path of a file. A text is a path if it has a folder or an extension, so that
/// a misspelt word is refused as a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrFile<T> {
    /// A word.
    Word(T),
    /// A file.
    File(PathBuf),
}

impl<T: OptionType> OptionType for OrFile<T> {
    fn words() -> Vec<OptionWord> {
        T::words()
    }

    fn is_path(&self) -> bool {
        matches!(self, Self::File(_))
    }

    fn expected() -> String {
        format!("{}, or the path of a file, with its ending", T::expected())
    }

    fn read(value: &Value) -> Option<Self> {
        if let Some(word) = T::read(value) {
            return Some(Self::Word(word));
        }
        let path = Path::new(value.as_str()?);
        let is_file =
            path.extension().is_some() || path.parent().is_some_and(|folder| folder != Path::new(""));
        (is_file && !value.as_str()?.contains('\0')).then(|| Self::File(path.to_owned()))
    }

    fn write(&self) -> Value {
        match self {
            Self::Word(word) => word.write(),
            Self::File(path) => Value::String(path.to_string_lossy().into_owned()),
        }
    }
}

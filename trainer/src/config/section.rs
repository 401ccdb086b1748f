//! How sections and words are declared: one doc comment per item serves rustdoc, refusals and the reference
//! page.

use super::kind::Word;
use toml::Value;

/// A section: one table of the file, one struct here.
#[derive(Debug)]
pub struct Section {
    /// Name of the table.
    pub name: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// Its keys, in the order of the struct.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Name inside the section.
    pub name: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// The words it may hold, if it is a choice.
    pub words: &'static [Word],
    /// It names a file or folder.
    pub is_path: bool,
    /// What it accepts, in words.
    pub expected: fn() -> String,
    /// Whether a value has the right type.
    pub accepts: fn(&Value) -> bool,
}

/// Declares a section's struct, with its [`Section`] as `Self::SECTION`.
macro_rules! section {
    (
        $(#[doc = $about:expr])*
        pub struct $Name:ident in $section:literal {
            $( $(#[doc = $doc:expr])* pub $field:ident: $Type:ty, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Name {
            $( $(#[doc = $doc])* #[serde(with = "crate::config::kind::plain")] pub $field: $Type, )*
        }

        impl $Name {
            /// Name, documentation and keys.
            pub const SECTION: $crate::config::section::Section = $crate::config::section::Section {
                name: $section,
                about: &[$($about),*],
                keys: &[$( $crate::config::section::Key {
                    name: stringify!($field),
                    about: &[$($doc),*],
                    words: <$Type as $crate::config::kind::Kind>::WORDS,
                    is_path: <$Type as $crate::config::kind::Kind>::IS_PATH,
                    expected: <$Type as $crate::config::kind::Kind>::expected,
                    accepts: |value| <$Type as $crate::config::kind::Kind>::read(value).is_some(),
                } ),*],
            };
        }
    };
}

/// Declares a choice of words.
macro_rules! words {
    (
        $(#[doc = $about:expr])*
        pub enum $Name:ident {
            $( $(#[doc = $doc:expr])* $Variant:ident = $word:literal, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Name {
            $( $(#[doc = $doc])* $Variant, )*
        }

        impl $Name {
            /// The word for it in a file.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$Variant => $word, )* }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl $crate::config::kind::Kind for $Name {
            const WORDS: &'static [$crate::config::kind::Word] = &[
                $( $crate::config::kind::Word { word: $word, about: &[$($doc),*] } ),*
            ];

            fn expected() -> String {
                let words = Self::WORDS.iter().map(|word| format!("`{}`", word.word));
                format!("one of {}", words.collect::<Vec<_>>().join(", "))
            }

            fn read(value: &toml::Value) -> Option<Self> {
                match value.as_str()? {
                    $( $word => Some(Self::$Variant), )*
                    _ => None,
                }
            }

            fn write(&self) -> toml::Value {
                toml::Value::String(self.word().to_owned())
            }
        }
    };
}

pub(super) use {section, words};

//! Declarations of choices of words.

/// Declares a choice of words: an enum whose variants have a word each, and their documentation.
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

        impl $crate::options::OptionType for $Name {
            fn words() -> Vec<$crate::options::OptionWord> {
                vec![$( $crate::options::OptionWord { word: $word, about: &[$($doc),*] } ),*]
            }

            fn expected() -> String {
                $crate::options::OptionWord::one_of(&Self::words())
            }

            fn read(value: &$crate::options::expansion::Value) -> Option<Self> {
                match value.as_str()? {
                    $( $word => Some(Self::$Variant), )*
                    _ => None,
                }
            }

            fn write(&self) -> $crate::options::expansion::Value {
                $crate::options::OptionType::write(&self.word().to_owned())
            }
        }
    };
}

pub(crate) use words;

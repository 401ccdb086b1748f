//! Declarations of sections: the attributes of a field are used for rustdoc, errors, the reference page, the presets
//! and resuming.

use super::key::OptionKey;
use super::values::Values;

/// A table of the configuration, or the part of it that one struct declares.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Name of the table.
    pub name: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// Its keys, in the order of the struct.
    pub keys: &'static [OptionKey],
}

/// A struct whose fields are keys; made by `section!`.
pub trait Declared: Default {
    /// Name, documentation and keys.
    const SECTION: Section;

    /// The values of its keys. Keys without a value have their defaults.
    fn read(values: &Values) -> Self;
    /// Sets its keys.
    fn write(&self, values: &mut Values);
}

impl Values {
    /// Sets the keys of a section.
    pub fn put_all(&mut self, section: &impl Declared) {
        section.write(self);
    }

    /// A section's struct. Keys without a value have their defaults.
    pub fn read<T: Declared>(&self) -> T {
        T::read(self)
    }
}

/// Declares a section's struct. Attributes of a field stand in this order, after its documentation:
///
/// - `#[range(1..=8)]`, or `#[range(|x| test(x), "what is expected")]`: which values of the type are taken
/// - `#[needs(one_of("loss.kind", &["focal"]))]`: conditions without which it has no effect
/// - `#[resume(Free)]` or `#[resume(Order)]`, see [`OnResume`]; without it, another value is another run
/// - `#[starts_at("data.root")]`: the key whose folder relative paths start from
/// - `#[formerly("section.key")]`: another name that is still read
macro_rules! section {
    (
        $(#[doc = $about:expr])*
        pub struct $Name:ident in $section:literal {
            $(
                $(#[doc = $doc:expr])*
                $(#[range($($range:tt)+)])?
                $(#[needs($($needs:expr),+ $(,)?)])?
                $(#[resume($on_resume:ident)])?
                $(#[starts_at($starts_at:literal)])?
                $(#[formerly($formerly:literal)])?
                pub $field:ident: $Type:ty = $default:expr,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $doc])* pub $field: $Type, )*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::options::Declared for $Name {
            const SECTION: $crate::options::Section = $crate::options::Section {
                name: $section,
                about: &[$($about),*],
                keys: &[$( $crate::options::OptionKey {
                    name: concat!($section, ".", stringify!($field)),
                    short: stringify!($field),
                    about: &[$($doc),*],
                    default: || {
                        let default: $Type = $default;
                        $crate::options::OptionType::write(&default)
                    },
                    words: <$Type as $crate::options::OptionType>::words,
                    noun: <$Type as $crate::options::OptionType>::noun,
                    expected: <$Type as $crate::options::OptionType>::expected,
                    canonical: |value| {
                        let value = <$Type as $crate::options::OptionType>::read(value)?;
                        Some($crate::options::OptionType::write(&value))
                    },
                    is_path: |value| {
                        let value = <$Type as $crate::options::OptionType>::read(value);
                        value.is_some_and(|value| $crate::options::OptionType::is_path(&value))
                    },
                    limit: $crate::options::section!(@limit $Type; $($($range)+)?),
                    needs: &[$($($needs),+)?],
                    on_resume: $crate::options::section!(@on_resume $($on_resume)?),
                    starts_at: $crate::options::section!(@literal $($starts_at)?),
                    formerly: $crate::options::section!(@literal $($formerly)?),
                } ),*],
            };

            fn read(values: &$crate::options::Values) -> Self {
                Self {
                    $( $field: values
                        .of(concat!($section, ".", stringify!($field)))
                        .unwrap_or_else(|| $default), )*
                }
            }

            fn write(&self, values: &mut $crate::options::Values) {
                $( values.put(concat!($section, ".", stringify!($field)), &self.$field); )*
            }
        }
    };

    (@limit $Type:ty;) => { None };
    (@limit $Type:ty; $range:expr) => {
        Some($crate::options::ValueLimit {
            holds: |value| {
                let value = <$Type as $crate::options::OptionType>::read(value);
                value.is_none_or(|value| std::ops::RangeBounds::<$Type>::contains(&($range), &value))
            },
            words: || $crate::options::expansion::limit_words::<$Type>(&($range)),
        })
    };
    (@limit $Type:ty; $holds:expr, $words:expr) => {
        Some($crate::options::ValueLimit {
            holds: |value| {
                let holds: fn(&$Type) -> bool = $holds;
                <$Type as $crate::options::OptionType>::read(value).is_none_or(|value| holds(&value))
            },
            words: || $words.to_owned(),
        })
    };

    (@on_resume) => { $crate::options::OnResume::Part };
    (@on_resume $on_resume:ident) => { $crate::options::OnResume::$on_resume };

    (@literal) => { None };
    (@literal $literal:literal) => { Some($literal) };
}

pub(crate) use section;

//! Declarations of options: everything about an option is declared once, beside its field.
//!
//! `section!` declares a struct whose fields are keys of one table of the configuration, each with its
//! documentation, default, range, conditions for having an effect, and whether a resumed run may change it. `words!`
//! declares a choice of words. A [`Method`] is a tuner, loss, head or head initialisation with the sections of its own
//! options; a [`Registry`] lists all methods of a kind and is itself the choice of their words.
//!
//! This module is independent of the rest of the program. The configuration derives its checks, `configs/base.toml`,
//! `docs/configuration.md` and the rules for resuming from the declarations. See `docs/adding-an-option.md`.

mod key;
mod kind;
mod limit;
mod method;
mod needs;
mod or_file;
mod section;
mod text;
mod values;
mod words;

#[cfg(test)]
mod tests;

pub use key::{OnResume, OptionKey, sentences};
pub use kind::{OptionType, OptionWord};
pub use limit::{ValueLimit, above};
pub use method::{Chosen, Description, Method, Registry, Several};
pub use needs::{Condition, Needs, holds, is_one_of, none_of, one_of, settings};
pub use or_file::OrFile;
pub(crate) use section::section;
pub use section::{Declared, Section};
pub use text::{describe, render};
pub use values::Values;
pub(crate) use words::words;

/// Used by the expansion of the macros.
pub(crate) mod expansion {
    pub(crate) use super::limit::words as limit_words;
    pub(crate) use toml::Value;
}

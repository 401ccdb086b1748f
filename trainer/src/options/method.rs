//! Methods: tuners, losses, heads and head initialisations, each with its options, in registries that are choices of
//! words.

use super::kind::{OptionType, OptionWord};
use super::section::Section;
use std::fmt;
use toml::Value;

/// A method of some kind. Each is in its own file, with its options; `M` is its constructor.
#[derive(Debug, Clone, Copy)]
pub struct Method<M> {
    /// Its word in the configuration.
    pub word: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its names in the official code, by which recorded results are known; none if that code does not have it.
    pub official: &'static [&'static str],
    /// Its options. Methods may share a section.
    pub options: &'static [&'static Section],
    /// What makes one.
    pub make: M,
}

/// All methods of a kind.
pub trait Registry {
    /// What makes a method of this kind.
    type Make: 'static;
    /// The key that chooses among them.
    const KEY: &'static str;
    /// The methods, in the order in which they are documented.
    const METHODS: &'static [&'static Method<Self::Make>];
    /// The meaning of `none`, for a key that takes [`Several`].
    const NONE: &'static str = "";

    /// The method that the official code calls by this name.
    fn of_official(name: &str) -> Option<&'static Method<Self::Make>> {
        Self::METHODS.iter().find(|method| method.official.contains(&name)).copied()
    }
}

/// The properties of a method of any kind that the configuration uses.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The key that chooses it.
    pub key: &'static str,
    /// Its word.
    pub word: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its names in the official code.
    pub official: &'static [&'static str],
    /// Its options.
    pub options: &'static [&'static Section],
}

impl Description {
    /// The methods of a registry.
    pub fn all<R: Registry>() -> impl Iterator<Item = Self> {
        R::METHODS.iter().map(|method| {
            let Method { word, about, official, options, .. } = **method;
            Self { key: R::KEY, word, about, official, options }
        })
    }
}

/// One method of a registry.
pub struct Chosen<R: Registry>(&'static Method<R::Make>);

impl<R: Registry> Chosen<R> {
    /// This method.
    pub const fn of(method: &'static Method<R::Make>) -> Self {
        Self(method)
    }

    /// The method.
    pub const fn method(self) -> &'static Method<R::Make> {
        self.0
    }

    /// Its word.
    pub const fn word(self) -> &'static str {
        self.0.word
    }

    /// Whether it is this one.
    pub fn is(self, method: &Method<R::Make>) -> bool {
        self.word() == method.word
    }
}

impl<R: Registry> Clone for Chosen<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Registry> Copy for Chosen<R> {}

impl<R: Registry> PartialEq for Chosen<R> {
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl<R: Registry> Eq for Chosen<R> {}

impl<R: Registry> fmt::Debug for Chosen<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<R: Registry> fmt::Display for Chosen<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<R: Registry> OptionType for Chosen<R> {
    fn words() -> Vec<OptionWord> {
        let word = |method: &&'static Method<R::Make>| OptionWord {
            word: method.word,
            about: std::slice::from_ref(&method.about),
        };
        R::METHODS.iter().map(word).collect()
    }

    fn expected() -> String {
        OptionWord::one_of(&Self::words())
    }

    fn read(value: &Value) -> Option<Self> {
        let word = value.as_str()?;
        R::METHODS.iter().find(|method| method.word == word).copied().map(Self)
    }

    fn write(&self) -> Value {
        Value::String(self.word().to_owned())
    }
}

/// Any number of methods of a registry, each once: a word, a list of words, or `none`.
pub struct Several<R: Registry>(Vec<Chosen<R>>);

/// The word for no method.
const NONE: &str = "none";

impl<R: Registry> Several<R> {
    /// No method.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// This method alone.
    pub fn of(method: &'static Method<R::Make>) -> Self {
        Self(vec![Chosen::of(method)])
    }

    /// Whether it is empty.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, method: &Method<R::Make>) -> bool {
        self.iter().any(|chosen| chosen.word == method.word)
    }

    /// The methods, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &'static Method<R::Make>> {
        self.0.iter().map(|chosen| chosen.method())
    }
}

impl<R: Registry> Clone for Several<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Registry> PartialEq for Several<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<R: Registry> Eq for Several<R> {}

impl<R: Registry> fmt::Debug for Several<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl<R: Registry> OptionType for Several<R> {
    fn words() -> Vec<OptionWord> {
        let mut words = Chosen::<R>::words();
        words.push(OptionWord { word: NONE, about: std::slice::from_ref(&R::NONE) });
        words
    }

    fn expected() -> String {
        format!("{}, or a list of them, each once and `{NONE}` alone", OptionWord::one_of(&Self::words()))
    }

    fn read(value: &Value) -> Option<Self> {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            word => std::slice::from_ref(word),
        };
        if matches!(values, [Value::String(word)] if word == NONE) {
            return Some(Self::none());
        }
        let chosen = values.iter().map(Chosen::read).collect::<Option<Vec<_>>>()?;
        let is_doubled = chosen.iter().enumerate().any(|(i, one)| chosen[..i].contains(one));
        (!is_doubled).then_some(Self(chosen))
    }

    /// Writes the shortest form, so that the old and the new notation of the same choice are equal.
    fn write(&self) -> Value {
        match self.0.as_slice() {
            [] => Value::String(NONE.to_owned()),
            [one] => one.write(),
            several => Value::Array(several.iter().map(OptionType::write).collect()),
        }
    }
}

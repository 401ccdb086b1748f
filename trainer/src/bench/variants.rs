//! The comparisons and their sides.

use crate::config::Config;
use std::fmt::{self, Display};
use std::str::FromStr;

/// Settings whose cost is measured by taking turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `distributed.overlap` on and off, and the same step without any communication.
    Overlap,
    /// `train.determinism`.
    Determinism,
    /// `backbone.placement`.
    Backbone,
    /// `head.placement`.
    Head,
    /// The whole, half and a quarter of `train.batch_size`.
    Samples,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Name in tables and JSON.
    pub(crate) name: String,
    /// Settings of this side.
    pub(crate) set: Vec<String>,
    /// Nothing is sent.
    pub(crate) silent: bool,
}

/// An unknown name of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no comparison is named `{0}`; expected overlap, determinism, backbone, head, samples")]
pub struct UnknownComparison(String);

impl Comparison {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Overlap, Self::Determinism, Self::Backbone, Self::Head, Self::Samples];

    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Determinism => "determinism",
            Self::Backbone => "backbone",
            Self::Head => "head",
            Self::Samples => "samples",
        }
    }

    /// The sides; the others are compared with the first.
    pub(crate) fn variants(self, config: &Config) -> Vec<Variant> {
        let words = |key: &str, words: &[&str]| {
            words.iter().map(|word| Variant::new(word, &format!("{key}={word}"))).collect()
        };
        match self {
            Self::Overlap => vec![
                Variant::new("on", "distributed.overlap=true"),
                Variant::new("off", "distributed.overlap=false"),
                Variant { silent: true, ..Variant::new("no_communication", "distributed.overlap=false") },
            ],
            Self::Determinism => words("train.determinism", &["fast", "same_world", "any_world"]),
            Self::Backbone => words("backbone.placement", &["replicated", "sharded"]),
            Self::Head => words("head.placement", &["replicated", "sharded"]),
            Self::Samples => {
                let sizes = [1, 2, 4].map(|part| (config.train.batch_size / part).max(1));
                sizes.map(|n| Variant::new(&n.to_string(), &format!("train.batch_size={n}"))).to_vec()
            }
        }
    }
}

impl Variant {
    /// The selected configuration, unchanged.
    pub(crate) fn selected() -> Self {
        Self { name: "selected".to_owned(), set: Vec::new(), silent: false }
    }

    fn new(name: &str, set: &str) -> Self {
        Self { name: name.to_owned(), set: vec![set.to_owned()], silent: false }
    }
}

impl FromStr for Comparison {
    type Err = UnknownComparison;

    fn from_str(name: &str) -> Result<Self, UnknownComparison> {
        let found = Self::ALL.into_iter().find(|comparison| comparison.name() == name);
        found.ok_or_else(|| UnknownComparison(name.to_owned()))
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Selection;

    fn select(set: Vec<String>) -> Selection {
        let word = |word: &str| word.to_owned();
        Selection { data: word("demo"), model: word("demo"), method: word("lift"), set }
    }

    #[test]
    fn every_variant_is_a_valid_configuration() {
        let config = Config::resolve(&select(Vec::new())).unwrap().config;
        for comparison in Comparison::ALL {
            assert_eq!(comparison.name().parse(), Ok(comparison));
            for variant in comparison.variants(&config) {
                Config::resolve(&select(variant.set.clone())).unwrap();
            }
        }
    }

    #[test]
    fn an_unknown_comparison_is_refused_with_those_there_are() {
        let error = "speed".parse::<Comparison>().unwrap_err().to_string();
        for comparison in Comparison::ALL {
            assert!(error.contains(comparison.name()), "{error}");
        }
    }
}

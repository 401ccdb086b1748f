//! `[tuner]`: what is trained beside the head. The options of single tuners stand in their files.

use crate::model::tuners::{Tuners, adaptformer};
use crate::options::{OptionType, Several, none_of, section};
use std::ops::Range;
use toml::Value;

section! {
    /// What is trained besides the head.
    pub struct TunerOptions in "tuner" {
        /// Tuners to train: a word or a list of words.
        #[formerly("tuner.kind")]
        pub kinds: Several<Tuners> = Several::of(&adaptformer::METHOD),
        /// Tuned blocks: `"all"`, a number of last blocks, or `[first, end]`. The range includes `first` and excludes
        /// `end`; blocks are counted from 0.
        #[needs(none_of("tuner.kinds", &["none"]))]
        pub partial: Partial = Partial::All,
    }
}

/// Which blocks are tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Every block.
    All,
    /// The last blocks, this many.
    Last(u32),
    /// The blocks from the first number, counted from 0, to before the second.
    Range(u32, u32),
}

/// Blocks that the model does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`tuner.partial` asks for {wanted} blocks of a model that has {depth}; expected at most {depth}")]
pub struct TooManyBlocks {
    /// Blocks asked for, or end of the range.
    pub wanted: u32,
    /// Blocks of the model.
    pub depth: usize,
}

impl Partial {
    /// The blocks of a model of `depth` blocks.
    pub fn blocks(self, depth: usize) -> Result<Range<usize>, TooManyBlocks> {
        let within = |wanted: u32| match usize::try_from(wanted) {
            Ok(number) if number <= depth => Ok(number),
            _ => Err(TooManyBlocks { wanted, depth }),
        };
        match self {
            Self::All => Ok(0..depth),
            Self::Last(number) => Ok(depth - within(number)?..depth),
            Self::Range(first, end) => Ok(within(first)?..within(end)?),
        }
    }
}

impl OptionType for Partial {
    fn expected() -> String {
        "\"all\", a whole number of last blocks, or [first, end] with first <= end".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(word) if word == "all" => Some(Self::All),
            Value::Integer(_) => u32::read(value).map(Self::Last),
            Value::Array(bounds) => match bounds.as_slice() {
                [first, end] => {
                    let (first, end) = (u32::read(first)?, u32::read(end)?);
                    (first <= end).then_some(Self::Range(first, end))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::All => Value::String("all".to_owned()),
            Self::Last(number) => number.write(),
            Self::Range(first, end) => Value::Array(vec![first.write(), end.write()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_names_blocks_as_the_published_code() {
        assert_eq!(Partial::All.blocks(12), Ok(0..12));
        assert_eq!(Partial::Last(0).blocks(2), Ok(2..2));
        assert_eq!(Partial::Last(1).blocks(2), Ok(1..2));
        assert_eq!(Partial::Range(0, 1).blocks(2), Ok(0..1));
        assert_eq!(Partial::Range(1, 1).blocks(2), Ok(1..1));
        let error = Partial::Last(13).blocks(12).expect_err("only 12");
        assert_eq!(
            error.to_string(),
            "`tuner.partial` asks for 13 blocks of a model that has 12; expected at most 12"
        );
        assert_eq!(Partial::Range(0, 3).blocks(2), Err(TooManyBlocks { wanted: 3, depth: 2 }));
    }
}

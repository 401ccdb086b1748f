//! Converts texts to token ids: CLIP's byte-pair tokenizer, and a small word-level tokenizer.
//!
//! A tokenized text is `start, ids ..., end`, padded with zeros to the context length. A text that does
//! not fit is an error, as in the official code without truncation.

mod byte_pairs;
mod html;
mod repair;
mod words;

use self::byte_pairs::BytePairs;
pub use self::byte_pairs::VocabularyError;
use self::words::WordList;

/// Context length of CLIP.
pub const CLIP_CONTEXT: usize = 77;

/// Turns texts into token ids.
#[derive(Debug)]
pub enum Tokenizer {
    /// CLIP's byte-pair tokenizer with its 49,408 tokens.
    Clip(Box<BytePairs>),
    /// Whole words from a given list.
    Words(WordList),
}

/// A text that cannot be tokenized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// More tokens than the context length of the text tower.
    #[error(
        "text `{text}` has {length} tokens, the text tower takes {limit}\nhint: \
         shorten the class name or the template"
    )]
    TooLong {
        /// The text.
        text: String,
        /// Its tokens, start and end included.
        length: usize,
        /// The context length.
        limit: usize,
    },
    /// A word that is not in the vocabulary.
    #[error(
        "text `{text}` has the word `{word}`, which is not among the {known} words this model knows\nhint: choose another model with -m, or initialise the head from images: `--set head.init=class_mean`"
    )]
    UnknownWord {
        /// The text.
        text: String,
        /// The word.
        word: String,
        /// Length of the list.
        known: usize,
    },
}

impl Tokenizer {
    /// CLIP's tokenizer. Construction takes about 20 ms, so reuse it.
    pub fn clip() -> Result<Self, VocabularyError> {
        BytePairs::clip().map(|pairs| Self::Clip(Box::new(pairs)))
    }

    /// A tokenizer of whole words: the id of a word is its position in the list; `start` and `end` follow
    /// the last word, so that `end` is the greatest id, as the text tower expects.
    pub fn words<S: AsRef<str>>(list: &[S]) -> Self {
        Self::Words(WordList::new(list))
    }

    /// Number of different ids.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Clip(pairs) => pairs.vocabulary(),
            Self::Words(list) => list.vocabulary(),
        }
    }

    /// Id of the token before every text.
    pub fn start(&self) -> i64 {
        self.vocabulary() as i64 - 2
    }

    /// Id of the token after every text.
    pub fn end(&self) -> i64 {
        self.vocabulary() as i64 - 1
    }

    /// The ids of a text, without start and end.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokenizeError> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// `[texts, context_length]`, row by row: start, ids, end, zeros.
    pub fn tokenize<S: AsRef<str>>(
        &self,
        texts: &[S],
        context_length: usize,
    ) -> Result<Vec<i64>, TokenizeError> {
        let mut rows = Vec::with_capacity(texts.len() * context_length);
        for (row, text) in texts.iter().map(AsRef::as_ref).enumerate() {
            let from = row * context_length;
            rows.push(self.start());
            self.encode_into(text, &mut rows)?;
            rows.push(self.end());
            let length = rows.len() - from;
            if length > context_length {
                return Err(TokenizeError::TooLong { text: shortened(text), length, limit: context_length });
            }
            rows.resize(from + context_length, 0);
        }
        Ok(rows)
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<i64>) -> Result<(), TokenizeError> {
        match self {
            Self::Clip(pairs) => {
                pairs.encode_into(text, ids);
                Ok(())
            }
            Self::Words(list) => list.encode_into(text, ids),
        }
    }
}

/// The text for a class: every `{}` of the template filled with the name, underscores as spaces.
pub fn prompt(template: &str, class_name: &str) -> String {
    template.replace("{}", &class_name.replace('_', " "))
}

/// A text shortened for a message: its first 100 characters, with control characters escaped.
fn shortened(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    let mut short: String = text.chars().take(100).map(escape).collect();
    if text.chars().nth(100).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests;

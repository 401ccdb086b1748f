//! Whole words and signs from a list: the vocabulary of models trained on few words.

use super::{TokenizeError, shortened};
use std::collections::HashMap;

/// Words and their ids.
#[derive(Debug)]
pub struct WordList {
    ids: HashMap<String, i64>,
    length: usize,
}

impl WordList {
    /// Words are compared in lower case. Of a word that is listed twice the first position counts.
    pub(super) fn new<S: AsRef<str>>(list: &[S]) -> Self {
        let mut ids = HashMap::with_capacity(list.len());
        for (id, word) in list.iter().enumerate() {
            ids.entry(word.as_ref().to_lowercase()).or_insert(id as i64);
        }
        Self { ids, length: list.len() }
    }

    /// The words, start and end.
    pub(super) fn vocabulary(&self) -> usize {
        self.length + 2
    }

    /// A word is a run of letters and digits; any other character but white space is a word of its own.
    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<i64>) -> Result<(), TokenizeError> {
        let lower = text.to_lowercase();
        let mut rest = lower.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = if first.is_alphanumeric() {
                rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (word, after) = rest.split_at(end);
            let Some(&id) = self.ids.get(word) else {
                let (text, word) = (shortened(text), shortened(word));
                return Err(TokenizeError::UnknownWord { text, word, known: self.length });
            };
            ids.push(id);
            rest = after.trim_start();
        }
        Ok(())
    }
}

//! CLIP's byte-pair encoding.
//!
//! A text is repaired and brought to lower case, cut into words, and each word's bytes are merged pair by
//! pair, the pair that stands first in the list of merges first. Ids: 256 single bytes, the same 256 at
//! the end of a word, one for each merge, start and end of text.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
//! (arXiv 2103.00020), section 2.4 and the vocabulary file published with it.

use super::html::unescape;
use super::repair::repair;
use flate2::read::GzDecoder;
use regex::Regex;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

/// The published list of merges, the more frequent first; only the first 48,894 are used.
static MERGES: &[u8] = include_bytes!("../../../../assets/bpe_simple_vocab_16e6.txt.gz");
/// The same, as named in messages.
const VOCABULARY_FILE: &str = "assets/bpe_simple_vocab_16e6.txt.gz";
const MERGE_COUNT: usize = 49_152 - 256 - 2;
/// The end-of-word mark in the list of merges.
const WORD_END: &str = "</w>";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Limit on cached words: class names share most of their words.
const MAX_CACHED_WORDS: usize = 1 << 16;
/// Words longer than this are not cached.
const MAX_CACHED_BYTES: usize = 64;

/// The embedded vocabulary cannot be read: the program was built from a damaged file.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// It cannot be unpacked.
    #[error(
        "the embedded vocabulary cannot be unpacked: {0}\nhint: restore {VOCABULARY_FILE} and build again"
    )]
    Unpack(#[from] std::io::Error),
    /// A line is not a merge of two earlier symbols.
    #[error(
        "line {line} of the embedded vocabulary is no merge\nhint: restore {VOCABULARY_FILE} and build again"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// The expression that cuts texts into words does not compile.
    #[error("the expression for words is not supported: {0}")]
    Expression(#[from] regex::Error),
}

/// The tokenizer's tables.
#[derive(Debug)]
pub struct BytePairs {
    /// Id of a byte inside a word; 256 more at its end.
    byte_ids: [u32; 256],
    /// Two ids to that of their merge. The lower the id, the earlier it is merged.
    merges: HashMap<(u32, u32), u32>,
    words: Regex,
    cache: Mutex<HashMap<Box<str>, Box<[u32]>>>,
    vocabulary: u32,
}

impl BytePairs {
    /// Builds the tables from the embedded list.
    pub(super) fn clip() -> Result<Self, VocabularyError> {
        Self::read(GzDecoder::new(MERGES), MERGE_COUNT)
    }

    /// `list`: a line of version, then one merge a line.
    fn read(list: impl Read, count: usize) -> Result<Self, VocabularyError> {
        let symbols = byte_symbols();
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(2 * 256 + count);
        let mut byte_ids = [0; 256];
        for (id, (byte, symbol)) in (0..).zip(symbols) {
            byte_ids[usize::from(byte)] = id;
            ids.insert(symbol.to_string(), id);
            ids.insert(format!("{symbol}{WORD_END}"), id + 256);
        }
        let mut merges = HashMap::with_capacity(count);
        let mut lines = BufReader::new(list);
        let mut text = String::new();
        lines.read_line(&mut text)?;
        for position in 0..count {
            text.clear();
            lines.read_line(&mut text)?;
            let wrong = VocabularyError::Line { line: position + 2 };
            let Some((left, right)) = text.trim_ascii_end().split_once(' ') else { return Err(wrong) };
            let (Some(&first), Some(&second)) = (ids.get(left), ids.get(right)) else { return Err(wrong) };
            let id = (2 * 256 + position) as u32;
            merges.insert((first, second), id);
            ids.insert([left, right].concat(), id);
        }
        let vocabulary = (2 * 256 + count + 2) as u32;
        let cache = Mutex::new(HashMap::new());
        Ok(Self { byte_ids, merges, words: word_expression()?, cache, vocabulary })
    }

    /// Number of ids.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary as usize
    }

    /// Appends the ids of a text.
    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<i64>) {
        let text = normalise(text);
        // A panic elsewhere cannot leave the map inconsistent, because only finished entries are inserted.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for word in self.words.find_iter(&text).map(|found| found.as_str()) {
            if let Some(known) = cache.get(word) {
                ids.extend(known.iter().map(|&id| i64::from(id)));
                continue;
            }
            let merged = self.merge(word);
            ids.extend(merged.iter().map(|&id| i64::from(id)));
            if word.len() <= MAX_CACHED_BYTES && cache.len() < MAX_CACHED_WORDS {
                cache.insert(word.into(), merged.into());
            }
        }
    }

    /// The ids of one word.
    fn merge(&self, word: &str) -> Vec<u32> {
        match word {
            START => return vec![self.vocabulary - 2],
            END => return vec![self.vocabulary - 1],
            _ => {}
        }
        let mut ids: Vec<u32> = word.bytes().map(|byte| self.byte_ids[usize::from(byte)]).collect();
        if let Some(last) = ids.last_mut() {
            *last += 256;
        }
        loop {
            let merge = |pair: &[u32]| self.merges.get(&(pair[0], pair[1])).map(|&id| (id, pair[0], pair[1]));
            let Some((merged, first, second)) = ids.windows(2).filter_map(merge).min() else {
                return ids;
            };
            let mut kept = 0;
            let mut next = 0;
            while next < ids.len() {
                let here = ids[next] == first && ids.get(next + 1) == Some(&second);
                ids[kept] = if here { merged } else { ids[next] };
                next += if here { 2 } else { 1 };
                kept += 1;
            }
            ids.truncate(kept);
        }
    }
}

/// The text before it is split into words: repaired, entities replaced (twice, for text escaped twice), runs of
/// white space as one space, lower case.
fn normalise(text: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~') && c != '&';
    if text.chars().all(plain) {
        return collapse(text).to_ascii_lowercase();
    }
    collapse(&unescape(&unescape(&repair(text)))).to_lowercase()
}

fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(part);
    }
    out
}

/// Start and end of text as such, English endings, runs of letters, single digits, runs of other signs.
///
/// The official expression ignores case as a whole, by which its engine loses U+0345, a mark whose capital
/// is a letter: it belongs to no word.
fn word_expression() -> Result<Regex, regex::Error> {
    Regex::new(
        r"(?x)
        (?i: <\|startoftext\|> | <\|endoftext\|> | '(?: s | t | re | ve | m | ll | d ) )
        | \p{L}+ | \p{N} | [^\s\p{L}\p{N}\u{345}]+",
    )
}

/// The bytes in the order of their ids, each with the character that stands for it in the list of merges:
/// itself where it is printable in Latin-1, else one from U+0100 on.
fn byte_symbols() -> impl Iterator<Item = (u8, char)> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let kept = (0..=255).filter(printable).map(|byte| (byte, char::from(byte)));
    let moved = (0..=255).filter(move |byte| !printable(byte));
    kept.chain(moved.zip('\u{100}'..))
}

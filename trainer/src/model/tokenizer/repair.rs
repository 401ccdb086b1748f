//! Repair of texts before tokenizing, after the default rules of the Python library `ftfy`, which the
//! official tokenizer calls.
//!
//! Until nothing changes any more, line by line: references to characters are replaced (unless the text
//! holds a `<`, a sign of real HTML), UTF-8 that was read as Latin-1 or Windows-1252 is decoded, controls
//! that were meant as Windows-1252 are replaced, Latin ligatures are taken apart, full-width and half-width
//! characters get their plain form, quotes are straightened, line breaks unified, terminal sequences and
//! control characters removed, and letters composed (NFC).
//!
//! Not done: UTF-8 read as any other code page, and damaged or partial sequences. And where `ftfy` asks
//! whether a sequence is improbable as it stands before it decodes, here it is enough that the whole line
//! is UTF-8 when read back.

use super::html::{unescape_certain, windows_1252, windows_1252_byte};
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// Rounds after which a text is taken as it is; each undoes one layer of damage.
const MAX_ROUNDS: usize = 16;

pub(super) fn repair(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut references = true;
    for line in text.split_inclusive('\n') {
        references &= !line.contains('<');
        let mut line = Cow::Borrowed(line);
        for _ in 0..MAX_ROUNDS {
            let next = repair_once(&line, references);
            if next == *line {
                break;
            }
            line = Cow::Owned(next);
        }
        out.push_str(&line);
    }
    out
}

fn repair_once(line: &str, references: bool) -> String {
    let line = if references { unescape_certain(line) } else { Cow::Borrowed(line) };
    let line = decode_again(&line).map_or(line, Cow::Owned);
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // The terminal's escape character itself is a control and goes with the others.
            '\u{1b}' if characters.peek() == Some(&'[') => {
                let skipped = terminal_sequence(characters.clone());
                characters.nth(skipped.wrapping_sub(1)).filter(|_| skipped > 0);
            }
            '\r' => {
                characters.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{80}'..='\u{9f}' => out.push(windows_1252(character as u8)),
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(character).nfkc()),
            _ if is_removed(character) => {}
            _ => match ligature(character) {
                Some(letters) => out.push_str(letters),
                None => out.push(character),
            },
        }
    }
    out.nfc().collect()
}

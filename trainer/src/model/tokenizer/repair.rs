//! Repair of texts before tokenizing, after the default rules of the Python library `ftfy`, which the
//! official tokenizer calls.
//!
//! Until nothing changes any more, line by line: references to characters are replaced (unless the text
//! holds a `<`, a sign of real HTML), UTF-8 that was read as Latin-1 or Windows-1252 is decoded, controls
//! that were meant as Windows-1252 are replaced, Latin ligatures are taken apart, full-width and half-width
//! characters get their plain form, quotes are straightened, line breaks unified, terminal sequences and
//! control characters removed, and letters composed (NFC).
//!
//! Not done: UTF-8 read as any other code page, damaged sequences, and sequences in a line that is not
//! UTF-8 as a whole. What counts as improbable is a short rule here and a long one in `ftfy`; they agree
//! on names of European languages and on typographic signs, but for a few that are repaired here only.

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
    let line = read_again(&line).map_or(line, Cow::Owned);
    let mut out = String::with_capacity(line.len());
    let mut rest = &*line;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = after_terminal_sequence(rest) {
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '\r' if rest.starts_with('\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{80}'..='\u{9f}' => out.push(windows_1252(character as u8)),
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\u{3000}' => out.push(' '),
            _ if is_control(character) => {}
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(character).nfkc()),
            _ => match ligature(character) {
                Some(letters) => out.push_str(letters),
                None => out.push(character),
            },
        }
    }
    out.nfc().collect()
}

/// The line as it was before its UTF-8 was read as Latin-1 or Windows-1252, if it looks like that.
fn read_again(line: &str) -> Option<String> {
    if line.is_ascii() {
        return None;
    }
    let byte = |c: char| u8::try_from(c).ok().or_else(|| windows_1252_byte(c));
    let bytes: Option<Vec<u8>> = line.chars().map(byte).collect();
    let decoded = String::from_utf8(bytes?).ok()?;
    // Bytes of the decoded line are characters of the line.
    let signs: Vec<char> = line.chars().collect();
    let damaged = |(start, character): (usize, char)| {
        let end = start + character.len_utf8();
        is_improbable(&signs[start..end], signs.get(end).copied())
    };
    decoded.char_indices().any(damaged).then_some(decoded)
}

/// Whether nobody writes these characters, which one byte sequence of UTF-8 was read as, before `next`.
/// `É®` at the end of a name can be meant, `Å¡` within a word, `Ã©` or `â€™` anywhere cannot.
fn is_improbable(sequence: &[char], next: Option<char>) -> bool {
    let [lead, rest @ ..] = sequence else { return false };
    let Some(last) = rest.last() else { return false };
    matches!(lead, '\u{c2}' | '\u{c3}')
        || (*lead == '\u{e2}' && rest[0] == '\u{20ac}')
        || rest.iter().any(|&sign| sign.is_control() || NEVER_AFTER_A_LETTER.contains(sign))
        || (!last.is_alphabetic() && next.is_some_and(char::is_alphanumeric))
}

/// Signs of Windows-1252 that follow an accented letter in damaged text only.
const NEVER_AFTER_A_LETTER: &str = "¤¦¨¬¯¸ªº¼½¾²³¹±ˆ˜†‡‰ƒ";

/// What follows a terminal's colour or cursor sequence (`ESC [ digits letter`) at the beginning.
fn after_terminal_sequence(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\u{1b}[")?.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
    rest.strip_prefix(|c: char| c.is_ascii_alphabetic())
}

/// Characters without a place in a text: ASCII controls but white space, byte order mark, deprecated
/// Arabic controls, annotation marks and the object replacement character.
fn is_control(character: char) -> bool {
    matches!(character,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

/// The letters of a ligature or digraph of the Latin script that is one character for typographical or
/// historical reasons only (so not of `æ` or `œ`).
fn ligature(character: char) -> Option<&'static str> {
    Some(match character {
        '\u{132}' => "IJ",
        '\u{133}' => "ij",
        '\u{149}' => "'n",
        '\u{1c4}' => "D\u{17d}",
        '\u{1c5}' => "D\u{17e}",
        '\u{1c6}' => "d\u{17e}",
        '\u{1c7}' => "LJ",
        '\u{1c8}' => "Lj",
        '\u{1c9}' => "lj",
        '\u{1ca}' => "NJ",
        '\u{1cb}' => "Nj",
        '\u{1cc}' => "nj",
        '\u{1f1}' => "DZ",
        '\u{1f2}' => "Dz",
        '\u{1f3}' => "dz",
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        '\u{fb05}' => "\u{17f}t",
        '\u{fb06}' => "st",
        _ => return None,
    })
}

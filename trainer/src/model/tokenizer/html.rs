//! HTML character references, as browsers and Python's `html.unescape` read them.
//!
//! Source: WHATWG HTML, "Named character references" and "Numeric character reference end state".

use htmlize::{BARE_ENTITY_MAX_LENGTH, ENTITIES};
use std::borrow::Cow;

/// Longest name looked up.
const MAX_NAME: usize = 32;

/// Replaces every reference, also those without a semicolon that the standard allows (`&copy 2020`).
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replace(text, |rest| match rest.strip_prefix("&#") {
        Some(digits) => numeric(digits).map(|(value, length)| (value, 2 + length)),
        None => named(rest),
    })
}

/// Replaces the references that cannot be meant otherwise: those that end with a semicolon, and the names
/// of letters all in capitals (`&EACUTE;`).
pub(super) fn unescape_certain(text: &str) -> Cow<'_, str> {
    replace(text, |rest| {
        let length = rest.find(';')? + 1;
        let reference = &rest[..length];
        let value = match reference.strip_prefix("&#") {
            Some(digits) => {
                numeric(digits).filter(|(_, used)| *used == digits.len()).map(|(value, _)| value)?
            }
            None => match entity(reference) {
                Some(value) => value.to_owned(),
                None => in_capitals(reference)?,
            },
        };
        Some((value, length))
    })
}

/// Replaces what `read` finds at an ampersand: the text that stands for it and the bytes it takes.
fn replace(text: &str, read: impl Fn(&str) -> Option<(String, usize)>) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while !rest.is_empty() {
        let (value, length) = read(rest).unwrap_or_else(|| ("&".to_owned(), 1));
        out.push_str(&value);
        let after = &rest[length..];
        let next = after.find('&').unwrap_or(after.len());
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    Cow::Owned(out)
}

/// `38;`, `x26;` or without the semicolon: the character and the bytes used.
fn numeric(digits: &str) -> Option<(String, usize)> {
    let (radix, skip) = if digits.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
    let body = &digits[skip..];
    let length = body.find(|c: char| !c.is_digit(radix)).unwrap_or(body.len());
    if length == 0 {
        return None;
    }
    let significant = body[..length].trim_start_matches('0');
    // What does not fit 32 bits is beyond Unicode as well.
    let code =
        if significant.is_empty() { 0 } else { u32::from_str_radix(significant, radix).unwrap_or(u32::MAX) };
    let semicolon = usize::from(body[length..].starts_with(';'));
    Some((character(code), skip + length + semicolon))
}

/// The character of a numeric reference; controls of Windows-1252 are read as that, others are dropped.
fn character(code: u32) -> String {
    match code {
        0 => char::REPLACEMENT_CHARACTER.to_string(),
        0x80..=0x9f => windows_1252(code as u8).to_string(),
        1..=8 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        _ if code <= 0x10_ffff && code & 0xfffe == 0xfffe => String::new(),
        _ => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string(),
    }
}

/// The longest reference at the beginning of a text, which is an ampersand and what follows it.
fn named(text: &str) -> Option<(String, usize)> {
    let is_end = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let end = text.char_indices().skip(1).enumerate().find(|&(count, (_, c))| count == MAX_NAME || is_end(c));
    let length = end.map_or(text.len(), |(_, (at, _))| at);
    let whole = text[length..].starts_with(';').then(|| entity(&text[..=length])).flatten();
    let (value, length) = whole.map(|value| (value, length + 1)).or_else(|| bare(text))?;
    Some((value.to_owned(), length))
}

/// The longest reference without a semicolon at the beginning of a text.
fn bare(text: &str) -> Option<(&'static str, usize)> {
    let longest = BARE_ENTITY_MAX_LENGTH.min(text.len());
    (1..=longest).rev().find_map(|length| Some((entity(text.get(..length)?)?, length)))
}

/// What a reference stands for: `&copy;`, or `&copy`, which needs no semicolon.
fn entity(reference: &str) -> Option<&'static str> {
    std::str::from_utf8(ENTITIES.get(reference.as_bytes())?).ok()
}

/// `&EACUTE;` as a capital of `&eacute;`, unless a part of it is a reference already.
fn in_capitals(reference: &str) -> Option<String> {
    let lower = reference.to_ascii_lowercase();
    if lower == reference || reference != reference.to_ascii_uppercase() || bare(reference).is_some() {
        return None;
    }
    entity(&lower).map(str::to_uppercase)
}

/// The character of a byte from 0x80 to 0x9f; the five that have none stay controls.
pub(super) fn windows_1252(byte: u8) -> char {
    byte.checked_sub(0x80)
        .and_then(|index| WINDOWS_1252.chars().nth(index.into()))
        .filter(|&character| character != '.')
        .unwrap_or(char::from(byte))
}

/// The byte of a character that Windows-1252 has and Latin-1 has not.
pub(super) fn windows_1252_byte(character: char) -> Option<u8> {
    let position = WINDOWS_1252.chars().position(|known| known == character)?;
    (character != '.').then_some(0x80 + position as u8)
}

/// Bytes 0x80 to 0x9f; a full stop where there is no character.
const WINDOWS_1252: &str = "€.‚ƒ„…†‡ˆ‰Š‹Œ.Ž..‘’“”•–—˜™š›œ.žŸ";

//! HTML character references, as browsers and Python's `html.unescape` read them.
//!
//! Source: WHATWG HTML, "Named character references" and "Numeric character reference end state".

use html_escape::NAMED_ENTITIES;
use std::borrow::Cow;

/// Longest name looked up.
const MAX_NAME: usize = 32;

/// Replaces every reference, also those without a semicolon that the standard allows (`&copy 2020`).
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replace(text, |rest| match rest.strip_prefix('#') {
        Some(digits) => numeric(digits).map(|(value, length)| (value, 1 + length)),
        None => named(rest),
    })
}

/// Replaces the references that cannot be meant otherwise: those that end with a semicolon, and the names
/// of letters all in capitals (`&EACUTE;`).
pub(super) fn unescape_certain(text: &str) -> Cow<'_, str> {
    replace(text, |rest| {
        let length = rest.find(';')?;
        let name = &rest[..length];
        let value = match name.strip_prefix('#') {
            Some(digits) => {
                numeric(&rest[1..]).filter(|(_, used)| *used == digits.len() + 1).map(|(value, _)| value)?
            }
            None => match entity(name) {
                Some(value) => value,
                None => in_capitals(name)?,
            },
        };
        Some((value, length + 1))
    })
}

/// Replaces what `read` finds behind an ampersand: the text that stands for it and the bytes it takes.
fn replace(text: &str, read: impl Fn(&str) -> Option<(String, usize)>) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(behind) = rest.strip_prefix('&') {
        let after = if let Some((value, length)) = read(behind) {
            out.push_str(&value);
            &behind[length..]
        } else {
            out.push('&');
            behind
        };
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

/// The longest reference at the beginning of the text behind an ampersand.
fn named(text: &str) -> Option<(String, usize)> {
    let end = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let run = text.char_indices().take(MAX_NAME + 1);
    let length = run
        .clone()
        .find(|&(_, c)| end(c))
        .map_or_else(|| run.clone().nth(MAX_NAME).map_or(text.len(), |(at, _)| at), |(at, _)| at);
    let name = &text[..length];
    if text[length..].starts_with(';')
        && let Some(value) = entity(name)
    {
        return Some((value, length + 1));
    }
    let longest =
        LEGACY.iter().filter(|legacy| name.starts_with(**legacy)).max_by_key(|legacy| legacy.len())?;
    entity(longest).map(|value| (value, longest.len()))
}

fn entity(name: &str) -> Option<String> {
    let found = NAMED_ENTITIES.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes())).ok()?;
    let value = NAMED_ENTITIES[found].1;
    let second = SECOND.iter().find(|(_, names)| names.split_ascii_whitespace().any(|known| known == name));
    match second {
        Some(&(second, _)) => Some(value.chars().take(1).chain([second]).collect()),
        None => Some(value.to_owned()),
    }
}

/// `EACUTE` as a capital of `eacute`, unless a part of it is a reference already.
fn in_capitals(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower == name
        || name != name.to_ascii_uppercase()
        || LEGACY.iter().any(|legacy| name.starts_with(legacy))
    {
        return None;
    }
    entity(&lower).map(|value| value.to_uppercase())
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

/// Names that need no semicolon.
const LEGACY: [&str; 106] = [
    "AElig", "AMP", "Aacute", "Acirc", "Agrave", "Aring", "Atilde", "Auml", "COPY", "Ccedil", "ETH",
    "Eacute", "Ecirc", "Egrave", "Euml", "GT", "Iacute", "Icirc", "Igrave", "Iuml", "LT", "Ntilde", "Oacute",
    "Ocirc", "Ograve", "Oslash", "Otilde", "Ouml", "QUOT", "REG", "THORN", "Uacute", "Ucirc", "Ugrave",
    "Uuml", "Yacute", "aacute", "acirc", "acute", "aelig", "agrave", "amp", "aring", "atilde", "auml",
    "brvbar", "ccedil", "cedil", "cent", "copy", "curren", "deg", "divide", "eacute", "ecirc", "egrave",
    "eth", "euml", "frac12", "frac14", "frac34", "gt", "iacute", "icirc", "iexcl", "igrave", "iquest",
    "iuml", "laquo", "lt", "macr", "micro", "middot", "nbsp", "not", "ntilde", "oacute", "ocirc", "ograve",
    "ordf", "ordm", "oslash", "otilde", "ouml", "para", "plusmn", "pound", "quot", "raquo", "reg", "sect",
    "shy", "sup1", "sup2", "sup3", "szlig", "thorn", "times", "uacute", "ucirc", "ugrave", "uml", "uuml",
    "yacute", "yen", "yuml",
];

/// Second characters of the names that stand for two; the table of the library has the first only.
const SECOND: [(char, &str); 8] = [
    (
        'j',
        "\
        fjlig",
    ),
    (
        '\u{331}',
        "\
        race",
    ),
    (
        '\u{333}',
        "\
        acE",
    ),
    (
        '\u{338}',
        "\
        NotEqualTilde NotGreaterFullEqual NotGreaterGreater NotGreaterSlantEqual NotHumpDownHump \
        NotHumpEqual NotLeftTriangleBar NotLessLess NotLessSlantEqual NotNestedGreaterGreater \
        NotNestedLessLess NotPrecedesEqual NotRightTriangleBar NotSquareSubset NotSquareSuperset \
        NotSucceedsEqual NotSucceedsTilde nGg nGtv nLl nLtv napE napid nbump nbumpe ncongdot nedot \
        nesim ngE ngeqq ngeqslant nges nlE nleqq nleqslant nles notinE notindot npart npre npreceq \
        nrarrc nrarrw nsce nsubE nsubseteqq nsucceq nsupE nsupseteqq",
    ),
    (
        '\u{200a}',
        "\
        ThickSpace",
    ),
    (
        '\u{20d2}',
        "\
        NotSubset NotSuperset nGt nLt nang nsubset nsupset nvap nvge nvgt nvle nvlt nvltrie nvrtrie \
        nvsim vnsub vnsup",
    ),
    (
        '\u{20e5}',
        "\
        bne bnequiv nparsl",
    ),
    (
        '\u{fe00}',
        "\
        caps cups gesl gvertneqq gvnE lates lesg lvertneqq lvnE smtes sqcaps sqcups varsubsetneq \
        varsubsetneqq varsupsetneq varsupsetneqq vsubnE vsubne vsupnE vsupne",
    ),
];

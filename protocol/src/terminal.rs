//! Output of `lift` and the trainer to standard error and standard output; no other code writes there.
//!
//! A terminal may go away, a pipe may lose its reader, a disk may be full. Standard error receives messages: one that
//! cannot be written is dropped, where `eprintln!` would panic and end the run. Standard output receives results: a
//! failed write is an error, unless the reader has closed the pipe early, as `head` does. SIGPIPE stays ignored, as
//! Rust's runtime sets it, so a closed pipe is an error of the write and does not end the process.
//!
//! Names come from lists, presets and foreign files, and may contain control characters that a terminal interprets. All
//! text is therefore escaped here; other code escapes with the same functions.

use crate::Outcome;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, Write};

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// State of the reader of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputReader {
    /// The output is read, or is a file.
    There,
    /// The reader has closed the pipe: further output is useless.
    Left,
}

/// Prints a message to standard error. It may have several lines.
pub fn say(sentence: impl Display) {
    let mut text = escaped(&sentence.to_string()).into_owned();
    text.push('\n');
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints a result of clap: help and version are results, anything else is wrong input.
pub fn answer(usage: &clap::Error) -> Outcome {
    if usage.use_stderr() {
        say(usage.render().to_string().trim_end());
        return Outcome::WrongInput;
    }
    match usage.print() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(format_args!("error: {}", OutputError(error)));
            Outcome::Failed
        }
        _ => Outcome::Done,
    }
}

/// Prints text to standard output.
pub fn print(text: &str) -> Result<OutputReader, OutputError> {
    print_as_is(escaped(text).as_ref())
}

/// Prints JSON to standard output.
pub fn print_json(text: &str) -> Result<OutputReader, OutputError> {
    print_as_is(escaped_json(text).as_ref())
}

/// Prints text with control characters of this program, such as bold text. The caller has escaped all other text in it.
pub fn print_as_is(text: impl AsRef<[u8]>) -> Result<OutputReader, OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(OutputReader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(OutputReader::Left),
        Err(error) => Err(OutputError(error)),
    }
}

/// Escapes the control characters of text, except line breaks.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |letter| letter == '\n', rust_escape)
}

/// Escapes the control characters of text, including line breaks.
pub fn escaped_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, rust_escape)
}

/// Escapes JSON, which itself does not escape all of these characters.
pub fn escaped_json(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |letter| letter == '\n',
        |letter, text| {
            // All of them fit into four digits. Writing to a string does not fail.
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        },
    )
}

/// Quotes words for a shell.
pub fn shell_words<W: AsRef<OsStr>>(words: &[W]) -> String {
    words.iter().map(|word| shell_word(&word.as_ref().to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=,:+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Bytes of a log, escaped. Tabs stay; what is not UTF-8 is shown as `\xNN`.
pub fn escaped_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&escape(chunk.valid(), |letter| matches!(letter, '\n' | '\t'), rust_escape));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// `\u{1b}`, `\r`, `\t`, `\n`
fn rust_escape(letter: char, text: &mut String) {
    text.extend(letter.escape_default());
}

fn escape(text: &str, keep: fn(char) -> bool, write: fn(char, &mut String)) -> Cow<'_, str> {
    let is_obeyed = |letter: char| is_obeyed(letter) && !keep(letter);
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_obeyed(letter) { write(letter, &mut safe) } else { safe.push(letter) }
    }
    Cow::Owned(safe)
}

/// Whether a terminal interprets a character instead of showing it: control characters of both ranges, line and
/// paragraph separators, and those that change the direction of text.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(
            escaped("\u{1b}]0;x\u{7}red\r\n\u{9b}31m\u{7f}"),
            "\\u{1b}]0;x\\u{7}red\\r\n\\u{9b}31m\\u{7f}"
        );
        assert_eq!(escaped("a\u{202e}b\u{2069}"), "a\\u{202e}b\\u{2069}");
        assert_eq!(escaped_line("two\nlines\tand a tab"), "two\\nlines\\tand a tab");
        assert_eq!(escaped_bytes(b"a\tb\x1b[1m\xc2\x9b\x9b\xc3\xa4\n"), "a\tb\\u{1b}[1m\\u{9b}\\x9b\u{e4}\n");
    }

    #[test]
    fn what_people_write_stays() {
        for text in ["\u{c4}rger \u{f6}", "日本の鳥", "100% {} {0} \\ `x`", "emoji 🐦", "עברית"] {
            assert!(matches!(escaped_line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(
            shell_words(&["lift", "-n", "2", "runs/a b", "it's", ""]),
            r"lift -n 2 'runs/a b' 'it'\''s' ''"
        );
        assert_eq!(shell_words(&["tuner.partial=[0,2]", "日本"]), "'tuner.partial=[0,2]' 日本");
    }

    #[test]
    fn escaped_json_is_json() {
        let text = "\u{1b}\u{7f}\u{9b}\u{202e} \"x\"";
        let json = serde_json::to_string(text).unwrap();
        let safe = escaped_json(&json);
        assert!(safe.is_ascii(), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}

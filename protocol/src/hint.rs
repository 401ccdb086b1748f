//! Messages with a remedy. The text of an error is `sentence`, or `sentence\nhint: remedy` (docs/style.md, Errors).

use std::fmt::Display;

/// Begins the remedy, on a line of its own.
const HINT: &str = "\nhint: ";

/// The sentence of a message, and its hint.
pub fn split(message: &str) -> (&str, Option<&str>) {
    message.split_once(HINT).map_or((message, None), |(sentence, hint)| (sentence, Some(hint)))
}

/// A sentence with its hint.
pub fn joined(sentence: impl Display, hint: impl Display) -> String {
    format!("{sentence}{HINT}{hint}")
}

/// A message of one line, for logs and tables: `sentence; remedy`.
pub fn in_one_line(message: impl Display) -> String {
    message.to_string().replace(HINT, "; ")
}

/// Adds a clause to the sentence of a message: `sentence; clause`, before its hint.
pub fn with_clause(message: impl Display, clause: impl Display) -> String {
    let message = message.to_string();
    match split(&message) {
        (sentence, Some(hint)) => joined(format_args!("{sentence}; {clause}"), hint),
        (sentence, None) => format!("{sentence}; {clause}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH: &str = "`a` is full\nhint: free some space";

    #[test]
    fn a_message_has_a_sentence_and_perhaps_a_hint() {
        assert_eq!(split(WITH), ("`a` is full", Some("free some space")));
        assert_eq!(split("`a` is full"), ("`a` is full", None));
    }

    #[test]
    fn a_line_of_a_log_contains_both() {
        assert_eq!(in_one_line(WITH), "`a` is full; free some space");
    }

    #[test]
    fn a_clause_belongs_to_the_sentence() {
        assert_eq!(
            with_clause(WITH, "training continues"),
            "`a` is full; training continues\nhint: free some space"
        );
        assert_eq!(with_clause("no", "it ends"), "no; it ends");
    }
}

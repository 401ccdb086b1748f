//! What libtorch says when it refuses an operation.

use std::fmt::Display;

/// What tch puts before a message of libtorch.
const PREFIX: &str = "Internal torch error: ";

/// The message, without what comes before it and without the frames of C++ that follow it.
pub(in crate::engine) fn reason(error: impl Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches(PREFIX).trim_end_matches(['.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_message_alone() {
        assert_eq!(
            reason("Internal torch error: no such thing.\nException raised from f at x.cpp:1"),
            "no such thing"
        );
        assert_eq!(reason(""), "");
    }
}

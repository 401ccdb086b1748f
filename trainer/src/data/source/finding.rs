//! What a person should know about a data set that can be trained on all the same.

use std::fmt;

/// One thing that was found when a data set was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Severity,
    /// A sentence with the thing, what was done with it, and what to do.
    pub text: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// How the data were understood.
    Note,
    /// Numbers may not mean what the person thinks.
    Warning,
}

impl Finding {
    /// Something that a person may want to know.
    pub fn note(text: impl Into<String>) -> Self {
        Self { weight: Severity::Note, text: text.into() }
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { weight: Severity::Warning, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            Severity::Note => f.write_str(&self.text),
            Severity::Warning => write!(f, "warning: {}", self.text),
        }
    }
}

/// `1 picture`, `2 pictures`.
pub(super) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The first few of many things, and how many more there are.
pub(super) fn first_few<T: fmt::Display>(things: impl ExactSizeIterator<Item = T>) -> String {
    const FEW: usize = 5;
    let count = things.len();
    let text = things.take(FEW).map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ");
    if count > FEW { format!("{text} and {} more", count - FEW) } else { text }
}

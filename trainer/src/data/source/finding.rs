//! Findings about a data set that do not prevent training.

use std::fmt;

/// One finding from opening a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its severity.
    pub weight: Severity,
    /// A sentence with the finding, its effect and the remedy.
    pub text: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// How the data were interpreted.
    Note,
    /// Results may not mean what the user expects.
    Warning,
}

impl Finding {
    /// A fact that the user may want to know.
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

//! An option, as declared beside its field.

use super::kind::OptionWord;
use super::limit::ValueLimit;
use super::needs::Needs;
use toml::Value;

/// An option.
#[derive(Debug, Clone, Copy)]
pub struct OptionKey {
    /// Full name, `section.key`.
    pub name: &'static str,
    /// Name inside the section.
    pub short: &'static str,
    /// Lines of its documentation. The first sentence is a summary.
    pub about: &'static [&'static str],
    /// The default value.
    pub default: fn() -> Value,
    /// The accepted words, if it is a choice.
    pub words: fn() -> Vec<OptionWord>,
    /// The name of its type where a range follows.
    pub noun: fn() -> &'static str,
    /// The values that its type accepts, in words.
    pub expected: fn() -> String,
    /// The value in the canonical form of its type, or `None` if its type does not accept it.
    pub canonical: fn(&Value) -> Option<Value>,
    /// Whether a value names a file or folder.
    pub is_path: fn(&Value) -> bool,
    /// The accepted range, if not every value of its type is accepted.
    pub limit: Option<ValueLimit>,
    /// Conditions that must all hold for the option to have an effect.
    pub needs: &'static [Needs],
    /// The meaning of a changed value for a resumed run.
    pub on_resume: OnResume,
    /// The key whose folder relative paths in a file are relative to; by default they are relative to the file's folder.
    pub starts_at: Option<&'static str>,
    /// A former full name, which is still accepted.
    pub formerly: Option<&'static str>,
}

impl OptionKey {
    /// Whether a value has the right type.
    pub fn accepts(&self, value: &Value) -> bool {
        (self.canonical)(value).is_some()
    }

    /// The first sentence of the documentation.
    pub fn summary(&self) -> String {
        let text = sentences(self.about);
        text.find(". ").map_or(text.trim_end_matches('.'), |end| &text[..end]).to_owned()
    }
}

/// Lines of documentation as one line.
pub fn sentences(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The meaning of a changed value of an option for a resumed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnResume {
    /// The change is refused: it would be another run.
    Part,
    /// It changes the samples of the steps: it may change only at the end of an epoch.
    Order,
    /// It may change: it affects device and speed only, or names files whose contents are compared separately.
    Free,
}

//! An option: what is declared beside its field.

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
    /// The value that it has unless a preset or the user gives another.
    pub default: fn() -> Value,
    /// The words it may hold, if it is a choice.
    pub words: fn() -> Vec<OptionWord>,
    /// What its type is called where a range follows.
    pub noun: fn() -> &'static str,
    /// What its type accepts, in words.
    pub expected: fn() -> String,
    /// The value as its type writes it, or none if its type does not take it.
    pub canonical: fn(&Value) -> Option<Value>,
    /// Whether a value names a file or folder.
    pub is_path: fn(&Value) -> bool,
    /// Which values of its type it takes, if not all.
    pub limit: Option<ValueLimit>,
    /// All of these have to hold for it to have an effect.
    pub needs: &'static [Needs],
    /// What another value means for a run that is resumed.
    pub on_resume: OnResume,
    /// The key whose folder its relative paths start from where a file gives them; else they start from the file's own.
    pub starts_at: Option<&'static str>,
    /// A full name that it had, which is still read.
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

/// What another value of an option means for a run that is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnResume {
    /// It is another run.
    Part,
    /// It is another run, with other samples in its steps: it may change only where an epoch ends.
    Order,
    /// Nothing: it changes where and how fast a run computes, or what files hold, which is compared by itself.
    Free,
}

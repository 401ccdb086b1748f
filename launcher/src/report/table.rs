//! A table that HTML, Markdown and LaTeX show alike.

use std::fmt::Write;

/// Stands for a figure that does not exist.
pub const NONE: &str = "–";

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub head: String,
    /// Numbers are set to the right.
    pub is_number: bool,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it shows, in a few words.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its cells, unescaped.
    pub rows: Vec<Vec<String>>,
    /// What a reader needs to know, below the table.
    pub note: Option<String>,
}

impl Table {
    /// A table without rows. The head of a column of numbers begins with `#`.
    pub fn new(caption: &str, heads: &[&str]) -> Self {
        let column = |head: &&str| Column {
            head: head.trim_start_matches('#').to_owned(),
            is_number: head.starts_with('#'),
        };
        Self {
            caption: caption.to_owned(),
            columns: heads.iter().map(column).collect(),
            rows: Vec::new(),
            note: None,
        }
    }

    /// The same table with a note.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Self {
        self.note = Some(note.to_owned());
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// A figure in percent, with one decimal.
pub fn percent(figure: Option<f64>) -> String {
    figure.map_or_else(|| NONE.to_owned(), |figure| format!("{figure:.1}"))
}

/// `part` of `whole` in percent.
pub fn share(part: u64, whole: u64) -> String {
    percent((whole > 0).then(|| 100.0 * part as f64 / whole as f64))
}

/// Seconds as `1 h 2 min`, `2 min 3 s` or `4.5 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A number with its sign and one decimal.
pub fn signed(figure: f64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{figure:+.1}");
    if text == "-0.0" { "+0.0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([4.52, 123.0, 3720.0].map(duration), ["4.5 s", "2 min 3 s", "1 h 2 min"]);
        assert_eq!([0.04, -0.04, 1.26, -3.0].map(signed), ["+0.0", "+0.0", "+1.3", "-3.0"]);
        assert_eq!(
            (percent(None), percent(Some(73.456)), share(1, 3)),
            ("–".into(), "73.5".into(), "33.3".into())
        );
    }
}

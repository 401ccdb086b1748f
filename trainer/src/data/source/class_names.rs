//! Class names in label order, in the forms that data sets come with.
//!
//! The plain form is one name per line. `ID name` and `FOLDER name` lines (LIFT's own `classnames.txt`), numbered
//! lines, JSON (`categories.json` of iNaturalist) and CSV are also accepted, and the form that was recognised is
//! reported. Ids and folders are matched with the folders of the training images, which determine the labels.

mod folders;
mod lines;
mod tables;

use super::finding::{Finding, first_few};
use super::read_text;
use crate::data::error::DataError;
pub(super) use folders::Folders;
use folders::Match;
pub(super) use lines::is_wordnet_id;
use std::path::Path;

/// The forms that are read, for refusals.
const FORMS: &str = "one name a line in the order of the labels, `ID name` or `FOLDER name` lines, a JSON list or table \
                     of names, or CSV with a header";

/// Class names, and the form in which they were recognised.
#[derive(Debug, Default)]
pub(super) struct ClassNames {
    pub(super) names: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

/// The parsed content of a file of class names.
enum NameTable {
    /// Names in label order.
    Ordered(Vec<String>),
    /// Labels with their names.
    Numbered(Vec<(u64, String)>),
    /// Folders or ids with their names.
    Keyed(Vec<(String, String)>, RowOrder),
}

/// Whether the rows of a table are in label order, where nothing else determines the labels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowOrder {
    OfLabels,
    Unknown,
}

/// A table, and its form in words if it is not the plain one.
struct TableForm {
    table: NameTable,
    words: Option<String>,
    findings: Vec<Finding>,
}

impl TableForm {
    fn plain(names: Vec<String>) -> Self {
        Self { table: NameTable::Ordered(names), words: None, findings: Vec::new() }
    }

    fn of(table: NameTable, words: impl Into<String>) -> Self {
        Self { table, words: Some(words.into()), findings: Vec::new() }
    }
}

/// Reads class names. `folders` gives the folder of the training images of each label.
pub(super) fn read_class_names(path: &Path, folders: &Folders) -> Result<ClassNames, DataError> {
    let text = read_text("class names", path)?;
    let wrong = |reason: String| DataError::content("class names", path, reason);
    if text.trim().is_empty() {
        return Err(wrong(format!("the file is empty; expected {FORMS}")));
    }
    let ending =
        path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if let Some(kind) = foreign(&text, &ending) {
        return Err(wrong(format!("it is {kind}; expected {FORMS}")));
    }
    let form = match text.trim_start().as_bytes() {
        [b'{' | b'[', ..] => tables::json(&text).map_err(wrong)?,
        _ => match tables::csv(&text, &ending).map_err(wrong)? {
            Some(form) => form,
            None => lines::read(path, &text, folders)?,
        },
    };
    let TableForm { table, words, mut findings } = form;
    let (names, order) = match table {
        NameTable::Ordered(names) => (names, None),
        NameTable::Numbered(rows) => by_number(rows).map_err(wrong)?,
        NameTable::Keyed(rows, order) => by_folder(rows, order, folders).map_err(wrong)?,
    };
    if let Some(class) = names.iter().position(String::is_empty) {
        return Err(wrong(format!("the name of class {class} is empty")));
    }
    if let Some(words) = words {
        let order = order.map(|order| format!(", {order}")).unwrap_or_default();
        let examples = first_few(names.iter().take(3).map(|name| format!("`{name}`")));
        findings.push(Finding::note(format!("class names `{}`: {words}{order}: {examples}", path.display())));
    }
    Ok(ClassNames { names, findings })
}

/// Files that do not contain class names, or contain them in an unsupported form.
fn foreign(text: &str, ending: &str) -> Option<&'static str> {
    if text.starts_with("version https://git-lfs") {
        return Some("a Git LFS pointer, whose content was not fetched (`git lfs pull`)");
    }
    if text.trim_start().starts_with('<') {
        return Some("an HTML or XML page");
    }
    match ending {
        "yaml" | "yml" => Some("a YAML file"),
        "toml" => Some("a TOML file"),
        "jsonl" => Some("a file of JSON lines"),
        _ => None,
    }
}

/// Names in the order of their numbers, which have to be 0, 1, 2, ... or 1, 2, 3, ...
fn by_number(mut rows: Vec<(u64, String)>) -> Result<(Vec<String>, Option<String>), String> {
    rows.sort_by_key(|&(number, _)| number);
    let first = rows.first().map_or(0, |&(number, _)| number);
    let expected = |index: usize| first + index as u64;
    if let Some(index) = (0..rows.len()).find(|&index| first > 1 || rows[index].0 != expected(index)) {
        let (found, wanted) = (rows[index].0, if first > 1 { 0 } else { expected(index) });
        return Err(format!(
            "expected the numbers 0, 1, 2, ... of the labels, found {found} where {wanted} is due"
        ));
    }
    let words = if first == 1 { "number 1 is class 0" } else { "in the order of the numbers" };
    Ok((rows.into_iter().map(|(_, name)| name).collect(), Some(words.to_owned())))
}

/// Names in the order given by the folders of the training images, or else in the order of the file.
fn by_folder(
    rows: Vec<(String, String)>,
    order: RowOrder,
    folders: &Folders,
) -> Result<(Vec<String>, Option<String>), String> {
    let keys: Vec<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
    match folders.find(&keys) {
        Match::InOrder { whole } if whole || order == RowOrder::OfLabels => {
            let most = if order == RowOrder::OfLabels { rows.len() } else { folders.len() };
            Ok((
                rows.into_iter().take(most).map(|(_, name)| name).collect(),
                Some("in the order of the folders".to_owned()),
            ))
        }
        Match::Rows(places) => Ok((
            places.into_iter().map(|row| rows[row].1.clone()).collect(),
            Some("matched with the folders of the training pictures".to_owned()),
        )),
        Match::Conflict { label, folder, key } => Err(format!(
            "the pictures of label {label} lie in `{folder}`, which is `{key}` here, but not all labels can be matched \
             like that\nhint: give one line a class in the order of the labels"
        )),
        Match::None if order == RowOrder::OfLabels => {
            Ok((rows.into_iter().map(|(_, name)| name).collect(), None))
        }
        Match::None | Match::InOrder { .. } => Err(format!(
            "it names folders or ids such as `{}`, but the paths of the training pictures do not hold one for each \
             label, so the order is not known; expected {FORMS}",
            keys[0]
        )),
    }
}

#[cfg(test)]
mod tests;

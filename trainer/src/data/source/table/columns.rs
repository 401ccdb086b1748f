//! The two columns of a table that matter, by their usual names or by the options that name them.

use crate::data::error::DataError;
use std::path::Path;

/// Usual names of the column of image names, the best first.
const IMAGE: [&str; 16] = [
    "file_name",
    "filename",
    "image_path",
    "file_path",
    "filepath",
    "path",
    "image_name",
    "image_file",
    "image",
    "img",
    "file",
    "image_id",
    "img_id",
    "imageid",
    "id",
    "name",
];

/// Usual names of the column of labels.
const LABEL: [&str; 16] = [
    "label",
    "labels",
    "class",
    "class_id",
    "category",
    "category_id",
    "target",
    "species",
    "label_id",
    "class_name",
    "label_name",
    "category_name",
    "breed",
    "diagnosis",
    "fine_label",
    "y",
];

/// The columns that options name.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::data::source) struct WantedColumns<'a> {
    pub(in crate::data::source) image: Option<&'a str>,
    pub(in crate::data::source) label: Option<&'a str>,
}

/// The names of the columns that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data::source) struct Columns {
    pub(in crate::data::source) image: String,
    pub(in crate::data::source) label: String,
}

impl Columns {
    /// Chooses the columns among those that are `there`.
    pub(in crate::data::source) fn choose(
        path: &Path,
        there: &[String],
        wanted: WantedColumns<'_>,
    ) -> Result<Self, DataError> {
        Ok(Self {
            image: image_column(path, there, wanted.image)?,
            label: label_column(path, there, wanted.label)?,
        })
    }
}

/// The column of images: several usual ones may be there, and the best is taken.
fn image_column(path: &Path, there: &[String], wanted: Option<&str>) -> Result<String, DataError> {
    if let Some(wanted) = wanted {
        return named(path, there, wanted, "data.image_column");
    }
    let found = IMAGE.iter().find_map(|usual| there.iter().find(|name| same(name, usual)));
    found.cloned().ok_or_else(|| missing(path, there, "images", "data.image_column", &IMAGE))
}

/// The column of labels: two usual ones may mean different things, so the choice is the user's.
pub(in crate::data::source) fn label_column(
    path: &Path,
    there: &[String],
    wanted: Option<&str>,
) -> Result<String, DataError> {
    if let Some(wanted) = wanted {
        return named(path, there, wanted, "data.label_column");
    }
    let found: Vec<&String> =
        there.iter().filter(|name| LABEL.iter().any(|usual| same(name, usual))).collect();
    match found[..] {
        [] => Err(missing(path, there, "labels", "data.label_column", &LABEL)),
        [one] => Ok(one.clone()),
        _ => {
            let reason = format!(
                "several columns may hold the labels: {}\nhint: name one with `--set data.label_column=NAME`",
                listed(&found)
            );
            Err(DataError::content("table", path, reason))
        }
    }
}

fn same(name: &str, usual: &str) -> bool {
    name.trim().replace([' ', '-'], "_").eq_ignore_ascii_case(usual)
}

fn named(path: &Path, there: &[String], wanted: &str, key: &str) -> Result<String, DataError> {
    let found = there.iter().find(|name| name.as_str() == wanted);
    found.cloned().ok_or_else(|| {
        let reason = format!("it has no column `{wanted}` (`{key}`); its columns are {}", listed(there));
        DataError::content("table", path, reason)
    })
}

fn missing(path: &Path, there: &[String], what: &str, key: &str, usual: &[&str]) -> DataError {
    let reason = format!(
        "no column is known to hold the {what} (such as {}); its columns are {}\nhint: name it with `--set {key}=NAME`",
        usual[..4].iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        listed(there)
    );
    DataError::content("table", path, reason)
}

/// The first of many columns, each shortened.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const MOST: usize = 20;
    let shown =
        names.iter().take(MOST).map(|name| format!("`{}`", super::super::labels::short(name.as_ref())));
    let text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{text} and {} more", names.len() - MOST) } else { text }
}

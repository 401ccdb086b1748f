//! The folders of the training images of each label, as evidence of which name belongs to which label.

use std::collections::{HashMap, HashSet};

/// For each label the folder of its first training image, if it has one.
#[derive(Debug, Default)]
pub(in crate::data::source) struct Folders(Vec<Option<String>>);

/// How the ids or folders in a file of names match the folders of the labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// No folder matches any of them.
    None,
    /// Every match agrees with the row number of its label; `whole` if every label has a match.
    InOrder { whole: bool },
    /// The row of each label.
    Rows(Vec<usize>),
    /// Some labels belong to other rows, but not every label has one.
    Conflict { label: usize, folder: String, key: String },
}

impl Folders {
    /// Of the images of a list.
    pub(in crate::data::source) fn of_list<'a>(pictures: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut folders: HashMap<u32, String> = HashMap::new();
        for (path, label) in pictures {
            folders
                .entry(label)
                .or_insert_with(|| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned());
        }
        let len = folders.keys().max().map_or(0, |&label| label as usize + 1);
        // A typing error in one label must not allocate gigabytes.
        let len = if len / 100 > folders.len() { 0 } else { len };
        Self(
            (0..len)
                .map(|label| folders.remove(&(label as u32)).filter(|folder| !folder.is_empty()))
                .collect(),
        )
    }

    /// Of class folders, in label order.
    pub(in crate::data::source) fn of_classes(names: &[String]) -> Self {
        Self(names.iter().cloned().map(Some).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Looks for the keys in the folders: as one part of the path, or several in a row (`/a/airfield`).
    pub(super) fn find(&self, keys: &[&str]) -> Match {
        let mut rows = HashMap::new();
        for (row, key) in keys.iter().enumerate() {
            if rows.insert(key.trim_matches('/'), row).is_some() {
                return Match::None;
            }
        }
        let found: Vec<Vec<usize>> = self.0.iter().map(|folder| rows_of(folder.as_deref(), &rows)).collect();
        let places: Vec<usize> = found.iter().filter_map(|rows| rows.first().copied()).collect();
        let whole =
            places.len() == found.len() && places.iter().collect::<HashSet<_>>().len() == places.len();
        let moved = |(label, rows): &(usize, &Vec<usize>)| !rows.is_empty() && !rows.contains(label);
        let Some((label, others)) = found.iter().enumerate().find(moved) else {
            return if places.is_empty() { Match::None } else { Match::InOrder { whole } };
        };
        if whole {
            return Match::Rows(places);
        }
        let folder = self.0[label].clone().unwrap_or_default();
        Match::Conflict { label, folder, key: keys[others[0]].to_owned() }
    }
}

/// The rows whose key is a part of a folder's path, the innermost and longest first.
fn rows_of(folder: Option<&str>, rows: &HashMap<&str, usize>) -> Vec<usize> {
    let Some(folder) = folder else { return Vec::new() };
    let folder = folder.trim_matches('/');
    let starts = |text: &str| -> Vec<usize> {
        std::iter::once(0).chain(text.match_indices('/').map(|(at, _)| at + 1)).collect()
    };
    let mut found = Vec::new();
    let ends = starts(folder).into_iter().skip(1).map(|at| at - 1).chain([folder.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        for start in starts(&folder[..end]) {
            found.extend(rows.get(&folder[start..end]));
        }
    }
    found
}

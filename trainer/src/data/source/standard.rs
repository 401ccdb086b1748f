//! The files of a data set under their standard names, where no option names them.

use super::{DataLayout, DataSpec, below};
use crate::data::error::DataError;
use crate::data::pack::index::MANIFEST;
use std::path::{Path, PathBuf};

/// Names of the two halves, the best first.
const TRAIN: [&str; 1] = ["train"];
const TEST: [&str; 5] = ["test", "val", "validation", "valid", "dev"];

/// Standard names of a kind of file: below a folder of the half, or beginning with the half.
pub(super) struct Wanted {
    /// The kind of file, for messages.
    what: &'static str,
    /// Names below the folder of a half.
    below: &'static [&'static str],
    /// Endings of files that begin with the half.
    endings: &'static [&'static str],
    /// Whether all files that fit belong to the half.
    several: bool,
}

impl Wanted {
    pub(super) const TABLES: Self = Self {
        what: "table",
        below: &["metadata.csv", "metadata.tsv", "metadata.jsonl"],
        endings: &["csv", "tsv", "jsonl"],
        several: false,
    };
    pub(super) const ANNOTATIONS: Self =
        Self { what: "file of annotations", below: &[], endings: &["json"], several: false };
    pub(super) const PARQUET: Self =
        Self { what: "Parquet files", below: &[], endings: &["parquet"], several: true };
    pub(super) const SHARDS: Self = Self { what: "tar shards", below: &[], endings: &["tar"], several: true };
}

/// The layouts whose files have standard names.
const LAYOUTS: [(Wanted, DataLayout); 4] = [
    (Wanted::TABLES, DataLayout::Table),
    (Wanted::PARQUET, DataLayout::Parquet),
    (Wanted::SHARDS, DataLayout::Shards),
    (Wanted::ANNOTATIONS, DataLayout::Annotations),
];

/// The layout whose training files lie in `root` under their standard names.
pub(super) fn layout(root: &Path) -> Option<DataLayout> {
    if root.join(MANIFEST).is_file() {
        return Some(DataLayout::Packed);
    }
    if has_class_folders(root) {
        return None;
    }
    let mut layouts = LAYOUTS.iter().filter(|(wanted, _)| !find(root, &TRAIN, wanted).is_empty());
    layouts.next().map(|&(_, layout)| layout)
}

/// Whether `train` has folders, beside a folder of the test half, and no table: a table in the root is then something else.
fn has_class_folders(root: &Path) -> bool {
    let train = root.join("train");
    let has_table = Wanted::TABLES.below.iter().any(|name| train.join(name).is_file());
    let has_test = ["test", "val"].iter().any(|name| root.join(name).is_dir());
    let mut entries = std::fs::read_dir(train).into_iter().flatten().flatten();
    !has_table && has_test && entries.any(|entry| entry.path().is_dir())
}

/// A layout that was found in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardLayout {
    /// The layout.
    pub layout: DataLayout,
    /// Whether the folder has test images.
    pub has_test: bool,
    /// The only files, where they are not named after a half.
    pub train: Option<PathBuf>,
}

/// The layout of a folder: by the standard names of its training files, or by the only file or files that a layout has.
pub fn standard_layout(root: &Path) -> Option<StandardLayout> {
    if let Some(layout) = layout(root) {
        let of_layout = |(wanted, other): &(Wanted, DataLayout)| {
            *other == layout && !find(root, &TEST, wanted).is_empty()
        };
        let has_test = layout == DataLayout::Packed || LAYOUTS.iter().any(of_layout);
        return Some(StandardLayout { layout, has_test, train: None });
    }
    if has_class_folders(root) {
        return None;
    }
    LAYOUTS.iter().find_map(|(wanted, layout)| {
        let files = with_ending(root, wanted.endings);
        let train = match &files[..] {
            [] => return None,
            [one] => one.clone(),
            _ if wanted.several => PathBuf::from("."),
            _ => return None,
        };
        Some(StandardLayout { layout: *layout, has_test: false, train: Some(train) })
    })
}

/// The file of the training half.
pub(super) fn train(spec: &DataSpec, wanted: &Wanted) -> Result<PathBuf, DataError> {
    one(spec.train_list.as_deref(), spec, &TRAIN, "data.train_list", wanted)
}

/// The file of the test half.
pub(super) fn test(spec: &DataSpec, wanted: &Wanted) -> Result<PathBuf, DataError> {
    one(spec.test_list.as_deref(), spec, &TEST, "data.test_list", wanted)
}

fn one(
    given: Option<&Path>,
    spec: &DataSpec,
    halves: &[&str],
    key: &str,
    wanted: &Wanted,
) -> Result<PathBuf, DataError> {
    if let Some(path) = given {
        return Ok(below(&spec.root, path));
    }
    let found = find(&spec.root, halves, wanted);
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(absent(spec, halves, key, wanted)),
        several => {
            let names: Vec<String> = several.iter().map(|path| format!("`{}`", path.display())).collect();
            let reason = format!(
                "several files may be its {}: {}\nhint: name one with `--set {key}=PATH`",
                wanted.what,
                names.join(", ")
            );
            Err(DataError::content("data root", &spec.root, reason))
        }
    }
}

/// All files of the training half, sorted.
pub(super) fn all_train(spec: &DataSpec, wanted: &Wanted) -> Result<Vec<PathBuf>, DataError> {
    all(spec.train_list.as_deref(), spec, &TRAIN, "data.train_list", wanted)
}

/// All files of the test half, sorted.
pub(super) fn all_test(spec: &DataSpec, wanted: &Wanted) -> Result<Vec<PathBuf>, DataError> {
    all(spec.test_list.as_deref(), spec, &TEST, "data.test_list", wanted)
}

/// A file, a folder of files, or a pattern such as `train-{0000..0146}.tar` or `train-*.tar`.
fn all(
    given: Option<&Path>,
    spec: &DataSpec,
    halves: &[&str],
    key: &str,
    wanted: &Wanted,
) -> Result<Vec<PathBuf>, DataError> {
    let Some(given) = given else {
        let found = find(&spec.root, halves, wanted);
        return if found.is_empty() { Err(absent(spec, halves, key, wanted)) } else { Ok(found) };
    };
    let path = below(&spec.root, given);
    if path.is_file() {
        return Ok(vec![path]);
    }
    let found = if path.is_dir() { with_ending(&path, wanted.endings) } else { expanded(&path) };
    if found.is_empty() {
        let reason = format!(
            "expected {} (a file, a folder of them, or a pattern such as `{{0000..0146}}` or `*`), found none\nhint: correct `{key}`",
            wanted.what
        );
        return Err(DataError::content("data path", path, reason));
    }
    Ok(found)
}

fn absent(spec: &DataSpec, halves: &[&str], key: &str, wanted: &Wanted) -> DataError {
    let half = halves[0];
    let mut names: Vec<String> = wanted.below.iter().take(1).map(|name| format!("`{half}/{name}`")).collect();
    let star = if wanted.several { "-*" } else { "" };
    names.extend(wanted.endings.iter().take(1).map(|ending| format!("`{half}{star}.{ending}`")));
    let reason = format!(
        "expected {} such as {}, found none\nhint: name it with `--set {key}=PATH`",
        wanted.what,
        names.join(" or ")
    );
    DataError::content("data root", &spec.root, reason)
}

/// The files of the first half that has any.
fn find(root: &Path, halves: &[&str], wanted: &Wanted) -> Vec<PathBuf> {
    halves.iter().map(|half| of_half(root, half, wanted)).find(|found| !found.is_empty()).unwrap_or_default()
}

fn of_half(root: &Path, half: &str, wanted: &Wanted) -> Vec<PathBuf> {
    let below = wanted.below.iter().map(|name| root.join(half).join(name)).filter(|path| path.is_file());
    let below: Vec<PathBuf> = below.collect();
    if !below.is_empty() {
        return below;
    }
    if wanted.several {
        let folder = with_ending(&root.join(half), wanted.endings);
        if !folder.is_empty() {
            return folder;
        }
    }
    for folder in [root.to_owned(), root.join("data")] {
        let files = with_ending(&folder, wanted.endings);
        let fits = |path: &PathBuf| begins_with(path, half);
        let found: Vec<PathBuf> = files.into_iter().filter(fits).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Whether a file is called `half`, or `half` with a number or another word behind it that is no part of the word.
fn begins_with(path: &Path, half: &str) -> bool {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    name.strip_prefix(half).is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_alphabetic()))
}

fn with_ending(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        endings.iter().any(|known| known.eq_ignore_ascii_case(ending)) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.filter(fits).collect();
    files.sort_unstable();
    files
}

/// Limit on the files that a pattern stands for.
const MOST_FILES: usize = 1 << 20;

/// The files of a pattern in the name: braces in their order, whether the files exist or not, or the existing files of `*`,
/// sorted.
fn expanded(path: &Path) -> Vec<PathBuf> {
    let (Some(name), Some(folder)) = (path.file_name().and_then(|name| name.to_str()), path.parent()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in braces(name) {
        match name.split_once('*') {
            Some((before, after)) => {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                let fits = |name: &String| {
                    name.len() >= before.len() + after.len()
                        && name.starts_with(before)
                        && name.ends_with(after)
                };
                let mut names: Vec<String> = names.filter(fits).collect();
                names.sort_unstable();
                found.extend(names.into_iter().map(|name| folder.join(name)));
            }
            None if name.as_str() != path.file_name().unwrap_or_default() => found.push(folder.join(name)),
            None => {}
        }
    }
    found
}

/// Expands `{000..146}` and `{a,b}` as a shell does.
fn braces(name: &str) -> Vec<String> {
    let parts = name.split_once('{').and_then(|(before, rest)| {
        let (inner, after) = rest.split_once('}')?;
        Some((before, inner, after))
    });
    let Some((before, inner, after)) = parts else { return vec![name.to_owned()] };
    let middles: Vec<String> = match inner.split_once("..") {
        Some((first, last)) => {
            let (Ok(from), Ok(to)) = (first.parse::<usize>(), last.parse::<usize>()) else {
                return Vec::new();
            };
            let width = if first.len() == last.len() { first.len() } else { 0 };
            (from..=to).take(MOST_FILES).map(|number| format!("{number:0width$}")).collect()
        }
        None => inner.split(',').map(str::to_owned).collect(),
    };
    let rests = braces(after);
    let all =
        middles.iter().flat_map(|middle| rests.iter().map(move |rest| format!("{before}{middle}{rest}")));
    all.take(MOST_FILES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand_as_in_a_shell() {
        assert_eq!(braces("t-{008..010}.tar"), ["t-008.tar", "t-009.tar", "t-010.tar"]);
        assert_eq!(braces("{a,b}-{1..2}"), ["a-1", "a-2", "b-1", "b-2"]);
        assert_eq!(braces("plain"), ["plain"]);
        assert_eq!(braces("{5..1}"), [""; 0]);
        assert_eq!(braces("{x..y}"), [""; 0]);
        assert_eq!(braces("{0..99999999999}").len(), MOST_FILES);
    }

    #[test]
    fn halves_are_found_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["train2018.json", "val2018.json", "trainer.json", "data/train-1.parquet", "data/train-0.parquet"]
        {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let spec = DataSpec { root: root.path().into(), ..DataSpec::default() };
        assert_eq!(train(&spec, &Wanted::ANNOTATIONS).unwrap(), root.path().join("train2018.json"));
        assert_eq!(test(&spec, &Wanted::ANNOTATIONS).unwrap(), root.path().join("val2018.json"));
        assert_eq!(all_train(&spec, &Wanted::PARQUET).unwrap().len(), 2);
        assert_eq!(layout(root.path()), Some(DataLayout::Parquet));
        for folder in ["train/a", "val/a"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        assert_eq!(layout(root.path()), None, "class folders");
        std::fs::remove_dir_all(root.path().join("train")).unwrap();
        let error = all_test(&spec, &Wanted::PARQUET).unwrap_err().to_string();
        assert!(error.ends_with("expected Parquet files such as `test-*.parquet`, found none\nhint: name it with `--set data.test_list=PATH`"), "{error}");
    }
}

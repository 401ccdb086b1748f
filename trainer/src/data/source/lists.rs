//! List files: one `path label` a line, over a folder or a tar file of images.

use super::class_names::{ClassNames, Folders, read_class_names};
use super::files::{self, FileSample, read_stored};
use super::names::StringTable;
use super::stored::{Stored, decoded};
use super::tar::{TarFile, TarIndex, TarMember};
use super::{DataSet, DataSpec, ImageReader, Split, SplitFiles, below, read_text};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Limit on labels without class names, as a multiple of the number of images: a typing error in one label must
/// not create thousands of empty classes.
const MOST_EMPTY: u64 = 100;

/// Opens a data set of list files.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let list = |path: &Option<PathBuf>, key: &str| match path {
        Some(path) => read_list(&below(&spec.root, path))?.counted_from(spec.first_label),
        None => Err(DataError::Setting(format!("list files need `{key}`, the list of `path label` lines"))),
    };
    let train = list(&spec.train_list, "data.train_list")?;
    let test = if spec.has_test() { Some(list(&spec.test_list, "data.test_list")?) } else { None };
    let ClassNames { names: class_names, findings } = match &spec.class_names {
        Some(path) => read_class_names(&below(&spec.root, path), &train.folders())?,
        None => ClassNames { names: numbered_classes(&train, spec.first_label)?, findings: Vec::new() },
    };
    for list in [&train].into_iter().chain(&test) {
        list.check_labels(class_names.len())?;
    }
    let root = spec.images.as_ref().map_or(spec.root.clone(), |images| below(&spec.root, images));
    let images = ImageLocation::open(root)?;
    let train = train.into_split(&images)?;
    let test = test.map_or_else(|| Ok(Split::empty()), |test| test.into_split(&images))?;
    Ok(DataSet { class_names, train, test, findings })
}

/// Default names for the classes of a list: their numbers.
fn numbered_classes(train: &ListFile, first: u32) -> Result<Vec<String>, DataError> {
    let largest = train.labels.iter().max().copied().unwrap_or(0);
    numbered(largest, first, train.labels.len())
        .map_err(|reason| DataError::content("list", &train.path, reason))
}

/// Classes that are named by the numbers of their labels, up to the largest class of `images` images.
pub(super) fn numbered(largest: u32, first: u32, images: usize) -> Result<Vec<String>, String> {
    if u64::from(largest) >= images as u64 * MOST_EMPTY {
        return Err(format!(
            "the largest label {largest} leaves most classes empty\nhint: name the classes in `data.class_names`"
        ));
    }
    Ok((0..=largest).map(|class| (u64::from(class) + u64::from(first)).to_string()).collect())
}

/// The lines of a list file.
pub(super) struct ListFile {
    pub(super) path: PathBuf,
    pub(super) names: StringTable,
    pub(super) labels: Vec<u32>,
    /// Line number of each entry, counted from 1; empty lines are skipped.
    pub(super) lines: Vec<u32>,
}

/// Reads a list. The label is the last field of a line, so paths may contain spaces.
pub(super) fn read_list(path: &Path) -> Result<ListFile, DataError> {
    let text = read_text("list", path)?;
    let mut list =
        ListFile { path: path.into(), names: StringTable::default(), labels: Vec::new(), lines: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |reason: String| DataError::line(path, index + 1, reason);
        let Some((name, label)) = line.rsplit_once(char::is_whitespace) else {
            let hint = if line.contains(',') {
                " (fields are separated by a space or a tab, not by a comma)"
            } else {
                ""
            };
            return Err(wrong(format!("expected `path label`{hint}, found `{}`", shortened(line))));
        };
        let label = label.parse().map_err(|_| {
            wrong(format!(
                "expected a label (0, 1, 2, ...) at the end of the line, found `{}`",
                shortened(label)
            ))
        })?;
        list.names.push(name.trim_end());
        list.labels.push(label);
        list.lines.push(index as u32 + 1);
    }
    if list.labels.is_empty() {
        return Err(DataError::content("list", path, "the file is empty; expected `path label` lines"));
    }
    list.names.shrink();
    list.labels.shrink_to_fit();
    Ok(list)
}

/// A line as it is shown in a message.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why a label is below the first one.
pub(super) fn below_first(label: u32, first: u32) -> String {
    format!("label {label} is below `data.first_label` = {first}, the smallest one")
}

impl ListFile {
    /// The same list with labels that are classes, where the smallest label is `first`.
    fn counted_from(mut self, first: u32) -> Result<Self, DataError> {
        if let Some(index) = self.labels.iter().position(|&label| label < first) {
            return Err(DataError::line(
                &self.path,
                self.line(index),
                below_first(self.labels[index], first),
            ));
        }
        self.labels.iter_mut().for_each(|label| *label -= first);
        Ok(self)
    }

    fn line(&self, index: usize) -> usize {
        self.lines.get(index).map_or(0, |&line| line as usize)
    }

    /// Every label must be the number of a class.
    pub(super) fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        match self.labels.iter().position(|&label| label as usize >= classes) {
            Some(index) => {
                let label = self.labels[index];
                let from_one = label as usize == classes && !self.labels.contains(&0);
                let hint = if from_one {
                    "; labels are counted from 0, and none is 0 here\nhint: set `data.first_label=1`"
                } else {
                    ""
                };
                let last = classes.saturating_sub(1);
                let reason = format!("label {label} is outside the {classes} classes (0 to {last}){hint}");
                Err(DataError::line(&self.path, self.line(index), reason))
            }
            None => Ok(()),
        }
    }

    /// The folders of the images of each label.
    pub(super) fn folders(&self) -> Folders {
        Folders::of_list((0..self.names.len()).map(|index| (self.names.get(index), self.labels[index])))
    }

    /// Joins the list with the location of its images.
    pub(super) fn into_split(self, images: &ImageLocation) -> Result<Split, DataError> {
        let reader: Box<dyn ImageReader> = match images {
            ImageLocation::Folder(root) => {
                let place =
                    root.canonicalize().map_err(|error| DataError::open("image folder", root, error))?;
                Box::new(FolderReader { root: root.clone(), place, list: self.path, names: self.names })
            }
            ImageLocation::Tar(tar) => {
                let mut places = Vec::with_capacity(self.names.len());
                for index in 0..self.names.len() {
                    let name = self.names.get(index);
                    places.push(tar.find(name).ok_or_else(|| {
                        let reason = format!("`{name}` is not in `{}`", tar.path().display());
                        DataError::line(&self.path, self.line(index), reason)
                    })?);
                }
                Box::new(TarReader { tar: tar.file(), names: self.names, places })
            }
        };
        Ok(Split::from_parts(self.labels, reader))
    }
}

/// The location of the images of a list.
pub(super) enum ImageLocation {
    Folder(PathBuf),
    Tar(TarIndex),
}

impl ImageLocation {
    /// A folder, or a file that must be a tar file.
    pub(super) fn open(path: PathBuf) -> Result<Self, DataError> {
        if path.is_dir() {
            return Ok(Self::Folder(path));
        }
        Ok(Self::Tar(TarIndex::open(&path)?))
    }
}

/// Image files below a folder.
struct FolderReader {
    root: PathBuf,
    /// The root without links.
    place: PathBuf,
    list: PathBuf,
    names: StringTable,
}

impl ImageReader for FolderReader {
    fn name(&self, index: usize) -> String {
        self.names.get(index).to_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        read_stored(&self.root, self.names.get(index), take)
    }

    fn files(&self) -> Option<SplitFiles<'_>> {
        Some(SplitFiles { root: &self.root, list: Some(&self.list) })
    }

    fn place(&self, index: usize) -> Option<String> {
        Some(files::place(&self.place, self.names.get(index)))
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        files::sample(&self.root.join(self.names.get(index)))
    }
}

/// Images within a tar file.
struct TarReader {
    tar: Arc<TarFile>,
    names: StringTable,
    places: Vec<TarMember>,
}

impl ImageReader for TarReader {
    fn name(&self, index: usize) -> String {
        self.names.get(index).to_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let passed = self.tar.with_bytes(self.places[index], |bytes| take(Stored::Encoded(bytes)));
        passed.map_err(|fault| DataError::image(self.names.get(index).to_owned(), fault))
    }

    fn place(&self, index: usize) -> Option<String> {
        Some(self.places[index].offset().to_string())
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        Ok(self.tar.sample(self.places[index])?)
    }
}

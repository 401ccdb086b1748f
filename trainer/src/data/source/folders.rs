//! One folder a class: `train/CLASS/*` and `test/CLASS/*` or `val/CLASS/*`.

mod left_out;
mod search;

use super::class_names::{ClassNames, Folders, is_wordnet_id, read_class_names};
use super::files::{self, FileSample, read_stored};
use super::finding::{Finding, first_few};
use super::names::StringTable;
use super::stored::{Stored, decoded};
use super::{DataSet, DataSpec, ImageReader, Split, SplitFiles, below};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use left_out::LeftOut;
use search::{class_folders, search};
use std::path::{Path, PathBuf};

/// Opens a data set of class folders. Classes are the folders of `train` in byte order.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    for (value, key) in [(&spec.train_list, "data.train_list"), (&spec.test_list, "data.test_list")] {
        if let Some(list) = value {
            let reason = format!(
                "`{key}` ({}) has no effect with class folders\nhint: remove it or use lists",
                list.display()
            );
            return Err(DataError::Setting(reason));
        }
    }
    let root = spec.images.as_ref().map_or(spec.root.clone(), |images| below(&spec.root, images));
    if !spec.has_test() {
        return open_whole(spec, &root);
    }
    let (train_root, test_root) = split_roots(&root)?;
    let (mut train_left, mut test_left) = (LeftOut::default(), LeftOut::default());
    let classes = class_folders(&train_root, &mut train_left)?;
    for class in class_folders(&test_root, &mut test_left)? {
        if classes.binary_search(&class).is_err() {
            let reason = format!("`{class}` is not a class of `{}`", train_root.display());
            return Err(DataError::content("test folder", &test_root, reason));
        }
    }
    let ClassNames { names: class_names, mut findings } = names_of(spec, &classes)?;
    let train = split(&train_root, &classes, &mut train_left)?;
    let test = split(&test_root, &classes, &mut test_left)?;
    findings.extend(train_left.findings(&train_root, &classes));
    findings.extend(test_left.findings(&test_root, &classes));
    Ok(DataSet { class_names, train, test, findings })
}

/// The images in a folder and in the folders below it, in byte order of their paths, and what was left out.
pub(super) fn images_below(root: &Path) -> Result<(Vec<String>, Vec<Finding>), DataError> {
    let (mut left_out, whole) = (LeftOut::default(), [String::new()]);
    let images = search(root, &whole, &mut left_out)?.swap_remove(0);
    Ok((images, left_out.findings(root, &whole)))
}

/// Whether a name has the extension of an image.
pub(super) fn has_image_ending(name: &str) -> bool {
    search::has_image_ending(name)
}

/// Opens class folders that lie in the root, all of whose images train.
fn open_whole(spec: &DataSpec, root: &Path) -> Result<DataSet, DataError> {
    let mut left = LeftOut::default();
    let none = || {
        let reason = "expected a folder for each class with its images, or a table, Parquet files, tar shards or annotations; \
                      found no folder with images\nhint: put the images of each class into a folder with its name";
        DataError::content("data root", root, reason)
    };
    let mut classes = class_folders(root, &mut left).map_err(|error| match error {
        DataError::Content { .. } => none(),
        error => error,
    })?;
    let found = search(root, &classes, &mut left)?;
    // Folders beside the classes, such as one for notes.
    let mut found = found.into_iter().map(|files| !files.is_empty());
    classes.retain(|_| found.next() == Some(true));
    if classes.is_empty() {
        return Err(none());
    }
    let ClassNames { names: class_names, mut findings } = names_of(spec, &classes)?;
    let mut left = LeftOut::default();
    let train = split(root, &classes, &mut left)?;
    findings.extend(left.findings(root, &classes));
    Ok(DataSet { class_names, train, test: Split::empty(), findings })
}

fn split_roots(root: &Path) -> Result<(PathBuf, PathBuf), DataError> {
    let train = root.join("train");
    if !train.is_dir() {
        let reason = "expected `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), or list files (`data.train_list`), \
                      found no folder `train`";
        return Err(DataError::content("data root", root, reason));
    }
    let test = [root.join("test"), root.join("val")].into_iter().find(|path| path.is_dir());
    let missing = || DataError::content("data root", root, "found `train`, but neither `test` nor `val`");
    Ok((train, test.ok_or_else(missing)?))
}

/// The names of the folders, or those that `class_names` gives them.
fn names_of(spec: &DataSpec, classes: &[String]) -> Result<ClassNames, DataError> {
    let Some(path) = &spec.class_names else {
        let findings = ids_as_names(classes).into_iter().collect();
        return Ok(ClassNames { names: classes.to_vec(), findings });
    };
    let path = below(&spec.root, path);
    let read = read_class_names(&path, &Folders::of_classes(classes))?;
    if read.names.len() != classes.len() {
        let reason = format!("{} names for {} class folders", read.names.len(), classes.len());
        return Err(DataError::content("class names", path, reason));
    }
    Ok(read)
}

/// Folders that are named by ids give a text tower nothing to understand.
fn ids_as_names(classes: &[String]) -> Option<Finding> {
    let is_id = |name: &String| is_wordnet_id(name) || name.bytes().all(|byte| byte.is_ascii_digit());
    classes.iter().all(is_id).then(|| {
        let examples = first_few(classes.iter().map(|name| format!("`{name}`")));
        Finding::warning(format!(
            "the class folders are named by ids ({examples}), which say nothing to a text tower\nhint: name the classes in \
             `data.class_names` if the head starts from text"
        ))
    })
}

fn split(root: &Path, classes: &[String], left_out: &mut LeftOut) -> Result<Split, DataError> {
    let mut names = StringTable::default();
    let mut labels = Vec::new();
    for (label, files) in search(root, classes, left_out)?.into_iter().enumerate() {
        for file in files {
            names.push(&format!("{}/{file}", classes[label]));
            labels.push(label as u32);
        }
    }
    if labels.is_empty() {
        return Err(DataError::content("class folder", root, "no class folder holds an image"));
    }
    names.shrink();
    let place = root.canonicalize().map_err(|error| DataError::open("class folder", root, error))?;
    Ok(Split::from_parts(labels, Box::new(FolderImages { root: root.into(), place, names })))
}

struct FolderImages {
    root: PathBuf,
    /// The root without links.
    place: PathBuf,
    names: StringTable,
}

impl ImageReader for FolderImages {
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
        Some(SplitFiles { root: &self.root, list: None })
    }

    fn place(&self, index: usize) -> Option<String> {
        Some(files::place(&self.place, self.names.get(index)))
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        files::sample(&self.root.join(self.names.get(index)))
    }
}

#[cfg(test)]
mod tests;

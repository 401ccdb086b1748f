//! One folder a class: `train/CLASS/*` and `test/CLASS/*` or `val/CLASS/*`.

use super::lists::read_file;
use super::names::Names;
use super::{DataSet, DataSpec, Files, ImageReader, Split, below, read_class_names};
use crate::data::decode::RgbImage;
use crate::data::error::DataError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Endings of image files, in lower case.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// Opens a data set of class folders. Classes are the folders of `train` in byte order.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    for (value, key) in [(&spec.train_list, "data.train_list"), (&spec.test_list, "data.test_list")] {
        if let Some(list) = value {
            let reason = format!(
                "`{key}` ({}) has no effect with class folders; remove it or use lists",
                list.display()
            );
            return Err(DataError::Setting(reason));
        }
    }
    let root = spec.images.as_ref().map_or(spec.root.clone(), |images| below(&spec.root, images));
    let train_root = root.join("train");
    if !train_root.is_dir() {
        let reason = "expected `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), or list files (`data.train_list`), \
                      found no folder `train`";
        return Err(DataError::content("data root", &root, reason));
    }
    let test_root =
        [root.join("test"), root.join("val")].into_iter().find(|path| path.is_dir()).ok_or_else(|| {
            DataError::content("data root", &root, "found `train`, but neither `test` nor `val`")
        })?;
    let classes = class_folders(&train_root)?;
    for class in class_folders(&test_root)? {
        if classes.binary_search(&class).is_err() {
            let reason = format!("`{class}` is not a class of `{}`", train_root.display());
            return Err(DataError::content("test folder", &test_root, reason));
        }
    }
    let class_names = match &spec.class_names {
        Some(path) => {
            let path = below(&spec.root, path);
            let names = read_class_names(&path)?;
            if names.len() != classes.len() {
                let reason = format!("{} names for {} class folders", names.len(), classes.len());
                return Err(DataError::content("class names", path, reason));
            }
            names
        }
        None => classes.clone(),
    };
    Ok(DataSet { class_names, train: split(train_root, &classes)?, test: split(test_root, &classes)? })
}

/// Names of the folders in a folder, in byte order.
fn class_folders(root: &Path) -> Result<Vec<String>, DataError> {
    let mut folders = Vec::new();
    for (name, path) in entries(root)? {
        if path.is_dir() {
            folders.push(name);
        }
    }
    folders.sort_unstable();
    if folders.is_empty() {
        return Err(DataError::content("class folder", root, "it holds no class folder"));
    }
    Ok(folders)
}

/// Entries of a folder but for hidden ones.
fn entries(root: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let failed = |error| DataError::open("class folder", root, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().map_err(|name: OsString| {
            DataError::content("class folder", root, format!("the name {} is not UTF-8", name.display()))
        })?;
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn split(root: PathBuf, classes: &[String]) -> Result<Split, DataError> {
    let mut names = Names::default();
    let mut labels = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        if !folder.is_dir() {
            continue;
        }
        let mut files: Vec<String> =
            entries(&folder)?.into_iter().map(|(name, _)| name).filter(|name| is_image(name)).collect();
        files.sort_unstable();
        for file in files {
            names.push(&format!("{class}/{file}"));
            labels.push(label as u32);
        }
    }
    if labels.is_empty() {
        return Err(DataError::content("class folder", root, "no class folder holds an image"));
    }
    names.shrink();
    Ok(Split::from_parts(labels, Box::new(FolderImages { root, names })))
}

fn is_image(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
}

struct FolderImages {
    root: PathBuf,
    names: Names,
}

impl ImageReader for FolderImages {
    fn name(&self, index: usize) -> String {
        self.names.get(index).to_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        read_file(&self.root, self.names.get(index))
    }

    fn files(&self) -> Option<Files<'_>> {
        Some(Files { root: &self.root, list: None })
    }
}

//! CIFAR-100: the published Python files, the published binary files, or PNGs in `images.tar` with lists.

use super::cifar_pickle::{CifarFile, read_bytes};
use super::class_names::{ClassNames, Folders, read_class_names};
use super::lists::{ImageLocation, ListFile, read_list};
use super::longtail::long_tailed_rows;
use super::{DataSet, DataSpec, ImageReader, Split, below};
use crate::data::decode::RgbImage;
use crate::data::error::DataError;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CLASSES: usize = 100;

/// Pixels of a side.
const SIDE: usize = 32;

/// Bytes of an image: a plane each of red, green and blue.
const PICTURE: usize = 3 * SIDE * SIDE;

/// The detected form, and its folder.
#[derive(Debug)]
pub(super) enum CifarForm {
    Python(PathBuf),
    Binary(PathBuf),
    Images(PathBuf),
}

/// The form of CIFAR-100 that a folder contains.
pub(super) fn form(root: &Path, imbalance: Option<f64>) -> Option<CifarForm> {
    let has = |folder: &Path, names: &[&str]| names.iter().all(|name| folder.join(name).is_file());
    let named = list_name(imbalance.unwrap_or(100.0));
    if has(root, &["images.tar", "test.txt"]) && (has(root, &["classnames.txt"]) || has(root, &[&named])) {
        return Some(CifarForm::Images(root.into()));
    }
    for folder in [root.to_path_buf(), root.join("cifar-100-python"), root.join("cifar-100-binary")] {
        if has(&folder, &["train", "test", "meta"]) {
            return Some(CifarForm::Python(folder));
        }
        if has(&folder, &["train.bin", "test.bin", "fine_label_names.txt"]) {
            return Some(CifarForm::Binary(folder));
        }
    }
    None
}

fn list_name(imbalance: f64) -> String {
    format!("train_ir{imbalance}.txt")
}

pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    if let Some(imbalance) = spec.imbalance.filter(|imbalance| !(imbalance.is_finite() && *imbalance >= 1.0))
    {
        let reason =
            format!("`imbalance` is {imbalance}; expected 1 or more (100, 50 or 10 in the benchmarks)");
        return Err(DataError::Setting(reason));
    }
    match form(&spec.root, spec.imbalance) {
        Some(CifarForm::Images(root)) => open_images(spec, &root),
        Some(CifarForm::Python(folder)) => open_published(
            spec,
            python_split(&folder, "train")?,
            python_split(&folder, "test")?,
            python_names(&folder)?,
        ),
        Some(CifarForm::Binary(folder)) => {
            let names = read_class_names(&folder.join("fine_label_names.txt"), &Folders::default())?.names;
            open_published(
                spec,
                binary_split(&folder.join("train.bin"))?,
                binary_split(&folder.join("test.bin"))?,
                names,
            )
        }
        None => {
            let reason = "expected CIFAR-100: `cifar-100-python` (train, test, meta), `cifar-100-binary` (train.bin, \
                          test.bin, fine_label_names.txt) or images.tar with test.txt, classnames.txt and \
                          train_ir100.txt; found none of them";
            Err(DataError::content("data root", &spec.root, reason))
        }
    }
}

/// Lists over `images.tar`.
fn open_images(spec: &DataSpec, root: &Path) -> Result<DataSet, DataError> {
    let train_list = match (&spec.train_list, spec.imbalance) {
        (Some(path), None) => below(root, path),
        (None, Some(imbalance)) => root.join(list_name(imbalance)),
        (Some(_), Some(_)) => {
            return Err(DataError::Setting(
                "`train_list` and `imbalance` both say what to train on\nhint: set one".into(),
            ));
        }
        (None, None) => {
            let reason = "images.tar contains a part of CIFAR-100\nhint: set `imbalance` (100) to select the training list";
            return Err(DataError::Setting(reason.into()));
        }
    };
    if !train_list.is_file() {
        let found: Vec<String> =
            [100.0, 50.0, 10.0].map(list_name).into_iter().filter(|name| root.join(name).is_file()).collect();
        let found = if found.is_empty() { "no list".into() } else { found.join(", ") };
        let reason = format!("no such list; {} holds {found}", root.display());
        return Err(DataError::content("list", train_list, reason));
    }
    let train_list = read_list(&train_list)?;
    let test_list = spec.test_list.clone().unwrap_or_else(|| "test.txt".into());
    let test_list = read_list(&below(root, &test_list))?;
    let names = spec.class_names.clone().unwrap_or_else(|| "classnames.txt".into());
    let ClassNames { names, findings } = read_class_names(&below(root, &names), &train_list.folders())?;
    let images = ImageLocation::open(below(root, spec.images.as_deref().unwrap_or(Path::new("images.tar"))))?;
    let split = |list: ListFile| {
        list.check_labels(names.len())?;
        list.into_split(&images)
    };
    let (train, test) = (split(train_list)?, split(test_list)?);
    Ok(DataSet { class_names: names, train, test, findings })
}

/// A published file: its labels, and the positions of its images.
struct PublishedFile {
    labels: Vec<u32>,
    reader: PictureRows,
}

fn open_published(
    spec: &DataSpec,
    train: PublishedFile,
    test: PublishedFile,
    class_names: Vec<String>,
) -> Result<DataSet, DataError> {
    for (value, key) in [
        (&spec.train_list, "train_list"),
        (&spec.test_list, "test_list"),
        (&spec.class_names, "class_names"),
        (&spec.images, "images"),
    ] {
        if value.is_some() {
            return Err(DataError::Setting(format!(
                "`{key}` has no effect with CIFAR-100's published files\nhint: remove it"
            )));
        }
    }
    if class_names.len() != CLASSES {
        let reason = format!("expected {CLASSES} class names, found {}", class_names.len());
        return Err(DataError::content("class names", &spec.root, reason));
    }
    for file in [&train, &test] {
        if let Some(row) = file.labels.iter().position(|&label| label as usize >= CLASSES) {
            let reason =
                format!("the label of row {row} is {}; expected 0 to {}", file.labels[row], CLASSES - 1);
            return Err(DataError::content("CIFAR-100 file", &file.reader.path, reason));
        }
    }
    let mut train = train;
    if let Some(imbalance) = spec.imbalance {
        let kept = long_tailed_rows(&train.labels, CLASSES, imbalance);
        train.labels = kept.iter().map(|&(_, label)| label).collect();
        train.reader.kept = Some(kept.into_iter().map(|(row, _)| row).collect());
    }
    let split = |file: PublishedFile| Split::from_parts(file.labels, Box::new(file.reader));
    Ok(DataSet { class_names, train: split(train), test: split(test), findings: Vec::new() })
}

fn python_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let path = folder.join("meta");
    let wrong = || DataError::content("CIFAR-100 file", &path, "expected a list of texts `fine_label_names`");
    let bytes = read_bytes(&path)?;
    CifarFile::parse(&path, &bytes)?.texts("fine_label_names").ok_or_else(wrong)
}

fn python_split(folder: &Path, name: &str) -> Result<PublishedFile, DataError> {
    let path = folder.join(name);
    let bytes = read_bytes(&path)?;
    let pickle = CifarFile::parse(&path, &bytes)?;
    let wrong = |expected: &str| DataError::content("CIFAR-100 file", &path, format!("expected {expected}"));
    let labels = pickle.labels("fine_labels").ok_or_else(|| wrong("a list of numbers `fine_labels`"))?;
    let pixels =
        pickle.byte_rows("data").ok_or_else(|| wrong("an array of bytes `data` with 3072 columns"))?;
    if pixels.columns != PICTURE || pixels.rows != labels.len() {
        let found = format!(
            "`data` of {} x {PICTURE} bytes, found {} x {}",
            labels.len(),
            pixels.rows,
            pixels.columns
        );
        return Err(wrong(&found));
    }
    let file = File::open(&path).map_err(|error| DataError::open("CIFAR-100 file", &path, error))?;
    let reader = PictureRows { path, file, first: pixels.offset, stride: PICTURE as u64, kept: None };
    Ok(PublishedFile { labels, reader })
}

/// Records of a coarse label, a fine label and the image.
fn binary_split(path: &Path) -> Result<PublishedFile, DataError> {
    const RECORD: usize = 2 + PICTURE;
    let failed = |error| DataError::open("CIFAR-100 file", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len == 0 || !len.is_multiple_of(RECORD as u64) {
        let reason = format!(
            "expected records of {RECORD} bytes, found {len} bytes in total\nhint: copy the file again"
        );
        return Err(DataError::content("CIFAR-100 file", path, reason));
    }
    let mut labels = Vec::new();
    let mut records = vec![0; RECORD * 256];
    let mut left = len as usize / RECORD;
    while left > 0 {
        let part = &mut records[..RECORD * left.min(256)];
        file.read_exact(part).map_err(failed)?;
        labels.extend(part.chunks_exact(RECORD).map(|record| u32::from(record[1])));
        left -= part.len() / RECORD;
    }
    let reader = PictureRows { path: path.into(), file, first: 2, stride: RECORD as u64, kept: None };
    Ok(PublishedFile { labels, reader })
}

/// Images at equal distances in a file.
struct PictureRows {
    path: PathBuf,
    file: File,
    first: u64,
    stride: u64,
    /// Row of each image; all rows in their order where it is not given.
    kept: Option<Vec<u32>>,
}

impl PictureRows {
    fn row(&self, index: usize) -> u64 {
        self.kept.as_ref().map_or(index as u64, |rows| rows[index].into())
    }
}

impl ImageReader for PictureRows {
    fn name(&self, index: usize) -> String {
        let file = self.path.file_name().unwrap_or_default();
        format!("{} row {}", file.display(), self.row(index))
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        let mut planes = [0; PICTURE];
        let offset = self.first + self.row(index) * self.stride;
        let read = self.file.read_exact_at(&mut planes, offset);
        read.map_err(|error| DataError::image(self.name(index), error))?;
        let mut pixels = Vec::with_capacity(PICTURE);
        for i in 0..SIDE * SIDE {
            pixels.extend_from_slice(&[planes[i], planes[SIDE * SIDE + i], planes[2 * SIDE * SIDE + i]]);
        }
        Ok(RgbImage { width: SIDE as u32, height: SIDE as u32, pixels })
    }
}

//! Data sets: their training and test images, and reading one image.
//!
//! A [`DataSet`] is opened from a [`DataSpec`] in one of the layouts of [`DataLayout`]: list files, tables and
//! annotations over a folder or a tar file, class folders, Parquet files, tar shards, and CIFAR-100 as it was
//! published or as lists over a tar. Opening finds whatever is wrong with lists, labels and archives, and says in
//! which line; reading an image can then fail only by that image.
//!
//! Half a million paths are kept as one string and its offsets, and a tar file is never unpacked: all
//! threads read from it at their own offsets.

mod annotations;
mod cache;
mod cifar;
mod cifar_pickle;
mod class_names;
mod files;
mod finding;
mod fingerprint;
mod folders;
mod given;
mod labels;
mod layered;
mod lists;
mod longtail;
#[cfg(test)]
mod mutations;
mod names;
mod packed;
mod parallel;
mod parquet;
mod presence;
mod read_ahead;
mod review;
mod shards;
mod split_file;
mod standard;
mod stored;
mod subset;
mod table;
mod tar;
#[cfg(test)]
mod tests;

pub use cache::{Cache, CachePlace};
pub use files::{FileSample, MAX_FILE_BYTES};
pub use finding::{Finding, Severity};
pub use fingerprint::{ContentDifference, ContentSample};
pub use given::{images_below, is_image};
pub use longtail::long_tailed_rows;
pub use presence::{MissingImage, SplitFiles};
pub use split_file::{Half, write_split};
pub use standard::{StandardLayout, standard_layout};
pub use stored::Stored;

use super::decode::RgbImage;
use super::error::{DataError, ImageFault};
use std::path::{Path, PathBuf};

/// The layout of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataLayout {
    /// CIFAR-100, if the root holds one of its forms, else lists if they are named, else the layout whose files lie
    /// under their standard names, else class folders.
    #[default]
    Auto,
    /// `path label` lines for training and test, over a folder or a tar file of images.
    Lists,
    /// `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`).
    Folders,
    /// CIFAR-100: the published Python or binary files, or `images.tar` with lists.
    Cifar100,
    /// CSV, TSV or JSON lines with a column of image names and a column of labels.
    Table,
    /// Parquet files with the bytes of the images.
    Parquet,
    /// Tar shards with an image and a label of each sample (`WebDataset`).
    Shards,
    /// iNaturalist's JSON files: images, annotations and categories.
    Annotations,
    /// A packed set, as `lift-trainer pack` writes it.
    Packed,
}

/// The location and form of a data set. Relative paths are relative to `root`.
#[derive(Clone, Debug, Default)]
pub struct DataSpec {
    /// The folder of the data set.
    pub root: PathBuf,
    /// Its layout.
    pub layout: DataLayout,
    /// List, table, Parquet files, shards or annotations of the training images.
    pub train_list: Option<PathBuf>,
    /// The same for the test images.
    pub test_list: Option<PathBuf>,
    /// Column of the image names or bytes; found by its usual names where it is not given.
    pub image_column: Option<String>,
    /// Column of the labels; found by its usual names where it is not given.
    pub label_column: Option<String>,
    /// The smallest number that a label can have, which is class 0.
    pub first_label: u32,
    /// File of class names.
    pub class_names: Option<PathBuf>,
    /// Folder or tar file of the images; the root where it is not given.
    pub images: Option<PathBuf>,
    /// How many times more images the first class has than the last one (100, 50 or 10 in the benchmarks).
    /// Only for CIFAR-100, whose training set is cut to that.
    pub imbalance: Option<f64>,
    /// Keep only the first so many test images.
    pub test_limit: Option<usize>,
    /// Where the two halves come from.
    pub halves: Halves,
}

/// Where the training and the test images come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Halves {
    /// The source has both.
    #[default]
    OfSource,
    /// The source has one list, which a split file divides.
    Divided(PathBuf),
    /// The source has one list, and all of it trains.
    Whole,
}

impl DataSpec {
    /// Whether the source has test images of its own.
    fn has_test(&self) -> bool {
        self.halves == Halves::OfSource
    }
}

/// Training and test images with their classes.
#[derive(Debug)]
pub struct DataSet {
    /// Names in label order.
    pub class_names: Vec<String>,
    /// The training images.
    pub train: Split,
    /// The test images.
    pub test: Split,
    /// Findings for the user, in the order names, folders, labels.
    pub findings: Vec<Finding>,
}

impl DataSet {
    /// Opens a data set and checks everything except the pixels.
    pub fn open(spec: &DataSpec) -> Result<Self, DataError> {
        if !spec.root.is_dir() {
            let reason = "no such folder\nhint: set `data.root` to the folder of the data set";
            return Err(DataError::content("data root", &spec.root, reason));
        }
        let layout = match spec.layout {
            DataLayout::Auto if cifar::form(&spec.root, spec.imbalance).is_some() => DataLayout::Cifar100,
            DataLayout::Auto if spec.train_list.is_some() => DataLayout::Lists,
            DataLayout::Auto => standard::layout(&spec.root).unwrap_or(DataLayout::Folders),
            layout => layout,
        };
        if spec.imbalance.is_some() && layout != DataLayout::Cifar100 {
            let reason =
                "`imbalance` is for CIFAR-100 only; other data sets are as long-tailed as their lists";
            return Err(DataError::Setting(reason.into()));
        }
        let mut set = match layout {
            DataLayout::Lists => lists::open(spec)?,
            DataLayout::Folders | DataLayout::Auto => folders::open(spec)?,
            DataLayout::Cifar100 => cifar::open(spec)?,
            DataLayout::Table => table::open(spec)?,
            DataLayout::Parquet => parquet::open(spec)?,
            DataLayout::Shards => shards::open(spec)?,
            DataLayout::Annotations => annotations::open(spec)?,
            DataLayout::Packed => packed::open(spec)?,
        };
        if let Halves::Divided(path) = &spec.halves {
            set = split_file::divide(set, &below(&spec.root, path))?;
        }
        if let Some(limit) = spec.test_limit {
            set.test.labels.truncate(limit);
        }
        for (split, name) in [(&set.train, "training"), (&set.test, "test")] {
            if split.is_empty() && (name == "training" || spec.halves != Halves::Whole) {
                return Err(DataError::content("data root", &spec.root, format!("there is no {name} image")));
            }
        }
        let reviewed = review::review(&set);
        set.findings.extend(reviewed);
        Ok(set)
    }

    /// SHA-256 over class names, labels and the names of all images, in hexadecimal. Ranks compare it.
    pub fn fingerprint(&self) -> String {
        fingerprint::of_lists(self)
    }

    /// A name for these lists and contents, for folders that keep data sets apart.
    pub(in crate::data) fn identity(&self) -> String {
        fingerprint::identity(self)
    }

    /// The sizes and some bytes of some images, which the fingerprint does not see. Ranks compare it as well.
    pub fn content_sample(&self) -> ContentSample {
        ContentSample::of(self)
    }
}

/// Reads the images of a split.
pub trait ImageReader: Send + Sync {
    /// The name of an image for messages: its path or its position in a file.
    fn name(&self, index: usize) -> String;

    /// Reads and decodes an image.
    fn read(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Passes an image to `take` as its source holds it, once, unless it cannot be read.
    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let image = self.read(index)?;
        take(Stored::Pixels { width: image.width, height: image.height, pixels: &image.pixels });
        Ok(())
    }

    /// Announces the images that will be read next, in order, to a reader that reads ahead.
    fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        let _ = indices;
    }

    /// Where the images lie, if each of them is a file of its own.
    fn files(&self) -> Option<SplitFiles<'_>> {
        None
    }

    /// One and the same text for two names of one file; none where every image is by itself.
    fn place(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }

    /// The size of an image and some of its bytes; where they are not in a file, those of its pixels.
    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        match self.read(index) {
            Ok(image) => Ok(FileSample { size: image.pixels.len() as u64, bytes: image.pixels }),
            Err(DataError::Image { fault, .. }) => Err(fault),
            Err(error) => Err(std::io::Error::other(error).into()),
        }
    }
}

/// The images of training or of test, with their labels.
pub struct Split {
    labels: Vec<u32>,
    reader: Box<dyn ImageReader>,
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Split").field("len", &self.labels.len()).finish_non_exhaustive()
    }
}

impl Split {
    /// A split of any images. `labels[i]` is the class of the reader's image `i`.
    pub fn from_parts(labels: Vec<u32>, reader: Box<dyn ImageReader>) -> Self {
        Self { labels, reader }
    }

    /// A split without images.
    fn empty() -> Self {
        Self::from_parts(Vec::new(), Box::new(subset::Nothing))
    }

    /// The classes of all images.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The name of an image for messages.
    pub fn name(&self, index: usize) -> String {
        self.reader.name(index)
    }

    /// The same text for two names of one file, if its images are files.
    pub fn place(&self, index: usize) -> Option<String> {
        self.reader.place(index)
    }

    /// The size of an image and some of its bytes, undecoded.
    pub fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        self.reader.sample(index)
    }

    /// Reads and decodes an image; any number of threads at a time.
    pub fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        self.reader.read(index)
    }

    /// Passes an image to `take` as its source holds it, encoded or as pixels; any number of threads at a time.
    pub fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        self.reader.stored(index, take)
    }

    /// Announces the images that will be read next, in order.
    pub fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        self.reader.announce(indices);
    }

    /// Where the images lie, if each of them is a file of its own.
    pub fn files(&self) -> Option<SplitFiles<'_>> {
        self.reader.files()
    }

    /// The images whose files are missing. Images within larger files were checked when the data set was opened.
    pub fn missing(&self) -> Vec<MissingImage> {
        self.files().map(|files| presence::missing(self, files)).unwrap_or_default()
    }
}

/// Images of each of `classes` classes. Labels beyond them are not counted.
pub fn counts(labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

/// `path`, or where it is relative, that below `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path)
}

/// Reads a text file of the data set.
fn read_text(what: &'static str, path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::open(what, path, error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let is_utf_16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        let reason = if is_utf_16 {
            "expected UTF-8 text, found UTF-16\nhint: convert it, e.g. with `iconv -f UTF-16 -t UTF-8`"
                .to_owned()
        } else {
            let place = error.utf8_error().valid_up_to();
            format!(
                "expected UTF-8 text, found another encoding (byte {place})\nhint: convert the file to UTF-8"
            )
        };
        DataError::content(what, path, reason)
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

//! `[data]`: which images, in which order.

use super::super::kind::Kind;
use super::super::section::{section, words};
use std::path::PathBuf;
use toml::Value;

section! {
    /// Which images are trained and tested, and in which order they are drawn.
    pub struct Data in "data" {
        /// Folder that holds the data set. Required, except with `data.layout = "demo"`.
        pub root: Option<PathBuf>,
        /// How the data set lies in `data.root`.
        pub layout: Layout,
        /// Training list: one `path label` a line. Takes effect with `data.layout = "lists"`.
        pub train_list: Option<PathBuf>,
        /// Test list: one `path label` a line. Takes effect with `data.layout = "lists"`.
        pub test_list: Option<PathBuf>,
        /// Class names: one a line in the order of the labels, `ID name` or `FOLDER name` lines, JSON or CSV. Takes
        /// effect with `data.layout = "lists"`, where a head that starts from text cannot do without, and with
        /// `"folders"`, whose folders name the classes otherwise.
        pub class_names: Option<PathBuf>,
        /// Folder or tar file that the paths of the lists start from; `""` is `data.root`. Takes effect with
        /// `data.layout = "lists"`.
        pub images: Option<PathBuf>,
        /// Imbalance ratio of long-tailed CIFAR-100: images of the largest class over those of the smallest,
        /// by LIFT's rule; `"none"` keeps every image. Takes effect with the CIFAR-100 layouts.
        pub imbalance: Imbalance,
        /// Seed of the drawn pictures. Takes effect with `data.layout = "demo"`.
        pub demo_seed: u64,
        /// How the samples of an epoch are chosen.
        pub sampler: Sampler,
        /// Images that a visit to a class yields in a row. Takes effect with `data.sampler = "class_aware"`.
        pub samples_per_class: u32,
        /// Share of the images below which a class is repeated, above 0 and at most 1. Takes effect with
        /// `data.sampler = "repeat_factor"`.
        pub repeat_threshold: f64,
        /// Images kept of each class. Takes effect with `data.sampler = "n_shot"`.
        pub shots: u32,
        /// Images that a run may leave out because they are missing or broken, before it stops: over all ranks, in
        /// class means, training and evaluation together, each image counted once.
        pub max_bad_images: u64,
        /// Threads of each rank that read and decode images; 0 takes what the rank's share of the cores
        /// allows.
        pub workers: u32,
        /// Batches that each rank prepares ahead.
        pub prefetch: u32,
    }
}

words! {
    /// How a data set lies on disk.
    pub enum Layout {
        /// A CIFAR-100 folder, in whichever form is found: `images.tar` with lists, or the published files.
        Auto = "auto",
        /// List files, with the images in a folder or a tar file.
        Lists = "lists",
        /// A folder for each class, in `train` and `test` or `val`.
        Folders = "folders",
        /// CIFAR-100 as published, Python or binary version.
        Cifar100 = "cifar100",
        /// Pictures that the program draws; nothing is read.
        Demo = "demo",
    }
}

impl Layout {
    /// The long tail is cut out of CIFAR-100 by a rule.
    pub const fn is_cifar100(self) -> bool {
        matches!(self, Self::Auto | Self::Cifar100)
    }
}

words! {
    /// How the samples of an epoch are chosen.
    pub enum Sampler {
        /// Each image once per epoch, shuffled.
        Instance = "instance",
        /// Classes in a shuffled cycle, each visit yielding `data.samples_per_class` images of the class.
        ClassAware = "class_aware",
        /// A class uniformly, then one of its images, with replacement.
        ClassBalanced = "class_balanced",
        /// A class by the square root of its image count, then one of its images, with replacement.
        SquareRoot = "square_root",
        /// Images of rare classes several times per epoch, by `data.repeat_threshold` (LVIS).
        RepeatFactor = "repeat_factor",
        /// From `instance` in the first epoch to `class_balanced` in the last.
        Progressive = "progressive",
        /// `data.shots` images of each class, the same in all epochs, shuffled.
        NShot = "n_shot",
    }
}

/// The imbalance ratio of a long tail that is cut out of a balanced set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Imbalance {
    /// Every image is kept.
    None,
    /// Largest class over smallest.
    Ratio(f64),
}

impl Imbalance {
    /// The ratio, if a long tail is cut.
    pub const fn ratio(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Ratio(ratio) => Some(ratio),
        }
    }
}

impl Kind for Imbalance {
    fn expected() -> String {
        "a finite number, or \"none\"".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        if value.as_str() == Some("none") { Some(Self::None) } else { f64::read(value).map(Self::Ratio) }
    }

    fn write(&self) -> Value {
        self.ratio().map_or_else(|| Value::String("none".to_owned()), Value::Float)
    }
}

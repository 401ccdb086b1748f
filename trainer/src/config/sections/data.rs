//! `[data]`: which images, in which order.

use super::head::TRAINED;
use crate::options::{Needs, OptionType, none_of, one_of, section, words};
use std::ops::Bound::{Excluded, Included};
use std::path::PathBuf;
use toml::Value;

/// Conditions that several options need.
const FILES: Needs = none_of("data.layout", &["demo"]);
const LISTS: Needs = one_of("data.layout", &["lists"]);

section! {
    /// Which images are trained and tested, and in which order they are drawn.
    pub struct DataOptions in "data" {
        /// Folder that holds the data set; required.
        #[needs(FILES)]
        #[resume(Free)]
        pub root: Option<PathBuf> = None,
        /// How the data set lies in `data.root`.
        pub layout: LayoutName = LayoutName::Auto,
        /// Training list, one `path label` a line.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub train_list: Option<PathBuf> = None,
        /// Test list, one `path label` a line.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub test_list: Option<PathBuf> = None,
        /// Class names. One a line in the order of the labels, `ID name` or `FOLDER name` lines, JSON or CSV. With
        /// `data.layout = "lists"`, a head that starts from text cannot do without; with `"folders"`, the folders name
        /// the classes otherwise.
        #[needs(one_of("data.layout", &["lists", "folders"]))]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub class_names: Option<PathBuf> = None,
        /// Folder or tar file that the paths of the lists start from; `""` is `data.root`.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub images: Option<PathBuf> = None,
        /// Images of the largest class over those of the smallest. The long tail is cut out of CIFAR-100 by LIFT's rule;
        /// `"none"` keeps every image.
        #[range(|imbalance| imbalance.ratio().is_none_or(|ratio| ratio >= 1.0), "at least 1, or \"none\"")]
        #[needs(one_of("data.layout", &["auto", "cifar100"]))]
        pub imbalance: Imbalance = Imbalance::None,
        /// Seed of the drawn pictures.
        #[needs(one_of("data.layout", &["demo"]))]
        pub demo_seed: u64 = 0,
        /// How the samples of an epoch are chosen.
        #[needs(TRAINED)]
        #[resume(Order)]
        pub sampler: SamplerName = SamplerName::Instance,
        /// Images that a visit to a class yields in a row.
        #[range(1..)]
        #[needs(one_of("data.sampler", &["class_aware"]), TRAINED)]
        #[resume(Order)]
        pub samples_per_class: u32 = 4,
        /// Share of the images below which a class is repeated.
        #[range((Excluded(0.0), Included(1.0)))]
        #[needs(one_of("data.sampler", &["repeat_factor"]), TRAINED)]
        #[resume(Order)]
        pub repeat_threshold: f64 = 0.001,
        /// Images kept of each class.
        #[range(1..)]
        #[needs(one_of("data.sampler", &["n_shot"]), TRAINED)]
        #[resume(Order)]
        pub shots: u32 = 16,
        /// Missing or broken images that a run may leave out before it stops. They count over all ranks, in class means,
        /// training and evaluation together, each image once.
        #[needs(FILES)]
        #[resume(Free)]
        pub max_bad_images: u64 = 0,
        /// Threads of each rank that read and decode images; 0 is by its share of the cores.
        #[range(..=1024)]
        #[resume(Free)]
        pub workers: u32 = 0,
        /// Batches that each rank prepares ahead.
        #[range(1..=1024)]
        #[resume(Free)]
        pub prefetch: u32 = 4,
    }
}

words! {
    /// How a data set lies on disk.
    pub enum LayoutName {
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

impl LayoutName {
    /// The long tail is cut out of CIFAR-100 by a rule.
    pub const fn is_cifar100(self) -> bool {
        matches!(self, Self::Auto | Self::Cifar100)
    }
}

words! {
    /// How the samples of an epoch are chosen.
    pub enum SamplerName {
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

impl OptionType for Imbalance {
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

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
    /// Training and test images, and the order of the training samples.
    pub struct DataOptions in "data" {
        /// Folder of the data set; required.
        #[needs(FILES)]
        #[resume(Free)]
        pub root: Option<PathBuf> = None,
        /// Layout of the data set in `data.root`.
        pub layout: LayoutName = LayoutName::Auto,
        /// Training list, one `path label` per line.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub train_list: Option<PathBuf> = None,
        /// Test list, one `path label` per line.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub test_list: Option<PathBuf> = None,
        /// File of class names. It holds one name per line in label order, `ID name` or `FOLDER name` lines, JSON or
        /// CSV. With `data.layout = "lists"`, a head that is initialised from text needs it. With `"folders"`, the
        /// folder names are the class names if it is not set.
        #[needs(one_of("data.layout", &["lists", "folders"]))]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub class_names: Option<PathBuf> = None,
        /// Folder or tar file that the paths in the lists are relative to; `""` is `data.root`.
        #[needs(LISTS)]
        #[resume(Free)]
        #[starts_at("data.root")]
        pub images: Option<PathBuf> = None,
        /// Imbalance ratio: images of the largest class divided by images of the smallest class. LIFT's rule cuts the
        /// long tail out of CIFAR-100; `"none"` keeps every image.
        #[range(|imbalance| imbalance.ratio().is_none_or(|ratio| ratio >= 1.0), "at least 1, or \"none\"")]
        #[needs(one_of("data.layout", &["auto", "cifar100"]))]
        pub imbalance: Imbalance = Imbalance::None,
        /// Seed of the drawn images.
        #[needs(one_of("data.layout", &["demo"]))]
        pub demo_seed: u64 = 0,
        /// Style of the drawn images. It determines how many there are, too. Runs of the first version have
        /// `cluttered`.
        #[needs(one_of("data.layout", &["demo"]))]
        pub demo_style: DemoStyleName = DemoStyleName::Cluttered,
        /// Sampler that chooses the training images of an epoch.
        #[needs(TRAINED)]
        #[resume(Order)]
        pub sampler: SamplerName = SamplerName::Instance,
        /// Images that each visit to a class yields in a row.
        #[range(1..)]
        #[needs(one_of("data.sampler", &["class_aware"]), TRAINED)]
        #[resume(Order)]
        pub samples_per_class: u32 = 4,
        /// Class frequency below which the images of a class are repeated.
        #[range((Excluded(0.0), Included(1.0)))]
        #[needs(one_of("data.sampler", &["repeat_factor"]), TRAINED)]
        #[resume(Order)]
        pub repeat_threshold: f64 = 0.001,
        /// Training images to keep per class.
        #[range(1..)]
        #[needs(one_of("data.sampler", &["n_shot"]), TRAINED)]
        #[resume(Order)]
        pub shots: u32 = 16,
        /// How the JPEG images of training are decoded; evaluation and head initialisation are always exact. The random
        /// crops are the same in both.
        #[needs(FILES, TRAINED)]
        pub decode: DecodeName = DecodeName::Fast,
        /// Missing or broken images that a run may leave out before it stops. All ranks count together, over class
        /// means, training and evaluation; each image counts once.
        #[needs(FILES)]
        #[resume(Free)]
        pub max_bad_images: u64 = 0,
        /// Threads per rank that read and decode images; 0 follows the rank's share of the cores. On a GPU that is all
        /// of them. On the CPU it is the cores that `train.threads` leaves free, or all of them if it leaves none.
        #[range(..=1024)]
        #[resume(Free)]
        pub workers: u32 = 0,
        /// Batches that each rank prepares in advance.
        #[range(1..=1024)]
        #[resume(Free)]
        pub prefetch: u32 = 4,
    }
}

words! {
    /// Layout of a data set on disk.
    pub enum LayoutName {
        /// CIFAR-100 in the form that the folder holds: `images.tar` with lists, or the published files.
        Auto = "auto",
        /// List files, with the images in a folder or a tar file.
        Lists = "lists",
        /// One folder per class, below `train` and `test` or `val`.
        Folders = "folders",
        /// CIFAR-100 as published, Python or binary version.
        Cifar100 = "cifar100",
        /// Images that the program draws; no file is read.
        Demo = "demo",
    }
}

words! {
    /// Style of the demo's images.
    pub enum DemoStyleName {
        /// Small figures, clutter and noise; 3,159 training images.
        Cluttered = "cluttered",
        /// Cluttered, with red and blue exchanged; 1,126 training images.
        FalseColour = "false_colour",
    }
}

impl LayoutName {
    /// The long tail is cut out of CIFAR-100 by a rule.
    pub const fn is_cifar100(self) -> bool {
        matches!(self, Self::Auto | Self::Cifar100)
    }
}

words! {
    /// Sampler that chooses the training images of an epoch.
    pub enum SamplerName {
        /// Each image once per epoch, shuffled.
        Instance = "instance",
        /// Classes in a shuffled cycle; each visit yields `data.samples_per_class` images of the class.
        ClassAware = "class_aware",
        /// A class drawn uniformly, then one of its images, with replacement.
        ClassBalanced = "class_balanced",
        /// A class drawn by the square root of its image count, then one of its images, with replacement.
        SquareRoot = "square_root",
        /// Each image once per epoch, images of rare classes several times, by `data.repeat_threshold` (LVIS).
        RepeatFactor = "repeat_factor",
        /// A gradual change from `instance` in the first epoch to `class_balanced` in the last.
        Progressive = "progressive",
        /// `data.shots` images per class, the same in all epochs, shuffled.
        NShot = "n_shot",
    }
}

words! {
    /// How the JPEG images of training are decoded.
    pub enum DecodeName {
        /// To the pixels of Pillow and torchvision, bit for bit.
        Exact = "exact",
        /// Like `exact`, but where a crop has at least twice the input size of the model, the image is reduced by 2, 4 or
        /// 8 within the transform of JPEG, before the resize.
        Fast = "fast",
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

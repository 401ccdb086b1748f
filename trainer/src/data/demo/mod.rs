//! The embedded demo: a long-tailed set of drawn pictures, and captioned drawings to pretrain a small CLIP on.
//!
//! The demo allows training, evaluation and comparison without any download: the pictures are drawn on request,
//! 32 x 32 pixels each, and each is a function of (seed, split, class, index) only.
//!
//! A picture shows a composition of texture, colour and shape, and a class is one of them: `striped red
//! triangle`. The [`demo_classes`] are kept out of pretraining, their words are not, so a CLIP pretrained on
//! [`pretraining_example`]s knows the classes only by what their names say. The demo's pictures are also drawn in
//! another style than those of pretraining ([`DemoStyle`]): a domain shift that lowers zero-shot accuracy and that
//! training repairs.

mod caption;
mod composition;
mod draws;
mod figure;
mod picture;
mod reader;

pub use caption::{CAPTION_TEMPLATES, vocabulary, words};
pub use composition::{CLASSES, COMPOSITIONS, Composition, demo_classes, pretraining_compositions};
pub use picture::SIDE;
pub use reader::{demo_data_set, styled_data_set};

use super::decode::RgbImage;
use draws::{PictureDraws, PictureStream};

/// Training pictures of the most frequent class, cluttered.
pub const MOST_PER_CLASS: usize = 300;

/// How many training pictures the rarest class has for each of the most frequent one, cluttered.
pub const IMBALANCE: f64 = 0.01;

/// Test pictures of every class.
pub const TEST_PER_CLASS: usize = 25;

/// How the demo's pictures are drawn, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DemoStyle {
    /// Smaller figures, clutter and noise; 3,159 training pictures. The style of the first version.
    #[default]
    Cluttered,
    /// Cluttered pictures with red and blue exchanged; 1,126 training pictures, three of many classes.
    FalseColour,
}

impl DemoStyle {
    fn drawing(self) -> &'static picture::DrawingStyle {
        match self {
            Self::Cluttered => &picture::CLUTTERED,
            Self::FalseColour => &picture::FALSE_COLOUR,
        }
    }

    fn tail(self) -> Tail {
        match self {
            Self::Cluttered => Tail { most: MOST_PER_CLASS, imbalance: IMBALANCE, least: 0 },
            Self::FalseColour => Tail { most: 150, imbalance: 0.001, least: 3 },
        }
    }
}

/// Training pictures per class: the exponential rule of long-tailed CIFAR (Cao et al., "Learning Imbalanced Datasets with
/// Label-Distribution-Aware Margin Loss", 2019), but at least so many.
struct Tail {
    most: usize,
    imbalance: f64,
    least: usize,
}

impl Tail {
    fn count(&self, class: usize) -> usize {
        let rule = self.most as f64 * self.imbalance.powf(class as f64 / (CLASSES - 1) as f64);
        (rule as usize).max(self.least)
    }
}

/// Which pictures of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DemoSplit {
    /// The long-tailed training set.
    Train,
    /// The balanced test set.
    Test,
}

/// The demo's classes and labels, and its pictures on request.
#[derive(Clone, Debug)]
pub struct DemoSet {
    style: DemoStyle,
    seed: u64,
    classes: [Composition; CLASSES],
    train: DemoPart,
    test: DemoPart,
}

/// Labels in the order of the classes, and where each class begins in them.
#[derive(Clone, Debug)]
struct DemoPart {
    labels: Vec<u32>,
    starts: [usize; CLASSES],
}

impl DemoSet {
    /// The pictures of the first version's style that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self::in_style(DemoStyle::Cluttered, seed)
    }

    /// The pictures of a style that belong to `seed`. Classes and labels are the same for every seed.
    pub fn in_style(style: DemoStyle, seed: u64) -> Self {
        Self {
            style,
            seed,
            classes: demo_classes(),
            train: DemoPart::new(|class| style.tail().count(class)),
            test: DemoPart::new(|_| TEST_PER_CLASS),
        }
    }

    /// Names of the classes in the order of their labels, the most frequent first.
    pub fn class_names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name()).collect()
    }

    /// The label of each picture of a split.
    pub fn labels(&self, split: DemoSplit) -> &[u32] {
        &self.part(split).labels
    }

    /// Draws picture `index` of a split, or nothing if there are not so many.
    pub fn draw(&self, split: DemoSplit, index: usize) -> Option<RgbImage> {
        let part = self.part(split);
        let class = *part.labels.get(index)? as usize;
        let stream = match split {
            DemoSplit::Train => PictureStream::Train,
            DemoSplit::Test => PictureStream::Test,
        };
        let mut draws =
            PictureDraws::new(self.seed, stream, class as u64, (index - part.starts[class]) as u64);
        Some(picture::picture(self.classes[class], self.style.drawing(), &mut draws))
    }

    fn part(&self, split: DemoSplit) -> &DemoPart {
        match split {
            DemoSplit::Train => &self.train,
            DemoSplit::Test => &self.test,
        }
    }
}

impl DemoPart {
    fn new(count: impl Fn(usize) -> usize) -> Self {
        let mut labels = Vec::new();
        let starts = std::array::from_fn(|class| {
            let start = labels.len();
            labels.resize(start + count(class), class as u32);
            start
        });
        Self { labels, starts }
    }
}

/// A drawing with its caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PretrainingExample {
    /// The drawing, [`SIDE`] pixels wide and high.
    pub image: RgbImage,
    /// What it shows, in words of the [`vocabulary`].
    pub caption: String,
    /// What it shows; never one of the [`demo_classes`].
    pub composition: Composition,
}

/// The endless set of captioned drawings: example `index` for `seed`.
pub fn pretraining_example(seed: u64, index: u64) -> PretrainingExample {
    let (composition, mut draws) = pretraining_subject(seed, index);
    let caption = caption::caption(composition, &mut draws);
    let image = picture::picture(composition, &picture::PRETRAINING, &mut draws);
    PretrainingExample { image, caption, composition }
}

/// What example `index` shows, and the draws for the rest of it.
fn pretraining_subject(seed: u64, index: u64) -> (Composition, PictureDraws) {
    static SUBJECTS: std::sync::LazyLock<Vec<Composition>> =
        std::sync::LazyLock::new(pretraining_compositions);
    let mut draws = PictureDraws::new(seed, PictureStream::Pretraining, 0, index);
    (draws.one_of(&SUBJECTS), draws)
}

#[cfg(test)]
mod tests;

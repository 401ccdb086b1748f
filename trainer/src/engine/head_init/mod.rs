//! First values of the head, computed by all ranks together. Each file is one start; [`INITS`] names them.
//!
//! Starts from images look at them in the plain view, as the official code does: resized by the shorter side to what the
//! model takes, the centre cut out. The view of tests, which enlarges by 8/7 first, is another one.

pub mod class_mean;
mod context;
pub mod features;
mod file;
pub mod linear_probe;
mod random;
pub mod shots;
mod start;
mod templates;
pub mod text;

pub use context::InitContext;
pub use start::{Prepared, Start};

use super::failure::Failure;
use crate::config::{Config, WordOrFile};
use tch::Tensor;

/// All starts that have a word; the other ones are files.
pub const INITS: [&InitEntry; 5] =
    [&text::ENTRY, &class_mean::ENTRY, &shots::ENTRY, &linear_probe::ENTRY, &random::ENTRY];

/// A way to the first rows of a trained head.
pub trait HeadInit {
    /// Refuses data that it cannot start from, before anything is read that takes long.
    fn check(&self, facts: &Facts<'_>) -> Result<(), Failure> {
        let _ = facts;
        Ok(())
    }

    /// A hash of what it has read from files, which has to be the same on all ranks.
    fn fingerprint(&self) -> Vec<u8> {
        Vec::new()
    }

    /// First rows of all classes, `[classes, width]`; none leaves the random ones. All ranks call it.
    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure>;

    /// First values of the bias, `[classes]`; none leaves it at 0.
    fn bias(&self) -> Option<Tensor> {
        None
    }
}

/// A start in the list of starts.
pub struct InitEntry {
    /// The word in `head.init`.
    pub word: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What the official code calls it; of a number of images, `N` stands for it.
    pub official: Option<&'static str>,
    /// The start with its options, and what these name read.
    pub make: fn(&Config) -> Result<Box<dyn HeadInit>, Failure>,
}

/// What is known of data and model before the backbone is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Names in label order.
    pub class_names: &'a [String],
    /// Training images of each class.
    pub counts: &'a [u64],
    /// Width of the features, once the backbone's file is open.
    pub width: Option<i64>,
    /// Whether the head has a bias.
    pub has_bias: bool,
}

/// The start of a word.
pub fn of_word(word: &str) -> Option<&'static InitEntry> {
    INITS.into_iter().find(|entry| entry.word == word)
}

/// The start that the official code calls by this name.
pub fn of_official(name: &str) -> Option<&'static InitEntry> {
    let shots = name.strip_suffix("_shot").is_some_and(|shots| shots.parse::<u32>().is_ok());
    let name = if shots { "N_shot" } else { name };
    INITS.into_iter().find(|entry| entry.official == Some(name))
}

/// The start that the configuration names. Where the head itself is text, that of text, for its checks.
pub fn choose(config: &Config, has_text_tower: bool) -> Result<Box<dyn HeadInit>, Failure> {
    if !config.head.kind.is_trained() {
        return (text::ENTRY.make)(config);
    }
    match config.head.resolved_init(has_text_tower) {
        WordOrFile::File(path) => Ok(Box::new(file::FromFile::open(&path)?)),
        WordOrFile::Word(word) => match of_word(word.word()) {
            Some(entry) => (entry.make)(config),
            None => Err(Failure::run(format!("head.init={word} is in no list of starts; this is a defect"))),
        },
    }
}

impl Facts<'_> {
    /// Refuses a class without training images.
    fn every_class_has_images(&self) -> Result<(), Failure> {
        match self.counts.iter().position(|&count| count == 0) {
            Some(class) => Err(no_image(class, &self.class_names[class], 0)),
            None => Ok(()),
        }
    }
}

/// A class that images cannot start: of its `listed` images none can be read.
fn no_image(class: usize, name: &str, listed: u64) -> Failure {
    let what = match listed {
        0 => format!("class {class} (`{name}`) has no training image to start from"),
        n => format!("none of the {n} training images of class {class} (`{name}`) can be read to start from"),
    };
    Failure::input(format!("{what}; use head.init=text or head.init=random"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SECTIONS;
    use crate::model::heads::HEADS;

    /// Words of a key of `[head]`, each with the line about it.
    fn words(key: &str) -> Vec<(&'static str, String)> {
        let section = SECTIONS.into_iter().find(|section| section.name == "head").unwrap();
        let key = section.keys.iter().find(|found| found.name == key).unwrap();
        let line = |about: &[&str]| about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        key.words.iter().map(|word| (word.word, line(word.about))).collect()
    }

    #[test]
    fn the_options_and_the_lists_of_heads_and_starts_agree() {
        let heads: Vec<_> = HEADS.iter().map(|entry| (entry.word, entry.about.to_owned())).collect();
        assert_eq!(words("kind"), heads);
        let starts: Vec<_> = INITS.iter().map(|entry| (entry.word, entry.about.to_owned())).collect();
        assert_eq!(words("init").split_off(1), starts, "after `auto`");
    }

    #[test]
    fn a_class_without_images_is_named() {
        let class_names = ["red".to_owned(), "blue".to_owned()];
        let facts = Facts { class_names: &class_names, counts: &[3, 0], width: None, has_bias: false };
        let error = facts.every_class_has_images().unwrap_err();
        assert_eq!(
            error.message,
            "class 1 (`blue`) has no training image to start from; use head.init=text or head.init=random"
        );
        assert!(Facts { counts: &[3, 1], ..facts }.every_class_has_images().is_ok());
    }
}

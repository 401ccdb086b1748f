//! Head initialisation, computed by all ranks together. Each file is one method; [`HeadInits`] lists them.
//!
//! Methods that use images read them in the view of `head.view`.

pub mod auto;
pub mod class_mean;
mod context;
pub mod features;
mod file;
pub mod linear_probe;
pub mod random;
pub mod shots;
mod start;
mod templates;
pub mod text;
pub mod view;

pub use context::InitContext;
pub use start::{InitialValues, PreparedInit};

use crate::config::Config;
use crate::engine::failure::Failure;
use crate::options::{Chosen, Method, OrFile, Registry};
use std::path::Path;
use tch::Tensor;

/// Builds an initialisation from its options and from the files that they name.
pub type MakeHeadInit = fn(&Config) -> Result<Box<dyn HeadInit>, Failure>;

/// All named values of `head.init`; any other value is a file.
#[derive(Debug)]
pub enum HeadInits {}

impl Registry for HeadInits {
    type Make = MakeHeadInit;
    const KEY: &'static str = "head.init";
    const METHODS: &'static [&'static Method<MakeHeadInit>] = &[
        &auto::METHOD,
        &text::METHOD,
        &class_mean::METHOD,
        &shots::METHOD,
        &linear_probe::METHOD,
        &random::METHOD,
    ];
}

impl Chosen<HeadInits> {
    /// The method that `auto` selects.
    #[must_use]
    pub fn resolve(self, has_text_tower: bool) -> Self {
        match self.is(&auto::METHOD) {
            true if has_text_tower => Self::of(&text::METHOD),
            true => Self::of(&class_mean::METHOD),
            false => self,
        }
    }
}

/// A method to initialise the rows of a trained head.
pub trait HeadInit {
    /// Refuses data that it cannot use, before any slow work.
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        let _ = facts;
        Ok(())
    }

    /// A hash of the content that it has read from files, which must be the same on all ranks.
    fn fingerprint(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Initial rows of all classes, `[classes, width]`; none keeps the random ones. All ranks call this.
    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure>;

    /// Initial values of the bias, `[classes]`; none keeps it at 0.
    fn bias(&self) -> Option<Tensor> {
        None
    }
}

/// Facts about data and model that are known before the backbone is loaded.
#[derive(Debug, Clone, Copy)]
pub struct InitFacts<'a> {
    /// Names in label order.
    pub class_names: &'a [String],
    /// Training images of each class.
    pub counts: &'a [u64],
    /// Width of the features, once the backbone's file is open.
    pub width: Option<i64>,
    /// Whether the head has a bias.
    pub has_bias: bool,
    /// Whether the model has text features.
    pub has_text_tower: bool,
    /// The backbone's file.
    pub weights: Option<&'a Path>,
}

/// The configured initialisation; for a head that itself is text, that of text, for its checks.
pub fn choose(config: &Config, has_text_tower: bool) -> Result<Box<dyn HeadInit>, Failure> {
    if !config.head.is_trained() {
        return (text::METHOD.make)(config);
    }
    match &config.head.init {
        OrFile::File(path) => Ok(Box::new(file::FromFile::open(path)?)),
        OrFile::Word(word) => (word.resolve(has_text_tower).method().make)(config),
    }
}

impl InitFacts<'_> {
    /// Refuses a class without training images.
    fn every_class_has_images(&self) -> Result<(), Failure> {
        match self.counts.iter().position(|&count| count == 0) {
            Some(class) => {
                let instead = without_images(self.has_text_tower, self.weights);
                Err(no_image((class, &self.class_names[class]), 0, &instead))
            }
            None => Ok(()),
        }
    }
}

/// Initialisations that do not need images of every class.
fn without_images(has_text_tower: bool, weights: Option<&Path>) -> String {
    match weights {
        _ if has_text_tower => "head.init=text or head.init=random".to_owned(),
        None => "head.init=random".to_owned(),
        Some(file) => {
            format!("head.init=random (`{}` has no text tower, which head.init=text needs)", file.display())
        }
    }
}

/// The error for a class that images cannot initialise: none of its `listed` images can be read.
fn no_image((class, name): (usize, &str), listed: u64, instead: &str) -> Failure {
    let what = match listed {
        0 => format!("class {class} (`{name}`) has no training image to start from"),
        n => format!("none of the {n} training images of class {class} (`{name}`) can be read to start from"),
    };
    Failure::input(format!("{what}\nhint: use {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_class_without_images_is_named() {
        let class_names = ["red".to_owned(), "blue".to_owned()];
        let facts = InitFacts {
            class_names: &class_names,
            counts: &[3, 0],
            width: None,
            has_bias: false,
            has_text_tower: true,
            weights: None,
        };
        let error = facts.every_class_has_images().unwrap_err();
        assert_eq!(
            error.message,
            "class 1 (`blue`) has no training image to start from\nhint: use head.init=text or head.init=random"
        );
        let image_tower =
            InitFacts { has_text_tower: false, weights: Some(Path::new("vision.safetensors")), ..facts };
        assert_eq!(
            image_tower.every_class_has_images().unwrap_err().message,
            "class 1 (`blue`) has no training image to start from\nhint: use head.init=random (`vision.safetensors` has no \
             text tower, which head.init=text needs)"
        );
        assert!(InitFacts { counts: &[3, 1], ..facts }.every_class_has_images().is_ok());
    }
}

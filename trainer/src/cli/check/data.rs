//! The data section of `check`.

use crate::config::Config;
use crate::data::source::{DataSet, counts};
use crate::engine::eval::bad_images::{ImageSet, missing_files};
use crate::engine::failure::Failure;
use crate::engine::setup::head_init::text::ClassPrompts;
use serde::Serialize;

/// Numbers of classes and images, and the findings about them.
#[derive(Debug, Serialize)]
pub(super) struct CheckedData {
    classes: usize,
    train_images: usize,
    test_images: usize,
    missing_images: usize,
    largest_class: u64,
    smallest_class: u64,
    /// Three of the prompts for the head initialisation, if it is text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompts: Vec<String>,
}

/// Checks that the file of every image exists and returns the number of missing images within the allowed limit;
/// decodes the first image of each split.
pub(super) fn look_at(config: &Config, data: &DataSet) -> Result<usize, Failure> {
    let missing = missing_files(config, data, &[ImageSet::Training, ImageSet::Test])?;
    for split in [&data.train, &data.test] {
        split.read(0).map_err(Failure::input)?;
    }
    Ok(missing.len())
}

impl CheckedData {
    /// `has_text` says whether the backbone has a text tower.
    pub(super) fn of(
        data: &DataSet,
        config: &Config,
        has_text: bool,
        missing_images: usize,
    ) -> Result<Self, Failure> {
        let per_class = counts(data.train.labels(), data.class_names.len());
        let prompts =
            if config.head.uses_text(has_text) { examples(config, &data.class_names)? } else { Vec::new() };
        Ok(Self {
            classes: data.class_names.len(),
            train_images: data.train.len(),
            test_images: data.test.len(),
            missing_images,
            largest_class: per_class.iter().copied().max().unwrap_or(0),
            smallest_class: per_class.iter().copied().min().unwrap_or(0),
            prompts,
        })
    }
}

/// The first prompt of the first class, of the last, and of one between them.
fn examples(config: &Config, class_names: &[String]) -> Result<Vec<String>, Failure> {
    let texts = ClassPrompts::open(config)?.texts(class_names)?;
    let last = class_names.len().saturating_sub(1);
    let mut classes = vec![0, last / 2, last];
    classes.dedup();
    Ok(classes.into_iter().filter_map(|class| texts.get(class)?.first().cloned()).collect())
}

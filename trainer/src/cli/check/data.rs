//! What `check` says about the data.

use crate::config::{Config, HeadInit, HeadKind};
use crate::data::source::{DataSet, Finding, Weight, counts};
use crate::engine::failure::Failure;
use crate::model::tokenizer::prompt;
use serde::Serialize;

/// Classes, images, and what was found about them.
#[derive(Debug, Serialize)]
pub(super) struct CheckedData {
    classes: usize,
    train_images: usize,
    test_images: usize,
    largest_class: u64,
    smallest_class: u64,
    /// Three of the sentences that the head starts from, if it starts from text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl CheckedData {
    /// Looks for every image; the first of each split is decoded.
    pub(super) fn check(data: &DataSet) -> Result<(), Failure> {
        for split in [&data.train, &data.test] {
            split.verify().map_err(Failure::input)?;
            split.read(0).map_err(Failure::input)?;
        }
        Ok(())
    }

    /// `has_text` says whether the backbone has a text tower.
    pub(super) fn of(data: &DataSet, config: &Config, has_text: bool) -> Self {
        let per_class = counts(data.train.labels(), data.class_names.len());
        let from_text =
            config.head.kind == HeadKind::ZeroShot || config.head.init.resolve(has_text) == HeadInit::Text;
        let of_weight = |weight| {
            let found = data.findings.iter().filter(|finding: &&Finding| finding.weight == weight);
            found.map(|finding| finding.text.clone()).collect()
        };
        Self {
            classes: data.class_names.len(),
            train_images: data.train.len(),
            test_images: data.test.len(),
            largest_class: per_class.iter().copied().max().unwrap_or(0),
            smallest_class: per_class.iter().copied().min().unwrap_or(0),
            prompts: if from_text { examples(&data.class_names, &config.head.prompt) } else { Vec::new() },
            warnings: of_weight(Weight::Warning),
            notes: of_weight(Weight::Note),
        }
    }
}

/// The prompts of the first class, the last, and one between them.
fn examples(class_names: &[String], template: &str) -> Vec<String> {
    let last = class_names.len().saturating_sub(1);
    let mut classes = vec![0, last / 2, last];
    classes.dedup();
    classes.into_iter().filter_map(|class| Some(prompt(template, class_names.get(class)?))).collect()
}

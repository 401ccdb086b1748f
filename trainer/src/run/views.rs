//! The images and views of an evaluation, a part of its result.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The images and views of an evaluation, as the configuration names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// `eval.split`: `test` or `train`.
    pub split: String,
    /// `eval.crops`: `centre`, `five`, `ten` or `random`.
    pub crops: String,
    /// Crops of each image, whose logits are averaged.
    pub crops_per_image: usize,
    /// Pixels by which the shorter side of an image was larger than a crop; null where `eval.expand` has no effect.
    pub expand: Option<u32>,
}

/// The views of results from versions without these options.
impl Default for Views {
    fn default() -> Self {
        Self { split: "test".to_owned(), crops: "centre".to_owned(), crops_per_image: 1, expand: None }
    }
}

impl Views {
    /// Name of the images in messages.
    pub fn images(&self) -> &str {
        if self.split == "train" { "training" } else { &self.split }
    }
}

impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images, ", self.images())?;
        match (self.crops_per_image, self.crops.as_str(), self.expand) {
            (1, "centre", _) => f.write_str("centre crop"),
            (1, crops, _) => write!(f, "1 {crops} crop"),
            (count, _, Some(expand)) => write!(f, "{count} crops, expand {expand}"),
            (count, crops, None) => write!(f, "{count} {crops} crops"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_named_in_words() {
        let views = |split: &str, crops: &str, crops_per_image, expand| Views {
            split: split.into(),
            crops: crops.into(),
            crops_per_image,
            expand,
        };
        assert_eq!(Views::default().to_string(), "test images, centre crop");
        assert_eq!(views("test", "five", 5, Some(24)).to_string(), "test images, 5 crops, expand 24");
        assert_eq!(views("train", "random", 1, None).to_string(), "training images, 1 random crop");
        assert_eq!(views("train", "random", 3, None).to_string(), "training images, 3 random crops");
    }
}

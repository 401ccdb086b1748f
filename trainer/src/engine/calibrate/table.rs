//! Logits of images with their labels and names.

use super::CalibrationError;

/// Logits of images, row by row, with a label and a name each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitsTable {
    /// Number of classes.
    pub classes: usize,
    /// `images * classes` numbers.
    pub logits: Vec<f32>,
    /// The label of each image.
    pub labels: Vec<i64>,
    /// Its path, or its position in a file.
    pub names: Vec<String>,
}

impl LogitsTable {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The logits of an image.
    pub fn row(&self, image: usize) -> &[f32] {
        &self.logits[image * self.classes..(image + 1) * self.classes]
    }

    /// The label of an image.
    pub(super) fn label(&self, image: usize) -> usize {
        self.labels[image] as usize
    }

    /// Refuses a table of other classes, or with values without meaning.
    pub(super) fn check(&self, classes: usize) -> Result<(), CalibrationError> {
        if self.classes != classes {
            return Err(CalibrationError::Classes { expected: classes, found: self.classes });
        }
        for (image, &label) in self.labels.iter().enumerate() {
            if !usize::try_from(label).is_ok_and(|label| label < classes) {
                return Err(CalibrationError::Label { image, label, classes });
            }
            if self.row(image).iter().any(|logit| !logit.is_finite()) {
                return Err(CalibrationError::NotFinite { image });
            }
        }
        Ok(())
    }
}

//! Probabilities from logits: `softmax(scale z + offset)`.

use super::LogitsTable;

/// Logits with a scale (the inverse temperature) and a constant for each class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calibrated<'a> {
    pub(super) table: &'a LogitsTable,
    pub(super) scale: f64,
    pub(super) offset: Option<&'a [f64]>,
}

impl Calibrated<'_> {
    /// The calibrated logits of an image, into `row`.
    fn logits(&self, image: usize, row: &mut Vec<f64>) {
        row.clear();
        row.extend(self.table.row(image).iter().map(|&logit| self.scale * f64::from(logit)));
        if let Some(offset) = self.offset {
            row.iter_mut().zip(offset).for_each(|(logit, offset)| *logit += offset);
        }
    }

    /// The probabilities of an image, into `row`.
    pub(super) fn of(&self, image: usize, row: &mut Vec<f64>) {
        self.logits(image, row);
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for value in row.iter_mut() {
            *value = (*value - most).exp();
        }
        let sum: f64 = row.iter().sum();
        for value in row.iter_mut() {
            *value /= sum;
        }
    }

    /// The negative log-likelihood of an image's label.
    pub(super) fn nll(&self, image: usize, row: &mut Vec<f64>) -> f64 {
        self.logits(image, row);
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - most).exp()).sum();
        most + sum.ln() - row[self.table.label(image)]
    }
}

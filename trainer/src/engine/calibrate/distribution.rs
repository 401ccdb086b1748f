//! Class distributions: uniform, that of the training images, or one of a file.

use std::path::{Path, PathBuf};

/// The share of each class; all are positive and their sum is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Vec<f64>);

/// A class distribution that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// The file cannot be read.
    #[error("cannot read the class distribution `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A line that is not a share.
    #[error("{}:{line}: expected the share or the number of images of a class, a number above 0, found `{found}`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// Its content.
        found: String,
    },
    /// Another number of classes.
    #[error("`{}` has {found} numbers; expected one in each line for the {expected} classes of the run, in label order", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Classes of the run.
        expected: usize,
        /// Numbers in the file.
        found: usize,
    },
}

impl Distribution {
    /// Equal shares.
    pub fn uniform(classes: usize) -> Self {
        Self(vec![1.0 / classes as f64; classes])
    }

    /// Shares in proportion to the class sizes. A class without images counts as one with the fewest that another has, as
    /// in the losses.
    pub fn of_counts(counts: &[u64]) -> Self {
        let least = counts.iter().copied().filter(|&count| count > 0).min().unwrap_or(1);
        Self::normalised(counts.iter().map(|&count| if count == 0 { least } else { count } as f64).collect())
    }

    /// One number per line, in label order: shares or counts.
    pub fn read(path: &Path, classes: usize) -> Result<Self, DistributionError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| DistributionError::Read { path: path.to_owned(), source })?;
        let mut values = Vec::new();
        for (line, found) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let value = found.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
            let wrong = || DistributionError::Line { path: path.to_owned(), line, found: found.to_owned() };
            values.push(value.ok_or_else(wrong)?);
        }
        if values.len() != classes {
            let (expected, found) = (classes, values.len());
            return Err(DistributionError::Length { path: path.to_owned(), expected, found });
        }
        Ok(Self::normalised(values))
    }

    /// Shares in proportion to powers of these: 1 keeps them, 0 makes them equal.
    #[must_use]
    pub fn to_the(&self, power: f64) -> Self {
        Self::normalised(self.0.iter().map(|share| share.powf(power)).collect())
    }

    fn normalised(values: Vec<f64>) -> Self {
        let sum: f64 = values.iter().sum();
        Self(values.into_iter().map(|value| value / sum).collect())
    }

    /// The share of each class.
    pub fn shares(&self) -> &[f64] {
        &self.0
    }

    /// What turns logits that are for `source` into logits for this distribution: `log(target / source)`.
    pub(super) fn log_ratio(&self, source: &Self) -> Vec<f64> {
        self.0.iter().zip(&source.0).map(|(target, source)| (target / source).ln()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_positive_number_for_each_class() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shares.txt");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Distribution::read(&path, 3).map_err(|error| error.to_string())
        };
        assert_eq!(read("1\n2\n\n1\n").unwrap().shares(), [0.25, 0.5, 0.25]);
        let name = path.display();
        let expected = "expected the share or the number of images of a class, a number above 0, found";
        assert_eq!(read("1\n0\n1").unwrap_err(), format!("{name}:2: {expected} `0`"));
        assert_eq!(read("1\nNaN\n1").unwrap_err(), format!("{name}:2: {expected} `NaN`"));
        let expected = "2 numbers; expected one in each line for the 3 classes of the run, in label order";
        assert_eq!(read("1\n2").unwrap_err(), format!("`{name}` has {expected}"));
    }

    #[test]
    fn powers_lie_between_uniform_and_the_distribution() {
        let counts = Distribution::of_counts(&[8, 2, 0]);
        assert_eq!(counts.shares(), [8.0 / 12.0, 2.0 / 12.0, 2.0 / 12.0]);
        assert_eq!(counts.to_the(0.0), Distribution::uniform(3));
        assert!((counts.to_the(0.5).shares()[0] - 0.5).abs() < 1e-12);
    }
}

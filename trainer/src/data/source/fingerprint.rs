//! The fingerprint of a data set: a hash of its lists, and a sample of its files.

use super::{DataSet, Split};
use protocol::numbers::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Number of files of a split in the sample, spaced evenly over its list.
const SAMPLED: usize = 128;

/// Placeholder for a file that could not be read. The error is reported when the file is needed.
const UNREAD: &str = "-";

/// SHA-256 over class names, labels and the names of all images.
pub(super) fn of_lists(set: &DataSet) -> String {
    let mut hash = Sha256::new();
    hash.update((set.class_names.len() as u64).to_le_bytes());
    for name in &set.class_names {
        add_text(&mut hash, name);
    }
    add_split(&mut hash, &set.train);
    add_split(&mut hash, &set.test);
    hex(&hash.finalize())
}

/// 64 bits over the lists and the content sample.
pub(super) fn identity(set: &DataSet) -> String {
    let mut hash = Sha256::new();
    add_text(&mut hash, &of_lists(set));
    ContentSample::of(set).0.iter().for_each(|sample| add_text(&mut hash, sample));
    hex(&hash.finalize()[..8])
}

fn add_split(hash: &mut Sha256, split: &Split) {
    hash.update((split.len() as u64).to_le_bytes());
    for (index, label) in split.labels().iter().enumerate() {
        hash.update(label.to_le_bytes());
        add_text(hash, &split.name(index));
    }
}

/// With its length first, so that no two lists of texts hash alike.
fn add_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

/// The sizes and some bytes of some files of a data set. Two folders with the same names differ in it.
///
/// The lengths of the lists determine which files are sampled, so samples of equal lists are comparable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentSample(Vec<String>);

impl ContentSample {
    /// Samples files of both splits.
    pub(super) fn of(set: &DataSet) -> Self {
        Self(sampled(set).map(|(split, index)| of_file(split, index)).collect())
    }

    /// The difference between this sample of the images of `set` and another of the same lists. Files that either of them
    /// could not read are ignored.
    pub fn difference(&self, other: &Self, set: (&Split, &Split)) -> Option<ContentDifference> {
        let read = |(_, (one, other)): &(usize, (&String, &String))| *one != UNREAD && *other != UNREAD;
        let both = || self.0.iter().zip(&other.0).enumerate().filter(read);
        let mut differing = both().filter(|(_, (one, other))| one != other).map(|(at, _)| at);
        let first = places(set.0, set.1).nth(differing.next()?).map(|(split, index)| split.name(index))?;
        Some(ContentDifference { first, files: 1 + differing.count(), compared: both().count() })
    }
}

/// The difference between the files of two data sets with the same lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDifference {
    /// The first image whose files differ.
    pub first: String,
    /// Files that differ.
    pub files: usize,
    /// Files that were compared.
    pub compared: usize,
}

impl ContentDifference {
    /// Whether these are different data, rather than a few repaired files.
    pub fn is_another_set(&self) -> bool {
        10 * self.files > self.compared
    }
}

impl fmt::Display for ContentDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, files, compared } = self;
        write!(f, "{files} of {compared} sampled files have another size or content, the first is `{first}`")
    }
}

fn sampled(set: &DataSet) -> impl Iterator<Item = (&Split, usize)> {
    places(&set.train, &set.test)
}

/// Evenly over each list, its first and its last among them.
fn places<'a>(train: &'a Split, test: &'a Split) -> impl Iterator<Item = (&'a Split, usize)> {
    [train, test].into_iter().flat_map(|split| {
        let count = split.len().min(SAMPLED);
        (0..count).map(move |i| (split, i * (split.len() - 1) / (count - 1).max(1)))
    })
}

/// 64 bits over the size and the sampled bytes of a file.
fn of_file(split: &Split, index: usize) -> String {
    let Ok(sample) = split.sample(index) else { return UNREAD.to_owned() };
    let mut hash = Sha256::new();
    hash.update(sample.size.to_le_bytes());
    hash.update(&sample.bytes);
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests;

//! Unreadable images that are left out: the list of them, and the limit of a run.
//!
//! An image counts once, however often it is encountered: in class means, in each epoch, in each evaluation. All ranks
//! have the same list, so that they all detect an exceeded limit at the same point (law 4).

use crate::config::Config;
use crate::data::loader::Skipped;
use crate::data::source::{DataSet, Split};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use protocol::{Outcome, hint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Largest number of images in an error message.
const MOST_SHOWN: usize = 3;

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImageSet {
    /// Training images.
    Training,
    /// Test images.
    Test,
    /// Images that a user names, outside of any data set.
    Input,
}

/// How many images a run may leave out.
#[derive(Debug, Clone, Copy)]
pub struct BadImageLimit {
    /// `data.max_bad_images`.
    pub most: u64,
    /// Outcome of the run if the limit is exceeded.
    pub outcome: Outcome,
}

/// An unreadable image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BadImage {
    /// The part of the data set.
    pub images: ImageSet,
    /// Its path, or its position in a file.
    pub path: String,
    /// The error.
    pub reason: String,
}

/// The images that a run has left out so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadImages {
    training: BTreeSet<String>,
    test: BTreeSet<String>,
    /// No run has such images, so no checkpoint records them.
    #[serde(skip)]
    input: BTreeSet<String>,
}

impl BadImageLimit {
    /// The limit before training.
    pub fn before_training(config: &Config) -> Self {
        Self { most: config.data.max_bad_images, outcome: Outcome::WrongInput }
    }

    /// No limit.
    pub const NONE: Self = Self { most: u64::MAX, outcome: Outcome::Failed };

    /// The limit during a run.
    pub fn within(config: &Config) -> Self {
        Self { most: config.data.max_bad_images, outcome: Outcome::Failed }
    }
}

impl BadImages {
    /// Number of images.
    pub fn count(&self) -> u64 {
        (self.training.len() + self.test.len() + self.input.len()) as u64
    }

    /// The images of `skipped` that are not in the list yet.
    pub fn news(&self, images: ImageSet, skipped: &[Skipped]) -> Vec<BadImage> {
        let unknown = skipped.iter().filter(|image| !self.of(images).contains(&image.path));
        let news = unknown.map(|Skipped { path, reason, .. }| BadImage {
            images,
            path: path.clone(),
            reason: reason.clone(),
        });
        news.collect()
    }

    /// Whether this number of further images on this rank alone exceeds the limit.
    pub fn exceeds(&self, more: usize, limit: BadImageLimit) -> bool {
        self.count() + more as u64 > limit.most
    }

    /// Merges the images that the ranks have encountered. If the limit is exceeded, all ranks fail and nothing is
    /// merged: a resumed run encounters them again if they are still unreadable. All ranks call this.
    pub fn meet(&mut self, own: &[BadImage], limit: BadImageLimit, rank: &Rank) -> Result<(), Failure> {
        let encoded = serde_json::to_vec(own).map_err(Failure::run)?;
        let mut met = BTreeSet::new();
        for bytes in rank.control.all_gather(&encoded)? {
            let theirs: Vec<BadImage> = serde_json::from_slice(&bytes).map_err(Failure::run)?;
            met.extend(theirs);
        }
        if rank.leads() {
            for BadImage { images, path, reason } in &met {
                tracing::warn!("{images} image `{path}` is left out: {reason}");
            }
        }
        let mut all = self.clone();
        for image in &met {
            all.of_mut(image.images).insert(image.path.clone());
        }
        if all.count() > limit.most {
            return Err(too_many(all.count(), &met, limit));
        }
        *self = all;
        Ok(())
    }

    /// Merges the images that another part of the run has left out.
    pub fn join(&mut self, other: &Self) {
        self.training.extend(other.training.iter().cloned());
        self.test.extend(other.test.iter().cloned());
    }

    fn of(&self, images: ImageSet) -> &BTreeSet<String> {
        match images {
            ImageSet::Training => &self.training,
            ImageSet::Test => &self.test,
            ImageSet::Input => &self.input,
        }
    }

    fn of_mut(&mut self, images: ImageSet) -> &mut BTreeSet<String> {
        match images {
            ImageSet::Training => &mut self.training,
            ImageSet::Test => &mut self.test,
            ImageSet::Input => &mut self.input,
        }
    }
}

impl std::fmt::Display for ImageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "training",
            Self::Test => "test",
            Self::Input => "input",
        })
    }
}

fn too_many(count: u64, met: &BTreeSet<BadImage>, limit: BadImageLimit) -> Failure {
    let plural = if count == 1 { "" } else { "s" };
    let shown: Vec<String> = met
        .iter()
        .take(MOST_SHOWN)
        .map(|BadImage { images, path, reason }| {
            format!("{images} image `{path}` ({})", hint::in_one_line(reason))
        })
        .collect();
    let more = if met.len() > MOST_SHOWN { "; the log of rank 0 lists all" } else { "" };
    let message = format!(
        "{count} image{plural} cannot be read, more than data.max_bad_images={} allows: {}{more}\nhint: repair what is broken, or raise data.max_bad_images to leave it out",
        limit.most,
        shown.join(", ")
    );
    Failure { outcome: limit.outcome, message, common: true }
}

/// Checks on every host that the files of all required images exist. The limit of missing files is that of images left
/// out.
pub fn look_for_files(
    config: &Config,
    data: &DataSet,
    wanted: &[ImageSet],
    rank: &Rank,
) -> Result<BadImages, Failure> {
    rank.begin("looking for images");
    let is_first_of_host = rank.number() == rank.node;
    let own = agreed(&rank.control, || {
        if is_first_of_host { missing_files(config, data, wanted) } else { Ok(Vec::new()) }
    })?;
    let mut missing = BadImages::default();
    missing.meet(&own, BadImageLimit::before_training(config), rank)?;
    Ok(missing)
}

/// Images whose files are missing; an error if they exceed the limit.
pub fn missing_files(config: &Config, data: &DataSet, wanted: &[ImageSet]) -> Result<Vec<BadImage>, Failure> {
    let mut all = Vec::new();
    let mut sentences = Vec::new();
    for &images in wanted {
        let split = match images {
            ImageSet::Training => &data.train,
            ImageSet::Test | ImageSet::Input => &data.test,
        };
        let missing = split.missing();
        if !missing.is_empty() {
            let indices: Vec<usize> = missing.iter().map(|missing| missing.index).collect();
            sentences.push(sentence(images, split, &indices, &data.class_names));
        }
        all.extend(missing.into_iter().map(|missing| BadImage {
            images,
            path: split.name(missing.index),
            reason: missing.reason,
        }));
    }
    if all.len() as u64 > config.data.max_bad_images {
        let remedy = "put them there, or give the folder that holds them with data.root or data.images";
        return Err(Failure::input(format!("{}; {remedy}", sentences.join("; "))));
    }
    Ok(all)
}

/// Message with the number of missing images, the folder, and the first of them.
fn sentence(images: ImageSet, split: &Split, missing: &[usize], class_names: &[String]) -> String {
    let shown = missing.iter().take(MOST_SHOWN).map(|&index| {
        let label = split.labels()[index];
        let class = class_names.get(label as usize).map_or("", String::as_str);
        format!("`{}` (image {} of class {label}, `{class}`)", split.name(index), index + 1)
    });
    let shown: Vec<String> = shown.collect();
    let list = split.files().and_then(|files| files.list);
    let origin = list.map_or_else(|| "folders".to_owned(), |list| format!("list `{}`", list.display()));
    let place = split.files().map(|files| files.root.display().to_string()).unwrap_or_default();
    let (number, more) = (missing.len(), if missing.len() > MOST_SHOWN { ", ..." } else { "" });
    let (plural, are) = if number == 1 { ("", "is") } else { ("s", "are") };
    format!(
        "{number} image{plural} of the {images} {origin} {are} not in `{place}`: {}{more}",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_counts_once_and_each_list_by_itself() {
        let skipped =
            |path: &str| Skipped { sample: 0, position: 0, path: path.into(), reason: "torn".into() };
        let mut known = BadImages::default();
        for images in [ImageSet::Training, ImageSet::Test, ImageSet::Test] {
            known.of_mut(images).insert("a/1.png".into());
        }
        assert_eq!(known.count(), 2);
        let news = known.news(ImageSet::Test, &[skipped("a/1.png"), skipped("a/2.png")]);
        let expected = BadImage { images: ImageSet::Test, path: "a/2.png".into(), reason: "torn".into() };
        assert_eq!(news, [expected]);
        let limit = BadImageLimit { most: 3, outcome: Outcome::Failed };
        assert!(!known.exceeds(1, limit) && known.exceeds(2, limit));
        let mut other = BadImages::default();
        other.join(&known);
        assert_eq!(other, known);
    }
}

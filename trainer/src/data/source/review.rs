//! Mistakes in lists and folders that training does not detect: classes without images, labels counted from 1,
//! images that are listed twice, listed with two labels, or in both the training and the test list.

use super::finding::{Finding, counted, first_few};
use super::{DataSet, Split, counts};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Checks the labels and names of a data set.
pub(super) fn review(set: &DataSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(empty_classes(set));
    findings.extend(same_names(&set.class_names));
    let train = ListedPictures::new(&set.train);
    findings.extend(train.twice("training", "it is drawn as often as it is listed"));
    findings.extend(train.two_labels("training", set));
    let test = ListedPictures::new(&set.test);
    findings.extend(test.twice("test", "it counts as often as it is listed"));
    findings.extend(test.two_labels("test", set));
    findings.extend(test.also_in(&train));
    findings
}

fn empty_classes(set: &DataSet) -> Vec<Finding> {
    let classes = set.class_names.len();
    let described = |classes: &[usize]| {
        first_few(classes.iter().map(|&class| format!("{class} `{}`", set.class_names[class])))
    };
    let empty = |split: &Split| -> Vec<usize> {
        let counts = counts(split.labels(), classes);
        (0..classes).filter(|&class| counts[class] == 0).collect()
    };
    let (untrained, untested) = (empty(&set.train), empty(&set.test));
    let mut findings = Vec::new();
    if untrained.first() == Some(&0) && untested.first() == Some(&0) && classes > 1 {
        findings.push(Finding::warning(format!(
            "no picture has label 0 (`{}`), so the labels seem to be counted from 1; they are counted from 0 \
             here\nhint: if class 1 is not `{}`, set `data.first_label=1`; `lift init-data --first-label 1` does it",
            set.class_names[0], set.class_names[1]
        )));
    }
    if !untrained.is_empty() {
        findings.push(Finding::warning(format!(
            "{} of {classes} without a training picture, which can hardly be learnt: {}",
            counted_classes(untrained.len()),
            described(&untrained)
        )));
    }
    // A source that is yet to be divided has no test picture at all.
    if !untested.is_empty() && !set.test.is_empty() {
        findings.push(Finding::note(format!(
            "{} of {classes} without a test picture, left out of the means over classes: {}",
            counted_classes(untested.len()),
            described(&untested)
        )));
    }
    findings
}

fn counted_classes(count: usize) -> String {
    if count == 1 { "1 class".to_owned() } else { format!("{count} classes") }
}

/// Classes with the same name get the same text features.
fn same_names(names: &[String]) -> Option<Finding> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (class, name) in names.iter().enumerate() {
        match first.get(name.as_str()) {
            Some(other) => pairs.push(format!("`{name}` (classes {other} and {class})")),
            None => drop(first.insert(name, class)),
        }
    }
    let text = format!("{} used twice: {}", counted(pairs.len(), "class name"), first_few(pairs.iter()));
    (!pairs.is_empty()).then(|| Finding::warning(text))
}

/// The images of a split by the files that they are.
struct ListedPictures<'a> {
    split: &'a Split,
    hasher: RandomState,
    /// The first index of a file, by the hash of its path.
    first: HashMap<u64, u32>,
    /// Later mentions of a file, each with the first one.
    later: Vec<(u32, u32)>,
}

impl<'a> ListedPictures<'a> {
    fn new(split: &'a Split) -> Self {
        let mut listed = Self { split, hasher: RandomState::new(), first: HashMap::new(), later: Vec::new() };
        for index in 0..split.len() {
            let Some(place) = split.place(index) else { continue };
            let hash = listed.hasher.hash_one(&place);
            match listed.first.get(&hash) {
                Some(&first) => listed.later.push((first, index as u32)),
                None => drop(listed.first.insert(hash, index as u32)),
            }
        }
        listed
    }

    fn label(&self, index: u32) -> u32 {
        self.split.labels()[index as usize]
    }

    fn twice(&self, what: &str, effect: &str) -> Option<Finding> {
        let mut same = self.later.iter().filter(|&&(one, other)| self.label(one) == self.label(other));
        let &(first, second) = same.next()?;
        let name = self.split.name(first as usize);
        let again = self.split.name(second as usize);
        let spelled = if again == name { String::new() } else { format!(" (also as `{again}`)") };
        let count = counted(1 + same.count(), &format!("{what} line"));
        Some(Finding::warning(format!(
            "{count} too many: a picture is listed again under the same label, first `{name}`{spelled}; {effect}"
        )))
    }

    fn two_labels(&self, what: &str, set: &DataSet) -> Option<Finding> {
        let mut other = self.later.iter().filter(|&&(one, other)| self.label(one) != self.label(other));
        let &(first, second) = other.next()?;
        let class = |index| {
            let label = self.label(index) as usize;
            format!("{label} `{}`", set.class_names.get(label).map_or("", String::as_str))
        };
        Some(Finding::warning(format!(
            "{} another label than an earlier line with the same picture: `{}` is of class {} and of class {}",
            match 1 + other.count() {
                1 => format!("1 {what} line has"),
                count => format!("{count} {what} lines have"),
            },
            self.split.name(first as usize),
            class(first),
            class(second)
        )))
    }

    /// Images that are both trained on and tested.
    fn also_in(&self, train: &Self) -> Option<Finding> {
        let mut both = (0..self.split.len()).filter(|&index| {
            let place = self.split.place(index);
            place.is_some_and(|place| train.first.contains_key(&train.hasher.hash_one(&place)))
        });
        let first = both.next()?;
        Some(Finding::warning(format!(
            "{} of {} also trained on, first `{}`; the accuracy counts what was seen in training",
            counted(1 + both.count(), "test picture"),
            self.split.len(),
            self.split.name(first)
        )))
    }
}

#[cfg(test)]
mod tests;

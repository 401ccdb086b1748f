//! What `init-data` found, for a terminal and as JSON.

use super::divide::Division;
use super::recognise::FoundData;
use super::shell;
use crate::cli::findings;
use crate::data::source::{DataSet, Half, Split, counts};
use crate::data::survey::Survey;
use crate::engine::failure::Failure;
use crate::run::{Shot, ShotLimits};
use protocol::command_line::OutputArguments;
use protocol::terminal::{self, escaped_line, say};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;

/// Classes that are shown one by one; more are shown by their size.
const MOST_ROWS: usize = 24;

/// Letters of the longest bar.
const BAR: u64 = 40;

/// Letters of the longest name of a class.
const NAME: usize = 28;

/// Pictures of one kind that are named.
const NAMED: usize = 10;

/// Everything that is told.
pub(super) struct Report<'a> {
    pub(super) preset: &'a Path,
    pub(super) found: &'a FoundData,
    pub(super) set: &'a DataSet,
    pub(super) surveyed: &'a [Survey; 2],
    pub(super) division: Option<&'a Division>,
    pub(super) limits: ShotLimits,
}

/// Prints the report to standard output, and what is wrong with the pictures to standard error.
pub(super) fn print(report: &Report<'_>, output_arguments: OutputArguments) -> Result<(), Failure> {
    findings::print(&report.set.findings, output_arguments);
    report.warn();
    let printed = if output_arguments.json {
        terminal::print_json(&format!("{:#}\n", report.json()))
    } else {
        terminal::print(&report.text())
    };
    printed.map(drop).map_err(Failure::run)
}

impl Report<'_> {
    /// Sizes of the classes in training.
    fn sizes(&self) -> Vec<u64> {
        let classes = self.set.class_names.len();
        match self.division {
            None => counts(self.set.train.labels(), classes),
            Some(division) => {
                let pairs = self.set.train.labels().iter().zip(&division.halves);
                let labels: Vec<u32> =
                    pairs.filter(|&(_, &half)| half == Half::Train).map(|(&label, _)| label).collect();
                counts(&labels, classes)
            }
        }
    }

    fn halves(&self) -> (usize, usize) {
        self.division
            .map_or((self.set.train.len(), self.set.test.len()), |division| (division.train, division.test))
    }

    fn groups(&self) -> [usize; 3] {
        let sizes = self.sizes();
        Shot::ALL.map(|shot| sizes.iter().filter(|&&size| self.limits.group(size) == shot).count())
    }

    fn broken(&self) -> Vec<(&Split, usize, &str)> {
        let splits = [&self.set.train, &self.set.test];
        let pairs = splits.into_iter().zip(self.surveyed);
        pairs
            .flat_map(|(split, survey)| {
                survey.broken.iter().map(move |(index, reason)| (split, *index, reason.as_str()))
            })
            .collect()
    }

    fn copies(&self) -> usize {
        let copies = self.surveyed.iter().flat_map(|survey| &survey.copies);
        copies.map(|same| same.len() - 1).sum()
    }

    fn warn(&self) {
        let broken = self.broken();
        for (split, index, reason) in broken.iter().take(NAMED) {
            say(format_args!("warning: image `{}`: {reason}", split.name(*index)));
        }
        let left_out = if self.division.is_some() {
            "they are left out"
        } else {
            "a run refuses them (`data.max_bad_images`)"
        };
        if broken.len() > NAMED {
            say(format_args!("warning: {} more images cannot be read", broken.len() - NAMED));
        }
        if !broken.is_empty() {
            say(format_args!("warning: images that cannot be read: {}; {left_out}", broken.len()));
        }
        for (split, survey) in [&self.set.train, &self.set.test].into_iter().zip(self.surveyed) {
            for same in survey.copies.iter().take(NAMED) {
                let names: Vec<String> =
                    same.iter().take(4).map(|&index| format!("`{}`", split.name(index))).collect();
                let label = |index: usize| split.labels()[index];
                let is_one_class = same.iter().all(|&index| label(index) == label(same[0]));
                let effect = match (is_one_class, self.division.is_some()) {
                    (true, true) => "the same content; the first one is used",
                    (true, false) => "the same content",
                    (false, true) => "the same content under different labels; left out",
                    (false, false) => "the same content under different labels",
                };
                say(format_args!("warning: {} have {effect}", names.join(", ")));
            }
        }
        if let Some(single) =
            self.division.map(|division| &division.single).filter(|single| !single.is_empty())
        {
            let names: Vec<String> = single
                .iter()
                .take(NAMED)
                .map(|&class| format!("`{}`", self.set.class_names[class as usize]))
                .collect();
            say(format_args!(
                "warning: classes with one picture, which trains, so that they are not tested: {}: {}",
                single.len(),
                names.join(", ")
            ));
        }
    }

    fn text(&self) -> String {
        let (train, test) = self.halves();
        let classes = self.set.class_names.len();
        let mut text = format!(
            "{} with {} images of {classes} classes: {train} train, {test} test\n\n",
            self.found.what,
            self.set.train.len() + self.set.test.len(),
        );
        let sizes = self.sizes();
        if classes <= MOST_ROWS {
            self.by_class(&mut text, &sizes);
        } else {
            by_size(&mut text, &sizes);
        }
        let [many, medium, few] = self.groups();
        let ShotLimits { from, to } = self.limits;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "\nmany (more than {to} training images) {many}, medium {medium}, few (fewer than {from}) {few} classes"
        );
        if let Some(limits) = thirds(&sizes).filter(|_| many == 0 || medium == 0 || few == 0) {
            let _ = writeln!(
                text,
                "a group is empty; `--groups {},{}` makes groups of a third of the classes each",
                limits.0, limits.1
            );
        }
        let _ = writeln!(
            text,
            "{} unreadable, {} copies\n\nwrote {}\n  lift-trainer train -d {} -m MODEL --set model.weights=FILE\n`lift-trainer list models` prints the models",
            self.broken().len(),
            self.copies(),
            self.preset.display(),
            shell(self.preset)
        );
        text
    }

    fn by_class(&self, text: &mut String, sizes: &[u64]) {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|&class| (std::cmp::Reverse(sizes[class]), class));
        let most = sizes.iter().max().copied().unwrap_or(0);
        for class in order {
            let name = shortened(&escaped_line(&self.set.class_names[class]));
            let _ = writeln!(text, "{name:<NAME$} {:>6}  {}", sizes[class], bar(sizes[class], most));
        }
    }

    fn json(&self) -> serde_json::Value {
        let (train, test) = self.halves();
        let [many, medium, few] = self.groups();
        let broken: Vec<_> = self
            .broken()
            .iter()
            .map(|(split, index, reason)| json!({"image": split.name(*index), "reason": reason}))
            .collect();
        let named = |split: &Split, survey: &Survey| -> Vec<Vec<String>> {
            survey.copies.iter().map(|same| same.iter().map(|&index| split.name(index)).collect()).collect()
        };
        let [of_train, of_test] = self.surveyed;
        let copies = [named(&self.set.train, of_train), named(&self.set.test, of_test)].concat();
        let single = self.division.map(|division| division.single.clone()).unwrap_or_default();
        let findings: Vec<String> = self.set.findings.iter().map(ToString::to_string).collect();
        json!({
            "preset": self.preset,
            "layout": self.found.what,
            "classes": self.set.class_names,
            "train_images": train,
            "test_images": test,
            "class_sizes": self.sizes(),
            "groups": {"many": many, "medium": medium, "few": few},
            "unreadable": broken,
            "copies": copies,
            "single_picture_classes": single,
            "findings": findings,
        })
    }
}

/// Classes by their size, in steps of a factor of two.
fn by_size(text: &mut String, sizes: &[u64]) {
    let step = |size: u64| size.checked_ilog2().map_or(0, |step| step as usize + 1);
    let mut steps = vec![0; 1 + sizes.iter().map(|&size| step(size)).max().unwrap_or(0)];
    for &size in sizes {
        steps[step(size)] += 1;
    }
    let most = steps.iter().max().copied().unwrap_or(0);
    for (step, &count) in steps.iter().enumerate().rev() {
        let range = match step {
            0 => "0 images".to_owned(),
            1 => "1 image".to_owned(),
            step => format!("{} to {} images", 1u64 << (step - 1), (1u64 << step) - 1),
        };
        if step > 0 || count > 0 {
            let _ = writeln!(text, "{range:<NAME$} {count:>6} classes  {}", bar(count, most));
        }
    }
}

fn bar(size: u64, most: u64) -> String {
    let len = if size == 0 { 0 } else { (size * BAR / most.max(1)).max(1) };
    "#".repeat(len as usize)
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some(_) => format!("{}...", name.chars().take(NAME - 3).collect::<String>()),
        None => name.to_owned(),
    }
}

/// The sizes between which the middle third of the classes lies.
fn thirds(sizes: &[u64]) -> Option<(u64, u64)> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let at = |part: usize| sorted.get((part * sorted.len() / 3).checked_sub(1)?).copied();
    let (from, to) = (at(1)? + 1, at(2)?);
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(
            (bar(0, 10), bar(1, 1000).len(), bar(5, 10).len(), bar(10, 10).len()),
            (String::new(), 1, 20, 40)
        );
        assert_eq!(thirds(&[9, 1, 5, 3, 7, 2]), Some((3, 5)));
        assert_eq!(thirds(&[4, 4, 4]), None);
        assert_eq!(thirds(&[4]), None);
        let mut text = String::new();
        by_size(&mut text, &[1, 2, 3, 9, 0]);
        let rows: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(rows.len(), 5, "{text}");
        assert!(rows[0].starts_with("8 to 15 images") && rows[4].starts_with("0 images"), "{text}");
    }
}

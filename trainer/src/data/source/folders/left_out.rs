//! Files in class folders that are not used for training or testing, counted by reason and class.

use crate::data::source::finding::{Finding, Severity, counted, first_few};
use std::collections::BTreeMap;
use std::path::Path;

/// Why a file or folder is not used, or is used in a way that may surprise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOutReason {
    /// An image of a format that is not decoded.
    OtherFormat(&'static str),
    /// An image beside the class folders.
    NoClass,
    /// A file without an image extension whose content cannot be inspected.
    Unreadable,
    /// A named pipe or a device.
    NotAFile,
    /// A link to a folder that contains it.
    Loop,
    /// A file that is not an image.
    NoImage,
    /// A folder that an operating system or a program created.
    Litter,
    /// A file or folder whose name begins with a dot.
    Hidden,
    /// An image within a folder of the class folder. It is used.
    Subfolder,
}

impl LeftOutReason {
    fn weight(self) -> Severity {
        match self {
            Self::NoImage | Self::Litter | Self::Hidden | Self::Subfolder => Severity::Note,
            _ => Severity::Warning,
        }
    }

    /// The count, and what is done with the files.
    fn described(self, count: usize) -> String {
        match self {
            Self::OtherFormat(format) => {
                let images = counted(count, &format!("{format} image"));
                format!("{images} left out because the format is not decoded (convert to JPEG or PNG)")
            }
            Self::NoClass => format!("{} left out, in no class folder", counted(count, "image")),
            Self::Unreadable => format!("{} left out, not readable", counted(count, "file")),
            Self::NotAFile => format!("{count} left out, neither file nor folder"),
            Self::Loop => format!("{} left out, leading back to a folder above", counted(count, "link")),
            Self::NoImage => format!("{} left out, without an image in it", counted(count, "file")),
            Self::Litter => {
                format!("{} left out, made by a system beside people's files", counted(count, "folder"))
            }
            Self::Hidden => format!("{count} left out, with a hidden name"),
            Self::Subfolder => {
                format!("{} taken from folders within the class folders", counted(count, "image"))
            }
        }
    }
}

/// Counts by reason and class; `None` is beside the class folders.
#[derive(Debug, Default)]
pub(super) struct LeftOut(BTreeMap<LeftOutReason, BTreeMap<Option<usize>, LeftOutCount>>);

/// How many there are, and the first in byte order.
#[derive(Debug)]
struct LeftOutCount {
    count: usize,
    first: String,
}

impl LeftOut {
    pub(super) fn add(&mut self, label: Option<usize>, reason: LeftOutReason, path: &str) {
        self.add_counted(label, reason, LeftOutCount { count: 1, first: path.to_owned() });
    }

    fn add_counted(&mut self, label: Option<usize>, reason: LeftOutReason, more: LeftOutCount) {
        let classes = self.0.entry(reason).or_default();
        let counted =
            classes.entry(label).or_insert_with(|| LeftOutCount { count: 0, first: more.first.clone() });
        counted.count += more.count;
        if more.first < counted.first {
            counted.first = more.first;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (reason, classes) in other.0 {
            for (label, counted) in classes {
                self.add_counted(label, reason, counted);
            }
        }
    }

    /// A sentence for each reason.
    pub(super) fn findings(&self, root: &Path, classes: &[String]) -> Vec<Finding> {
        let class = |label: Option<usize>| label.and_then(|label| classes.get(label));
        let of_reason = |(reason, counts): (&LeftOutReason, &BTreeMap<Option<usize>, LeftOutCount>)| {
            let what = reason.described(counts.values().map(|counted| counted.count).sum());
            let by_class = counts.iter().map(|(&label, counted)| match class(label) {
                Some(class) => format!("{} of class `{class}` (`{}`)", counted.count, counted.first),
                None => format!("{} beside the class folders (`{}`)", counted.count, counted.first),
            });
            let text = format!("`{}`: {what}: {}", root.display(), first_few(by_class));
            Finding { weight: reason.weight(), text }
        };
        self.0.iter().map(of_reason).collect()
    }
}

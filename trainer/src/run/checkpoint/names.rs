//! Names in the folder of checkpoints: the checkpoints, and the leftovers of a writer that died.

use protocol::layout;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// File that records the best checkpoint, for users and other programs.
pub(super) const BEST: &str = "best.json";

/// Meaning of a hidden name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftoverKind {
    /// Being written.
    Temporary,
    /// A complete one that is about to be replaced by another of the same step.
    Replaced,
    /// Being removed.
    Removed,
}

/// A hidden file or folder of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leftover {
    /// The name it had or was to get.
    pub(super) of: String,
    pub(super) kind: LeftoverKind,
    pid: u32,
}

/// The step of a checkpoint's folder, if `name` is exactly the name of a step.
pub(super) fn step_of(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let step = name.parse().ok()?;
    (layout::checkpoint(step) == name).then_some(step)
}

/// The hidden path next to `folder/of`.
pub(super) fn beside(folder: &Path, of: &str, kind: LeftoverKind) -> PathBuf {
    folder.join(format!(".{of}.{}-{}", word(kind), std::process::id()))
}

impl Leftover {
    pub(super) fn of_name(name: &OsStr) -> Option<Self> {
        let (rest, pid) = name.to_str()?.strip_prefix('.')?.rsplit_once('-')?;
        let (of, word_found) = rest.rsplit_once('.')?;
        let kind = [LeftoverKind::Temporary, LeftoverKind::Replaced, LeftoverKind::Removed]
            .into_iter()
            .find(|kind| word(*kind) == word_found)?;
        let ours = of == BEST || step_of(OsStr::new(of)).is_some();
        ours.then_some(Self { of: of.to_owned(), kind, pid: pid.parse().ok()? })
    }

    /// Whether another process of this program with that PID runs on this machine. The lock of the run folder already
    /// excludes other writers; this protects a folder that is used without the lock.
    pub(super) fn is_in_use(&self) -> bool {
        let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
        self.pid != std::process::id()
            && program(&self.pid.to_string()).is_some_and(|it| Some(it) == program("self"))
    }
}

fn word(kind: LeftoverKind) -> &'static str {
    match kind {
        LeftoverKind::Temporary => "tmp",
        LeftoverKind::Replaced => "old",
        LeftoverKind::Removed => "del",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_of_a_step_is_a_checkpoint() {
        assert_eq!(step_of(OsStr::new("00000420")), Some(420));
        assert_eq!(step_of(OsStr::new("123456789")), Some(123_456_789));
        for other in ["420", "+0000420", "000000420", "0000042a", "best.json", ".00000420.tmp-7", ""] {
            assert_eq!(step_of(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn hidden_names_are_recognised_and_no_others() {
        for kind in [LeftoverKind::Temporary, LeftoverKind::Replaced, LeftoverKind::Removed] {
            let path = beside(Path::new("runs"), "00000420", kind);
            let leftover = Leftover::of_name(path.file_name().unwrap()).unwrap();
            assert_eq!(leftover, Leftover { of: "00000420".into(), kind, pid: std::process::id() });
            assert!(!leftover.is_in_use());
        }
        for other in
            ["00000420", ".00000420.tmp-x", ".420.tmp-7", ".nfs0001", ".mine.tmp-7", ".00000420.bak-7"]
        {
            assert_eq!(Leftover::of_name(OsStr::new(other)), None, "{other}");
        }
    }
}

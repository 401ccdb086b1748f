//! The trainer: whether it loads, and what it reports of its libraries.

use super::child::{Answer, ChildEnd, ask};
use crate::run::{StartError, trainer};
use protocol::probe::{PROBE, TrainerReport};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time for the report. libtorch's CUDA part alone takes seconds to load from a cold disk.
const LIMIT: Duration = Duration::from_secs(4);
/// Time to list the libraries of a program that does not load.
const LIST_LIMIT: Duration = Duration::from_millis(400);

/// The trainer and its report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrainerFacts {
    /// Its path.
    pub path: Option<PathBuf>,
    /// Why there is none.
    pub absent: Option<String>,
    /// Libraries that the loader does not find.
    pub missing_libraries: Vec<String>,
    /// How its probe failed.
    pub failure: Option<String>,
    /// Exit code of its probe.
    pub exit_code: Option<i32>,
    /// Whether its probe did not end in time.
    pub timed_out: bool,
    /// Its report, as far as it got.
    #[serde(flatten)]
    pub report: TrainerReport,
}

pub(super) fn look() -> TrainerFacts {
    let path = match trainer() {
        Ok(path) => path,
        Err(error) => return absent(&error),
    };
    let answer = ask(Command::new(&path).arg(PROBE), LIMIT);
    let loads = answer.is_success() || !answer.stdout.is_empty();
    TrainerFacts {
        missing_libraries: if loads { Vec::new() } else { missing_libraries(&path, &answer) },
        failure: answer.failure(),
        exit_code: if let ChildEnd::Exited(code) = answer.end { Some(code) } else { None },
        timed_out: matches!(answer.end, ChildEnd::TimedOut(_)),
        report: answer.facts(),
        path: Some(path),
        absent: None,
    }
}

fn absent(error: &StartError) -> TrainerFacts {
    let reason = match error {
        StartError::NoTrainer(path) => format!("`{}` does not exist or is not a program", path.display()),
        other => other.to_string(),
    };
    TrainerFacts { absent: Some(reason), ..TrainerFacts::default() }
}

/// The loader's message names the first missing library only, so it is asked to list all of them.
fn missing_libraries(path: &Path, answer: &Answer) -> Vec<String> {
    if !answer.stderr.contains("error while loading shared libraries") {
        return Vec::new();
    }
    let listed = ask(Command::new(path).arg(PROBE).env("LD_TRACE_LOADED_OBJECTS", "1"), LIST_LIMIT);
    let mut missing = not_found(&listed.stdout);
    if missing.is_empty() {
        missing.extend(named_by_loader(&answer.stderr));
    }
    missing
}

/// Lines of `libmpi.so.40 => not found`.
fn not_found(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.trim().strip_suffix("=> not found"));
    names.map(|name| name.trim().to_owned()).collect()
}

/// `lift-trainer: error while loading shared libraries: libmpi.so.40: cannot open shared object file: ...`
fn named_by_loader(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("error while loading shared libraries: ")?;
    Some(rest.split(':').next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_libraries_are_listed() {
        let list = "\tlinux-vdso.so.1 (0x1)\n\tlibmpi.so.40 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\tlibc10.so => not found\n";
        assert_eq!(not_found(list), ["libmpi.so.40", "libc10.so"]);
        let message = "x: error while loading shared libraries: libmpi.so.40: cannot open shared object file: No such file or directory\n";
        assert_eq!(named_by_loader(message).as_deref(), Some("libmpi.so.40"));
    }
}

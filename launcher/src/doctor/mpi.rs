//! MPI: the `mpirun` that `lift run` would start, and which implementation and version it is.

use super::child::ask;
use crate::run::{is_program, mpirun, on_path};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time for each question.
const LIMIT: Duration = Duration::from_millis(1500);

/// An implementation of MPI with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MpiIdentity {
    /// Such as `Open MPI`.
    pub implementation: String,
    /// Such as `4.1.4`; empty if it is unknown.
    pub version: String,
}

/// The `mpirun` that `lift run` would start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MpiFacts {
    /// Its path.
    pub mpirun: Option<PathBuf>,
    /// Implementation and version that it reports.
    pub identity: Option<MpiIdentity>,
    /// Why it does not report them.
    pub failure: Option<String>,
    /// Whether it was built with `PMIx`, which lets `srun` start its ranks.
    pub pmix: Option<bool>,
}

pub(super) fn look() -> MpiFacts {
    let Some(mpirun) = path() else { return MpiFacts::default() };
    let answer = ask(Command::new(&mpirun).arg("--version"), LIMIT);
    let identity = identify(&answer.stdout).or_else(|| identify(&answer.stderr));
    let failure = answer.failure().filter(|_| identity.is_none());
    let pmix = identity.as_ref().and_then(|identity| pmix(identity, &mpirun));
    MpiFacts { mpirun: Some(mpirun), identity, failure, pmix }
}

/// The `mpirun` beside the programs, or the one on PATH.
fn path() -> Option<PathBuf> {
    let program = mpirun();
    if program.is_absolute() { is_program(&program).then_some(program) } else { on_path("mpirun") }
}

/// Finds implementation and version in the output of `mpirun --version` or in the text of a library.
pub(super) fn identify(text: &str) -> Option<MpiIdentity> {
    const NAMES: [(&str, &str); 6] = [
        ("Open MPI", "Open MPI"),
        ("Intel(R) MPI", "Intel MPI"),
        ("MVAPICH", "MVAPICH"),
        ("CRAY MPICH", "Cray MPICH"),
        // The launcher of MPICH; the options that it was built with may contain the name MPICH.
        ("HYDRA", "MPICH"),
        ("MPICH", "MPICH"),
    ];
    let (at, name, implementation) = NAMES
        .into_iter()
        .find_map(|(name, implementation)| Some((text.find(name)?, name, implementation)))?;
    let words =
        text[at + name.len()..].split(|letter: char| letter.is_whitespace() || "(),".contains(letter));
    let numbers = words.map(|word| word.strip_prefix('v').unwrap_or(word));
    let is_version =
        |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.');
    let version = numbers.filter(is_version).map(str::to_owned).next().unwrap_or_default();
    Some(MpiIdentity { implementation: implementation.to_owned(), version })
}

/// Open MPI always has `PMIx` from version 5 on, and lists it among its components before that.
fn pmix(identity: &MpiIdentity, mpirun: &Path) -> Option<bool> {
    if identity.implementation != "Open MPI" {
        return None;
    }
    let major: u32 = identity.version.split('.').next()?.parse().ok()?;
    if major >= 5 {
        return Some(true);
    }
    let answer = ask(Command::new(mpirun.with_file_name("ompi_info")).arg("--parsable"), LIMIT);
    answer.is_success().then(|| lists_pmix(&answer.stdout))
}

/// `mca:pmix:pmix3x:...` is built in, `mca:pmix:ext3x:...` uses an installed library.
fn lists_pmix(list: &str) -> bool {
    let components = list.lines().filter_map(|line| line.strip_prefix("mca:pmix:")?.split(':').next());
    components.into_iter().any(|name| name.starts_with("pmix") || name.starts_with("ext"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_and_libraries_are_identified() {
        for (text, implementation, version) in [
            ("mpirun (Open MPI) 4.1.4\n\nReport bugs to ...", "Open MPI", "4.1.4"),
            ("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4", "Open MPI", "4.1.4"),
            ("mpirun (Open MPI) 5.0.10rc1", "Open MPI", "5.0.10rc1"),
            (
                "HYDRA build details:\n  Version:     4.0.2\n  Configure options: 'MPICHLIB_CFLAGS=-O2'\n",
                "MPICH",
                "4.0.2",
            ),
            ("MPICH Version:      4.0.2\nMPICH Release date: Thu Apr  7", "MPICH", "4.0.2"),
            ("Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005", "Intel MPI", "2021.11"),
            ("MVAPICH2 Version      :       2.3.7", "MVAPICH", "2.3.7"),
            ("MPI VERSION    : CRAY MPICH version 8.1.27.26 (ANL base 3.4a2)", "Cray MPICH", "8.1.27.26"),
            ("Open MPI", "Open MPI", ""),
        ] {
            let found = identify(text).unwrap();
            assert_eq!((found.implementation.as_str(), found.version.as_str()), (implementation, version));
        }
        assert_eq!(identify("mpirun: command not found"), None);
    }

    #[test]
    fn components_of_pmix_are_known() {
        assert!(lists_pmix("mca:plm:slurm:version:x\nmca:pmix:ext3x:version:\"mca:2.1.0\"\n"));
        assert!(lists_pmix("mca:pmix:pmix3x:version:\"mca:2.1.0\"\n"));
        assert!(!lists_pmix("mca:pmix:isolated:version:\"mca:2.1.0\"\nmca:pmix:flux:version:x\n"));
    }
}

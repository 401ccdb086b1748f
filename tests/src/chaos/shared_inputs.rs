//! Shared by all cases: programs, images and the results of undisturbed runs.

use super::compare::Expected;
use super::disk::SmallDisk;
use super::fault::SupportedFaults;
use super::job::{JobDeterminism, JobStart, Launcher, Waited};
use crate::stripes::{CLASSES, StripedDataSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Timeout of a start, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(150);

/// `distributed.timeout_seconds` of starts in which no rank is stopped.
pub const LONG_TIMEOUT: u64 = 60;

/// Training images of each class, and test images per class.
const IMAGES: ([usize; CLASSES], usize) = ([30, 20, 14, 10, 8, 6, 5, 3], 5);

/// The data that all cases share.
#[derive(Debug)]
pub struct SharedInputs {
    /// Root folder of all cases.
    pub folder: PathBuf,
    /// The trainer.
    pub program: PathBuf,
    /// The trainer with injected faults.
    pub faulty: Option<PathBuf>,
    /// A bug that every disturbed run contains.
    pub planted: Option<String>,
    /// The supported kinds of faults.
    pub supported: SupportedFaults,
    /// The images.
    pub data: StripedDataSet,
    any_world: Expected,
    two_ranks: Expected,
}

impl SharedInputs {
    /// Writes the images and runs the undisturbed runs.
    pub fn open(folder: &Path, planted: Option<String>) -> io::Result<Self> {
        let faulty = Some(crate::build_file("lift-trainer-faults")).filter(|path| path.exists());
        if planted.is_some() && faulty.is_none() {
            return Err(io::Error::other("a planted bug needs lift-trainer-faults; `make chaos` builds it"));
        }
        let mounts = match SmallDisk::mount(&folder.join("trial")) {
            Ok(disk) => {
                drop(disk);
                true
            }
            Err(error) => {
                eprintln!("skipped: chaos on full disks ({error})");
                false
            }
        };
        if faulty.is_none() {
            eprintln!("skipped: chaos in checkpoint calls (no lift-trainer-faults; `make chaos` builds it)");
        }
        let program = match (&planted, &faulty) {
            (Some(_), Some(faulty)) => faulty.clone(),
            _ => crate::binary("lift-trainer"),
        };
        let data = StripedDataSet::write(&folder.join("images"), IMAGES.0, IMAGES.1)?;
        let any_world = undisturbed(folder, &program, &data, JobDeterminism::AnyWorld)?;
        let two_ranks = undisturbed(folder, &program, &data, JobDeterminism::TwoRanks)?;
        let supported = SupportedFaults { mounts, calls: faulty.is_some() && planted.is_none() };
        Ok(Self {
            folder: folder.to_path_buf(),
            program,
            faulty,
            planted,
            supported,
            data,
            any_world,
            two_ranks,
        })
    }

    /// The expected result of a run.
    pub fn expected(&self, determinism: JobDeterminism) -> &Expected {
        match determinism {
            JobDeterminism::AnyWorld => &self.any_world,
            JobDeterminism::TwoRanks => &self.two_ranks,
        }
    }
}

fn undisturbed(
    folder: &Path,
    program: &Path,
    data: &StripedDataSet,
    determinism: JobDeterminism,
) -> io::Result<Expected> {
    let (ranks, name) = match determinism {
        JobDeterminism::AnyWorld => (1, "undisturbed-any"),
        JobDeterminism::TwoRanks => (2, "undisturbed-two"),
    };
    let scratch = folder.join(name);
    fs::create_dir_all(&scratch)?;
    let run = scratch.join("run");
    let start = JobStart {
        program,
        run: &run,
        scratch: &scratch,
        data,
        determinism,
        ranks,
        launcher: if ranks == 1 { Launcher::Nobody } else { Launcher::Mpirun },
        newest: None,
        timeout: LONG_TIMEOUT,
        environment: Vec::new(),
        number: 0,
    };
    let mut job = start.spawn()?;
    let waited = job.wait(TIMEOUT);
    let succeeded = job.exit().is_some_and(|exit| exit.success());
    if !matches!(waited, Waited::Ended(_)) || !succeeded {
        let problem = format!("the undisturbed run failed ({waited:?}, {:?}): {}", job.exit(), job.output());
        return Err(io::Error::other(problem));
    }
    Expected::of(&run).map_err(io::Error::other)
}

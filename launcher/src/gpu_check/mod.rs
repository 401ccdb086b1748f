//! `lift gpu-check`: checks the programs on this machine, with its GPU if there is one.
//!
//! The checks are a Python package (`scripts/gpu_check`), because they compare with PyTorch. It is a part of this program,
//! so that it is there wherever `lift` is.

mod python;
mod sources;

use crate::run::{StartError, trainer};
use protocol::{NowhereError, Outcome, current_folder};
use python::NoPython;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest time that makes sense.
const MOST_MINUTES: f64 = 24.0 * 60.0;

/// Options of `lift gpu-check`.
#[derive(Debug, Clone, clap::Args)]
pub struct GpuCheckOptions {
    /// Parts to run; the first word of a name stands for all parts that begin with it, e.g. speed [default: all]
    #[arg(long, value_name = "PART", num_args = 1..)]
    pub only: Vec<String>,
    /// Minutes for all parts; parts for which no time is left are skipped
    #[arg(long, value_name = "N", default_value = "8", value_parser = minutes)]
    pub minutes: f64,
    /// New folder for the table, the JSON file and the logs [default: runs/gpu-check-TIME]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Where to compute; `auto` uses the GPU if there is one
    #[arg(long, value_enum, default_value_t)]
    pub device: CheckedDevice,
    /// Print the results as JSON to stdout
    #[arg(long)]
    pub json: bool,
}

/// The device to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckedDevice {
    /// A GPU if there is one
    #[default]
    Auto,
    /// A GPU
    Cuda,
    /// The CPU, at small sizes
    Cpu,
}

impl fmt::Display for CheckedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        })
    }
}

/// Why the check cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GpuCheckError {
    /// No Python with PyTorch.
    #[error(transparent)]
    Python(#[from] NoPython),
    /// The trainer does not exist.
    #[error(transparent)]
    Trainer(#[from] StartError),
    /// The current folder does not exist.
    #[error(transparent)]
    Nowhere(#[from] NowhereError),
    /// The output folder has files in it.
    #[error("the folder `{}` is not empty\nhint: name a new one with --output", .0.display())]
    NotEmpty(PathBuf),
    /// A file or folder of the output cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Python was found but cannot be started.
    #[error("cannot start `{}`: {source}", python.display())]
    Start {
        /// The program.
        python: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl GpuCheckError {
    /// The outcome of the command.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Output { .. } | Self::Start { .. } => Outcome::Failed,
            Self::Python(_) | Self::Trainer(_) | Self::Nowhere(_) | Self::NotEmpty(_) => Outcome::WrongInput,
        }
    }
}

/// Replaces this process by the checks; returns only if they cannot start.
pub fn run(options: &GpuCheckOptions) -> Result<Outcome, GpuCheckError> {
    let trainer = trainer()?;
    let lift = std::env::current_exe().map_err(StartError::Watch)?;
    let python = python::find(&lift)?;
    let output = current_folder()?.join(options.output.clone().unwrap_or_else(new_folder));
    let code = output.join("code");
    refuse_files_in(&output)?;
    sources::write(&code)?;
    let mut command = Command::new(&python);
    command.args(["-m", sources::PACKAGE]).args(arguments(options, &lift, &trainer, &output));
    command.env("PYTHONPATH", search_path(&code)).env("PYTHONDONTWRITEBYTECODE", "1");
    // Files in the current folder must not take the place of modules.
    command.env("PYTHONSAFEPATH", "1");
    Err(GpuCheckError::Start { python, source: command.exec() })
}

fn arguments(options: &GpuCheckOptions, lift: &Path, trainer: &Path, output: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for (flag, path) in [("--lift", lift), ("--trainer", trainer), ("--output", output)] {
        words.extend([flag.into(), path.into()]);
    }
    for (flag, value) in
        [("--minutes", options.minutes.to_string()), ("--device", options.device.to_string())]
    {
        words.extend([flag.into(), value.into()]);
    }
    if options.json {
        words.push("--json".into());
    }
    if !options.only.is_empty() {
        words.push("--only".into());
        words.extend(options.only.iter().map(OsString::from));
    }
    words
}

fn minutes(text: &str) -> Result<f64, String> {
    let expected = || format!("expected minutes, e.g. 8 or 0.5, and at most {MOST_MINUTES}");
    let number: f64 = text.parse().map_err(|_| expected())?;
    if number > 0.0 && number <= MOST_MINUTES { Ok(number) } else { Err(expected()) }
}

fn new_folder() -> PathBuf {
    let time = protocol::Timestamp::now().to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    PathBuf::from(format!("runs/gpu-check-{digits}"))
}

/// A folder that exists must be empty, so that old results are not taken for new ones.
fn refuse_files_in(folder: &Path) -> Result<(), GpuCheckError> {
    let mut entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| GpuCheckError::Output { path: folder.to_owned(), source })?,
    };
    if entries.next().is_some() { Err(GpuCheckError::NotEmpty(folder.to_owned())) } else { Ok(()) }
}

/// The package first, then the folders of the user.
fn search_path(code: &Path) -> OsString {
    let mut path = code.as_os_str().to_owned();
    if let Some(own) = std::env::var_os("PYTHONPATH").filter(|own| !own.is_empty()) {
        path.push(":");
        path.push(own);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_package_as_they_were_given() {
        let options = GpuCheckOptions {
            only: vec!["speed".into(), "nccl".into()],
            minutes: 0.5,
            output: None,
            device: CheckedDevice::Cpu,
            json: true,
        };
        let words =
            arguments(&options, Path::new("/bin/lift"), Path::new("/bin/lift-trainer"), Path::new("/out"));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join(" "),
            "--lift /bin/lift --trainer /bin/lift-trainer --output /out --minutes 0.5 --device cpu --json \
             --only speed nccl"
        );
    }

    #[test]
    fn minutes_are_positive_and_fit_in_a_day() {
        assert_eq!((minutes("8"), minutes("0.5")), (Ok(8.0), Ok(0.5)));
        for wrong in ["0", "-1", "nan", "inf", "1441", "soon"] {
            assert!(minutes(wrong).unwrap_err().starts_with("expected minutes"), "{wrong}");
        }
    }

    #[test]
    fn a_folder_with_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_files_in(folder.path()).is_ok());
        assert!(refuse_files_in(&folder.path().join("new")).is_ok());
        fs::write(folder.path().join("file"), "").unwrap();
        let error = refuse_files_in(folder.path()).unwrap_err();
        let expected = "is not empty\nhint: name a new one with --output";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(error.outcome(), Outcome::WrongInput);
    }
}

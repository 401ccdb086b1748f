//! The probes that `lift` makes in a process of its own, because they may hang: `lift probe ...`, which is hidden.

use super::{folder, gpus};
use protocol::terminal::{OutputError, print_json};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// A probe in a process of its own; it prints its facts as lines of JSON.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ProbeCommand {
    /// Ask the driver for its GPUs
    Gpus,
    /// Measure a folder or a file
    Folder {
        /// The path
        path: PathBuf,
        /// How it is used
        #[arg(long, value_enum)]
        usage: folder::FolderUsage,
    },
}

impl ProbeCommand {
    /// The command that makes this probe.
    pub(super) fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("probe").args(self.arguments());
        Ok(command)
    }

    fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Gpus => vec!["gpus".into()],
            Self::Folder { path, usage } => {
                vec!["folder".into(), "--usage".into(), usage.word().into(), "--".into(), path.into()]
            }
        }
    }
}

/// Makes a probe and prints its facts as they are found.
pub fn probe(command: &ProbeCommand) -> Result<(), OutputError> {
    let mut failed = None;
    let mut tell = |fact: serde_json::Value| {
        if failed.is_none() {
            failed = print_json(&format!("{fact}\n")).err();
        }
    };
    match command {
        ProbeCommand::Gpus => gpus::probe(&mut tell),
        ProbeCommand::Folder { path, usage } => folder::probe(path, *usage, &mut tell),
    }
    failed.map_or(Ok(()), Err)
}

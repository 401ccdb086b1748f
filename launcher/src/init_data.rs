//! `lift init-data`: hands over to the trainer, which decodes the pictures.

use crate::run::{StartError, trainer};
use protocol::Outcome;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes `lift-trainer init-data`; returns only if that cannot be started.
pub fn run(arguments: &[OsString]) -> Result<Outcome, StartError> {
    let program = trainer()?;
    let source = Command::new(&program).arg("init-data").args(arguments).exec();
    Err(StartError::Trainer { program: program.display().to_string(), source })
}

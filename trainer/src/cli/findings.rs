//! Reports the findings of a data set, for commands that do not run over ranks.

use crate::data::source::{Finding, Severity};
use protocol::command_line::OutputArguments;
use std::io::{Write, stderr};

/// Writes findings to standard error, because standard output is for the command's result.
pub(super) fn tell(findings: &[Finding], talk: OutputArguments) {
    let mut out = stderr().lock();
    for finding in findings.iter().filter(|finding| !talk.quiet || finding.weight == Severity::Warning) {
        // If standard error is closed, there is nowhere to report it.
        let _ = writeln!(out, "{finding}");
    }
}

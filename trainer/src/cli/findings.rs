//! Reports the findings of a data set, for commands that do not run over ranks.

use crate::data::source::{Finding, Severity};
use protocol::command_line::OutputArguments;
use std::io::{Write, stderr};

/// Writes findings to standard error, because standard output is for the command's result.
pub(super) fn print(findings: &[Finding], output_arguments: OutputArguments) {
    let mut out = stderr().lock();
    for finding in
        findings.iter().filter(|finding| !output_arguments.quiet || finding.weight == Severity::Warning)
    {
        // If standard error is closed, there is nowhere to report it.
        let _ = writeln!(out, "{finding}");
    }
}

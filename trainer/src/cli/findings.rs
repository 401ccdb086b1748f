//! What commands without ranks say about a data set.

use crate::data::source::{Finding, Severity};
use protocol::command_line::OutputArguments;
use std::io::{Write, stderr};

/// Writes findings to standard error, so that the output of a command stays what it is.
pub(super) fn tell(findings: &[Finding], talk: OutputArguments) {
    let mut out = stderr().lock();
    for finding in findings.iter().filter(|finding| !talk.quiet || finding.weight == Severity::Warning) {
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(out, "{finding}");
    }
}

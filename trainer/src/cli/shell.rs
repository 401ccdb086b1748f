//! `lift-trainer completions` and `lift-trainer man`.

use super::arguments::Arguments;
use crate::engine::failure::Failure;
use clap::CommandFactory;
use protocol::shell::{self, CompletionOptions, ManOptions};
use protocol::terminal;

/// Prints the script for a shell.
pub(super) fn print_completions(options: CompletionOptions) -> Result<(), Failure> {
    let script = shell::completions(Arguments::command(), options.shell);
    terminal::print_as_is(script).map(drop).map_err(Failure::run)
}

/// Writes a page for each command.
pub(super) fn write_man_pages(options: &ManOptions) -> Result<(), Failure> {
    let written = shell::write_man_pages(Arguments::command(), &options.folder);
    written.map_err(|(path, error)| {
        Failure::run(format!("cannot write man pages to `{}`: {error}", path.display()))
    })
}

//! What a shell and `man` know about a program, from its command line.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};

/// Options of the command `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionOptions {
    /// Shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Options of the command `man`.
#[derive(Clone, Debug, Args)]
pub struct ManOptions {
    /// Folder for the pages, `man1` of a folder in MANPATH; it is created
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// The examples of `completions` for a program.
pub fn completion_examples(program: &str) -> String {
    format!(
        "Examples:\n  {program} completions bash > ~/.local/share/bash-completion/completions/{program}\n  {program} completions \
         zsh > ~/.zfunc/_{program}          with `fpath+=~/.zfunc` before compinit\n  {program} completions fish > \
         ~/.config/fish/completions/{program}.fish"
    )
}

/// The script with which a shell completes the words of a program.
pub fn completions(mut program: Command, shell: Shell) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    script
}

/// Writes a page for the program and one for each of its commands into `folder`. An error has the path that cannot be
/// written.
pub fn write_man_pages(program: Command, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    std::fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
    clap_mangen::generate_to(program, folder).map_err(|error| (folder.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ValueEnum};

    fn program() -> Command {
        Command::new("prog").subcommand(Command::new("sub").about("Does it").arg(Arg::new("x").long("exact")))
    }

    #[test]
    fn every_shell_gets_the_words_of_the_program() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(program(), *shell)).unwrap();
            assert!(script.contains("sub") && script.contains("exact"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        write_man_pages(program(), &pages).unwrap();
        let page = std::fs::read_to_string(pages.join("prog-sub.1")).unwrap();
        assert!(page.contains("Does it") && pages.join("prog.1").exists(), "{page}");
        std::fs::write(folder.path().join("file"), "").unwrap();
        let (path, _) = write_man_pages(program(), &folder.path().join("file")).unwrap_err();
        assert!(path.ends_with("file"));
    }
}

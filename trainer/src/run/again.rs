//! The command that resumes a run: the original command line with `--resume auto` and the run folder.

use protocol::arguments::TrainerArguments;
use protocol::environment;
use protocol::terminal::shell_words;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Programs that start ranks and whose arguments end with those of the trainer.
const STARTERS: [&str; 5] = ["mpirun", "mpiexec", "orterun", "prterun", "mpiexec.hydra"];

/// The command that resumes the run in `folder`. None if `lift run` started this process: it prints its own command.
pub fn resume_command(folder: &Path) -> Option<String> {
    if std::env::var_os(environment::LAUNCHER_PID).is_some() {
        return None;
    }
    let own: Vec<OsString> = std::env::args_os().collect();
    Some(shell_words(&command(starter().as_deref().unwrap_or_default(), &own, folder)))
}

/// Combines `starter`, the command line of the parent process, and `own` into the command.
fn command(starter: &[OsString], own: &[OsString], folder: &Path) -> Vec<OsString> {
    let Some((program, typed)) = own.split_first() else { return Vec::new() };
    let mut words = match starter.strip_suffix(own) {
        Some(before) => before.to_vec(),
        None => Vec::new(),
    };
    let mut resumed = TrainerArguments::new(typed.to_vec()).resumed_from_its_folder();
    if resumed.output().is_none() {
        resumed = resumed.with("--output", folder);
    }
    words.push(program.clone());
    words.extend(resumed.list().iter().cloned());
    words
}

/// The command line of the parent process, if it is `mpirun`.
fn starter() -> Option<Vec<OsString>> {
    let line = std::fs::read(format!("/proc/{}/cmdline", nix::unistd::getppid())).ok()?;
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words: Vec<OsString> =
        line.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let name = Path::new(words.first()?).file_name()?;
    STARTERS.iter().any(|starter| name == OsStr::new(starter)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resumed(starter: &str, own: &str) -> String {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        shell_words(&command(&words(starter), &words(own), Path::new("runs/a b")))
    }

    #[test]
    fn what_was_typed_is_kept() {
        assert_eq!(
            resumed("", "lift-trainer train -d x --resume never -o out"),
            "lift-trainer train -d x -o out --resume auto"
        );
        assert_eq!(resumed("", "lift-trainer"), "lift-trainer train --resume auto --output 'runs/a b'");
        assert_eq!(
            resumed("mpirun -n 2 lift-trainer train --resume=old", "lift-trainer train --resume=old"),
            "mpirun -n 2 lift-trainer train --resume auto --output 'runs/a b'"
        );
        // Behind a user's own script, only the trainer's arguments are known.
        assert_eq!(
            resumed("mpirun -n 2 ./mine", "lift-trainer train -o x"),
            "lift-trainer train -o x --resume auto"
        );
    }
}

//! The launcher's view of the trainer's arguments: parsed as the trainer parses them, and passed on as typed.

use crate::command_line::{OutputArguments, TRAIN, TrainArguments, with_verb};
use clap::{Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The arguments of `lift-trainer` as the user typed them, with an explicit sub-command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainerArguments(Vec<OsString>);

/// Arguments that the trainer would refuse, with the trainer's own message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// The trainer's command line, as far as the launcher knows it.
#[derive(Debug, Parser)]
#[command(name = "lift-trainer", version)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    _talk: OutputArguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train and evaluate a model; writes a run folder
    Train(TrainArguments),
    /// What the launcher hands on unread
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl TrainerArguments {
    /// These arguments.
    pub fn new(list: Vec<OsString>) -> Self {
        Self(with_verb(list))
    }

    /// Refuses options of `train` that the trainer would refuse.
    pub fn check(&self) -> Result<(), UsageError> {
        match self.parsed() {
            Err(error) if error.use_stderr() => {
                let text = error.render().to_string();
                Err(UsageError(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// All arguments, in order.
    pub fn list(&self) -> &[OsString] {
        &self.0
    }

    /// The sub-command, if one is named.
    pub fn verb(&self) -> Option<OsString> {
        match self.parsed().ok()?.verb? {
            Verb::Train(_) => Some(TRAIN.into()),
            Verb::Other(words) => words.into_iter().next(),
        }
    }

    /// Whether the command trains: `train`, or no arguments, which trains the embedded demo.
    pub fn train(&self) -> bool {
        matches!(self.parsed(), Ok(Line { verb: None | Some(Verb::Train(_)), .. }))
    }

    /// The run folder from `--output`.
    pub fn output(&self) -> Option<PathBuf> {
        self.training()?.output
    }

    /// The value of `--resume`.
    pub fn resume(&self) -> Option<String> {
        self.training()?.resume
    }

    fn training(&self) -> Option<TrainArguments> {
        match self.parsed().ok()?.verb {
            Some(Verb::Train(train)) => Some(train),
            _ => None,
        }
    }

    fn parsed(&self) -> Result<Line, clap::Error> {
        Line::try_parse_from(
            std::iter::once(OsStr::new("lift-trainer")).chain(self.0.iter().map(AsRef::as_ref)),
        )
    }

    /// Whether the arguments set this configuration key, for any sub-command.
    pub fn sets(&self, key: &str) -> bool {
        let named = |value: &OsStr| {
            value.as_bytes().strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        let joined = |argument: &OsStr| {
            argument.as_bytes().strip_prefix(b"--set=").is_some_and(|rest| named(OsStr::from_bytes(rest)))
        };
        self.0.windows(2).any(|pair| pair[0] == "--set" && named(&pair[1]))
            || self.0.iter().any(|one| joined(one))
    }

    /// These arguments with one more option. Options belong to a sub-command, so an implied `train` is made explicit.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        if self.verb().is_none() {
            self.0.insert(0, TRAIN.into());
        }
        self.0.extend([option.into(), value.into()]);
        self
    }

    /// The arguments of a restart, which resumes the same run. A path after `--resume` stays, because the run may not
    /// have a checkpoint yet: the restarted trainer prefers the newest checkpoint of the run to the path.
    #[must_use]
    pub fn resumed(&self) -> Self {
        let named = self.resume().filter(|from| from != "auto" && from != "never");
        self.without_resume().with("--resume", named.unwrap_or_else(|| "auto".into()))
    }

    /// The arguments with which the user resumes a stopped run from its own folder.
    #[must_use]
    pub fn resumed_from_its_folder(&self) -> Self {
        self.without_resume().with("--resume", "auto")
    }

    fn without_resume(&self) -> Self {
        let mut kept = Vec::new();
        let mut list = self.0.iter();
        while let Some(argument) = list.next() {
            if argument == "--resume" {
                list.next();
            } else if !argument.as_bytes().starts_with(b"--resume=") {
                kept.push(argument.clone());
            }
        }
        Self(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> TrainerArguments {
        TrainerArguments::new(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_run_folder_is_found_however_it_is_spelled() {
        for line in [
            "train --output a/b",
            "train --output=a/b",
            "train -o a/b",
            "train -oa/b -d x",
            "--json train -o=a/b",
        ] {
            assert_eq!(typed(line).output(), Some(PathBuf::from("a/b")), "{line}");
        }
        assert_eq!(typed("train -d demo").output(), None);
    }

    #[test]
    fn nothing_and_train_are_training() {
        for (line, trains) in [
            ("", true),
            ("--json", true),
            ("train -d x", true),
            ("--json eval --run x", false),
            ("--help", false),
            ("train --help", false),
            ("-d x -m y", true),
        ] {
            assert_eq!(typed(line).train(), trains, "{line}");
        }
    }

    #[test]
    fn what_the_trainer_would_refuse_is_refused_in_its_words() {
        let message = typed("train --outptu x").check().unwrap_err().to_string();
        assert!(message.starts_with("unexpected argument '--outptu' found\n"), "{message}");
        assert!(message.contains("'--output'") && message.contains("Usage: lift-trainer train"), "{message}");
        for line in
            ["", "--help", "train --help", "train -d x --set a.b=1 --allow-changed c.d", "eval --any x"]
        {
            assert!(typed(line).check().is_ok(), "{line}");
        }
    }

    #[test]
    fn options_belong_to_a_sub_command() {
        assert_eq!(typed("--json").with("--output", "x"), typed("train --json --output x"));
        assert_eq!(typed("eval").with("--output", "x"), typed("eval --output x"));
    }

    #[test]
    fn a_restart_resumes_the_newest_checkpoint_of_the_run() {
        assert_eq!(typed("").resumed(), typed("train --resume auto"));
        assert_eq!(typed("train -o b").resumed(), typed("train -o b --resume auto"));
        assert_eq!(typed("train --resume=auto").resumed(), typed("train --resume auto"));
        assert_eq!(typed("train --resume never -o b").resumed(), typed("train -o b --resume auto"));
    }

    #[test]
    fn a_restart_keeps_the_path_that_the_first_start_resumed_from() {
        for line in ["train --resume runs/a -o b", "train -o b --resume=runs/a"] {
            assert_eq!(typed(line).resumed(), typed("train -o b --resume runs/a"));
        }
    }

    #[test]
    fn keys_that_are_set_are_seen() {
        assert!(typed("train --set train.threads=2").sets("train.threads"));
        assert!(typed("train --set=train.threads=2").sets("train.threads"));
        assert!(!typed("train --set train.threads_more=2 train.threads=2").sets("train.threads"));
    }
}

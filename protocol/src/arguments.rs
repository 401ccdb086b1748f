//! What the launcher has to know of the trainer's arguments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The arguments of `lift-trainer`, as a person typed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainerArguments(Vec<OsString>);

impl TrainerArguments {
    /// These arguments.
    pub fn new(list: Vec<OsString>) -> Self {
        Self(list)
    }

    /// All of them, in order.
    pub fn list(&self) -> &[OsString] {
        &self.0
    }

    /// The sub-command; the arguments before it take no values.
    pub fn verb(&self) -> Option<&OsStr> {
        self.0.iter().map(OsString::as_os_str).find(|argument| !argument.as_bytes().starts_with(b"-"))
    }

    /// Whether they train in a run folder: `train`, or nothing, which trains the embedded demo.
    pub fn train(&self) -> bool {
        let asks =
            self.0.iter().any(|argument| argument == "--help" || argument == "-h" || argument == "--version");
        !asks && self.verb().is_none_or(|verb| verb == "train")
    }

    /// The run folder they name.
    pub fn output(&self) -> Option<PathBuf> {
        self.value("--output", Some("-o")).map(PathBuf::from)
    }

    /// The value of `--resume`.
    pub fn resume(&self) -> Option<OsString> {
        self.value("--resume", None)
    }

    /// Whether they set this key of the configuration.
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

    /// The same with an option more. Options belong to a sub-command, so `train` is named first where it is meant.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        if self.verb().is_none() {
            self.0.push("train".into());
        }
        self.0.extend([option.into(), value.into()]);
        self
    }

    /// What a restart is given: the same run, from where it stopped. A path that the person named stays, since the run may
    /// have no checkpoint of its own yet: the trainer of a restart prefers the newest of the run, and else takes the path.
    #[must_use]
    pub fn resumed(&self) -> Self {
        let named = self.resume().filter(|from| from != "auto" && from != "never");
        self.without_resume().with("--resume", named.unwrap_or_else(|| "auto".into()))
    }

    /// What a person types to resume a run that was stopped, from its own folder, whatever it began from.
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

    /// `--long VALUE`, `--long=VALUE`, `-s VALUE`, `-sVALUE`, or `-s=VALUE`.
    fn value(&self, long: &str, short: Option<&str>) -> Option<OsString> {
        let mut list = self.0.iter();
        while let Some(argument) = list.next() {
            let bytes = argument.as_bytes();
            if argument == long || short.is_some_and(|short| argument == short) {
                return list.next().cloned();
            }
            let joined = bytes.strip_prefix(long.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            let attached = || {
                let rest = bytes.strip_prefix(short?.as_bytes())?;
                Some(rest.strip_prefix(b"=").unwrap_or(rest))
            };
            if let Some(value) = joined.or_else(attached) {
                return Some(OsString::from_vec(value.to_vec()));
            }
        }
        None
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
        ] {
            assert_eq!(typed(line).train(), trains, "{line}");
        }
    }

    #[test]
    fn options_belong_to_a_sub_command() {
        assert_eq!(typed("--json").with("--output", "x"), typed("--json train --output x"));
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

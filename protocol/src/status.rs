//! `status.json`: the state of a run, for external monitoring.

use crate::terminal::escaped_json;
use crate::{Outcome, Timestamp, hint, layout, write_atomically, write_quickly};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The ranks have started and read configuration and data.
    Starting,
    /// Backbone and head are being built.
    Init,
    /// Training.
    Training,
    /// Evaluation on the test set.
    Evaluating,
    /// The run is finished.
    Done,
    /// The run was stopped on request and can be resumed.
    Preempted,
    /// The run ended in any other way.
    Failed,
}

impl Phase {
    /// Whether a run in this phase has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Preempted | Self::Failed)
    }
}

/// The content of `status.json`. Fields unknown to this version are ignored when read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Phase of the run.
    pub phase: Phase,
    /// Steps done over the whole run.
    pub step: u64,
    /// The current epoch, counted from 0.
    pub epoch: u64,
    /// Time of this heartbeat; an old time in a phase that is not final means that rank 0 is stuck or dead.
    pub time: Timestamp,
    /// Process ID of rank 0 on its machine.
    pub pid: u32,
    /// Number of ranks.
    pub world_size: usize,
    /// How the run ended; null while it is active.
    pub outcome: Option<Outcome>,
    /// A message for the user, e.g. the error of a failed run, or null.
    pub message: Option<String>,
    /// The remedy that belongs to the message, or null.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A `status.json` that cannot be written or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The file does not exist.
    #[error("`{}` does not exist: no run has started there", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// Its content is not a status.
    #[error("`{}` is not the status of a run: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem and its position.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
}

impl Status {
    /// The status of a run that has just started in this process.
    pub fn starting(world_size: usize) -> Self {
        Self {
            phase: Phase::Starting,
            step: 0,
            epoch: 0,
            time: Timestamp::now(),
            pid: std::process::id(),
            world_size,
            outcome: None,
            message: None,
            hint: None,
        }
    }

    /// Records the end of the run: sets outcome, phase, and the message with its hint.
    pub fn end(&mut self, outcome: Outcome, message: Option<String>) {
        self.outcome = Some(outcome);
        self.phase = outcome.phase();
        let parts = message.as_deref().map(hint::split);
        self.message = parts.map(|(sentence, _)| sentence.to_owned());
        self.hint = parts.and_then(|(_, hint)| hint.map(str::to_owned));
    }

    /// The message with its hint, as [`Self::end`] received it.
    pub fn explanation(&self) -> Option<String> {
        let message = self.message.as_ref()?;
        Some(self.hint.as_ref().map_or_else(|| message.clone(), |hint| hint::joined(message, hint)))
    }

    /// Sets the current time and atomically replaces `status.json` in `run_folder`; it is on disk when this returns.
    pub fn write(&mut self, run_folder: &Path) -> Result<(), StatusError> {
        self.replace(run_folder, write_atomically)
    }

    /// Like [`write`](Self::write), but without waiting for the disk: for heartbeats.
    pub fn write_quickly(&mut self, run_folder: &Path) -> Result<(), StatusError> {
        self.replace(run_folder, write_quickly)
    }

    fn replace(
        &mut self,
        run_folder: &Path,
        write: fn(&Path, &[u8]) -> io::Result<()>,
    ) -> Result<(), StatusError> {
        self.time = Timestamp::now();
        let path = run_folder.join(layout::STATUS);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| StatusError::Write { path: path.clone(), source: Arc::new(error.into()) })?;
        let text = escaped_json(&text).into_owned() + "\n";
        write(&path, text.as_bytes()).map_err(|error| StatusError::Write { path, source: Arc::new(error) })
    }

    /// Reads `status.json` in `run_folder`.
    pub fn read(run_folder: &Path) -> Result<Self, StatusError> {
        let path = run_folder.join(layout::STATUS);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StatusError::Absent { path });
            }
            Err(error) => return Err(StatusError::Read { path, source: Arc::new(error) }),
        };
        serde_json::from_slice(&text)
            .map_err(|error| StatusError::Content { path, reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_contract_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = Status { pid: 4711, ..Status::starting(4) };
        status.step = 120;
        status.epoch = 3;
        status.end(Outcome::Failed, Some("`a` is full\nhint: free some space".into()));
        status.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("status.json")).unwrap();
        let expected = format!(
            "{{\n  \"phase\": \"failed\",\n  \"step\": 120,\n  \"epoch\": 3,\n  \"time\": \"{}\",\n  \"pid\": 4711,\n  \
             \"world_size\": 4,\n  \"outcome\": \"failed\",\n  \"message\": \"`a` is full\",\n  \"hint\": \"free some space\"\n}}\n",
            status.time
        );
        assert_eq!(text, expected);
        assert_eq!(Status::read(folder.path()).unwrap(), status);
    }

    #[test]
    fn a_running_one_has_no_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = Status::starting(1);
        status.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("status.json")).unwrap();
        assert!(text.contains("\"outcome\": null"), "{text}");
        assert!(!status.phase.is_final());
        assert!(status.time.age().as_secs() < 60);
        status.end(Outcome::Interrupted, None);
        assert!(status.phase.is_final());
    }

    #[test]
    fn what_a_later_version_adds_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"phase":"training","step":1,"epoch":0,"time":"2026-11-24T17:03:11Z","pid":1,"world_size":1,
            "outcome":null,"message":null,"temperature":36.6}"#;
        std::fs::write(folder.path().join("status.json"), text).unwrap();
        assert_eq!(Status::read(folder.path()).unwrap().step, 1);
    }

    #[test]
    fn refusals_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let shown = path.display().to_string();
        let absent = Status::read(folder.path()).unwrap_err();
        assert_eq!(absent.to_string(), format!("`{shown}` does not exist: no run has started there"));
        for (content, reason) in [
            ("{\"phase\":\"resting\"}", "unknown variant `resting`"),
            ("{\"phase\":\"done\"}", "missing field `step`"),
            ("", "EOF"),
        ] {
            std::fs::write(&path, content).unwrap();
            let message = Status::read(folder.path()).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("`{shown}` is not the status of a run: {reason}")),
                "{message}"
            );
        }
        let gone = folder.path().join("gone");
        let message = Status::starting(1).write(&gone).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("cannot write `{}/status.json`: ", gone.display())),
            "{message}"
        );
    }
}

//! A run as it grows: only what is new in its metrics is read at each look.

use crate::records::RecordError;
use crate::records::metrics::Metrics;
use crate::tail::last_lines;
use protocol::terminal::escaped_line;
use protocol::{Phase, Status, StatusError, layout};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A run without a heartbeat for this long has stopped making progress.
const SILENT: Duration = Duration::from_secs(30);

/// What is known of a run.
#[derive(Debug)]
pub struct Watched {
    /// The folder.
    pub folder: PathBuf,
    /// Every line of the metrics so far.
    pub metrics: Metrics,
    /// The state; none before the run has written one.
    pub status: Option<Status>,
    /// The ranks, by number.
    pub ranks: Vec<RankState>,
    /// Bytes of the metrics that were read.
    position: u64,
    /// How often the metrics became shorter, as when a run resumes.
    pub restarts: u64,
}

/// What the log of a rank tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankState {
    /// Its number.
    pub rank: usize,
    /// Time since its last line; none without a log.
    pub silent: Option<Duration>,
    /// Its last line without the time and the number of the rank; empty without one.
    pub last: String,
}

impl Watched {
    /// Reads what the run has.
    pub fn open(folder: &Path) -> Result<Self, RecordError> {
        if !folder.is_dir() {
            return Err(RecordError::NoFolder { path: folder.to_owned() });
        }
        if ![layout::STATUS, layout::METRICS, layout::RESULT].iter().any(|name| folder.join(name).exists()) {
            return Err(RecordError::NoRun { path: folder.to_owned() });
        }
        let (folder, metrics) = (folder.to_owned(), Metrics::default());
        let mut watched = Self { folder, metrics, status: None, ranks: Vec::new(), position: 0, restarts: 0 };
        watched.look()?;
        Ok(watched)
    }

    /// Reads what is new.
    pub fn look(&mut self) -> Result<(), RecordError> {
        // The status first: what its run wrote before it ended is then read, too.
        self.status = match Status::read(&self.folder) {
            Err(StatusError::Absent { .. }) => None,
            status => Some(status?),
        };
        let path = self.folder.join(layout::METRICS);
        let new = self.new_bytes(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
        let read = self.metrics.add(&new).map_err(|(line, reason)| RecordError::Content {
            path,
            line: Some(self.lines() + line),
            what: "a line of metrics",
            reason,
        })?;
        self.position += read as u64;
        let ranks = self.status.as_ref().map_or(0, |status| status.world_size);
        self.ranks = (0..ranks).map(|rank| RankState::read(&self.folder, rank)).collect();
        Ok(())
    }

    fn new_bytes(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        if file.metadata()?.len() < self.position {
            // A run that resumes removes the lines after its checkpoint.
            (self.metrics, self.position) = (Metrics::default(), 0);
            self.restarts += 1;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        Ok(new)
    }

    fn lines(&self) -> usize {
        self.metrics.steps.len() + self.metrics.epochs.len() + self.metrics.evaluations.len()
    }

    /// Whether the run has ended. One that was preempted resumes.
    pub fn has_ended(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase.is_final() && status.phase != Phase::Preempted)
    }

    /// The state of the run in words.
    pub fn state(&self) -> String {
        let Some(status) = &self.status else { return "has not written its status yet".to_owned() };
        let phase = format!("{:?}", status.phase).to_lowercase();
        let silent = status.time.age();
        if !status.phase.is_final() && silent > SILENT {
            return format!("{phase}, but rank 0 has made no progress for {} s", silent.as_secs());
        }
        match status.explanation() {
            Some(message) => format!("{phase}: {}", escaped_line(&protocol::hint::in_one_line(message))),
            None => phase,
        }
    }
}

impl RankState {
    fn read(folder: &Path, rank: usize) -> Self {
        let path = folder.join(layout::LOGS).join(layout::rank_log(rank));
        let changed = path.metadata().and_then(|data| data.modified()).ok();
        let silent = changed.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
        // A log that cannot be read is shown like one without a line.
        let last = last_lines(&path, 0, 1).ok().and_then(|mut lines| lines.pop()).unwrap_or_default();
        let message = without_head(&last, rank);
        Self { rank, silent, last: escaped_line(message).into_owned() }
    }
}

/// `WARN text` of `TIME WARN rank=3: text`.
fn without_head(line: &str, rank: usize) -> &str {
    let mark = format!(" rank={rank}: ");
    line.split_once(&mark).map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const STEP: &str = "{\"kind\":\"step\",\"epoch\":0,\"step\":1,\"loss\":2.0,\"learning_rate\":0.1,\"samples\":4,\
                        \"images_per_second\":8.0,\"data_wait\":0.0,\"finite\":true}\n";

    #[test]
    fn only_whole_new_lines_are_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, format!("{STEP}{}", &STEP[..20])).unwrap();
        let mut watched = Watched::open(folder.path()).unwrap();
        assert_eq!(
            (watched.metrics.steps.len(), watched.state().as_str()),
            (1, "has not written its status yet")
        );
        fs::write(&path, format!("{STEP}{STEP}{STEP}")).unwrap();
        watched.look().unwrap();
        assert_eq!((watched.metrics.steps.len(), watched.restarts), (3, 0));
        // The run resumed from a checkpoint after its first step.
        fs::write(&path, STEP).unwrap();
        watched.look().unwrap();
        assert_eq!((watched.metrics.steps.len(), watched.restarts), (1, 1));
        fs::write(&path, format!("{STEP}{{}}\n")).unwrap();
        let error = watched.look().unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl` line 2 is not a line of metrics: "), "{error}");
    }

    #[test]
    fn ranks_and_the_end_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = Status::starting(2);
        status.end(Outcome::Failed, Some("rank 1 is gone\u{1b}[2J\nhint: look at its log"));
        status.write(folder.path()).unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        fs::write(
            folder.path().join("logs/rank-0.log"),
            "2026-01-01T00:00:00Z WARN rank=0: slow \u{1b}[31m\n",
        )
        .unwrap();
        let watched = Watched::open(folder.path()).unwrap();
        assert!(watched.has_ended());
        assert_eq!(watched.state(), "failed: rank 1 is gone\\u{1b}[2J; look at its log");
        assert_eq!((watched.ranks[0].last.as_str(), watched.ranks[1].silent), ("slow \\u{1b}[31m", None));
    }

    #[test]
    fn what_is_not_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Watched::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("is not the folder of a run: it has neither `result.json` nor `metrics.jsonl`"),
            "{error}"
        );
    }

    use protocol::Outcome;
}

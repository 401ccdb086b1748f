//! `lift logs`: prints the log of a rank or the output of a job.

use super::controller::state;
use super::record::{JobOrRun, find};
use super::{JobRecord, SlurmError};
use protocol::terminal::{OutputReader, escaped_bytes, say};
use protocol::{Phase, Status, layout};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Polling interval for a followed log.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two queries to Slurm.
const ASK: Duration = Duration::from_secs(3);
/// Time for which Slurm may fail to answer.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Prints a log; with `follow`, also new lines until the job, or the run without a job, has ended.
pub fn print(name: &str, rank: Option<usize>, follow: bool) -> Result<(), SlurmError> {
    let found = find(name)?;
    let path = path(&found, rank)?;
    let mut writer = LogWriter::of(&found);
    if !path.exists() {
        if !follow {
            return Err(writer.nothing(&path));
        }
        wait_for(&path, &mut writer)?;
    }
    let fail = |source| SlurmError::File { operation: "read", path: path.clone(), source };
    let mut file = File::open(&path).map_err(fail)?;
    let mut lines = NewLines::default();
    if !follow && file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        say(format_args!("`{}` is empty so far", path.display()));
    }
    loop {
        let last = !follow || writer.has_ended()?;
        let text = lines.read(&mut file, last).map_err(fail)?;
        if protocol::terminal::print_as_is(&text)? == OutputReader::Left || last {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// The log file: that of a rank, or the output of the job. Its name contains the job number, so it cannot belong to
/// another job.
fn path(found: &JobOrRun, rank: Option<usize>) -> Result<PathBuf, SlurmError> {
    let rank_log = |rank| found.run.join(layout::LOGS).join(layout::rank_log(rank));
    match (&found.record, rank) {
        (Some(record), _) if record.is_array() => Err(SlurmError::InvalidArguments(format!(
            "job {0} is an array\nhint: name one of its tasks, e.g. `lift logs {0}_1`",
            record.job
        ))),
        (_, Some(rank)) => Ok(rank_log(rank)),
        (Some(record), None) => Ok(record.output()),
        (None, None) => Ok(rank_log(0)),
    }
}

fn wait_for(path: &Path, writer: &mut LogWriter) -> Result<(), SlurmError> {
    say(format_args!("waiting for `{}`", path.display()));
    while !path.exists() {
        if writer.has_ended()? && !path.exists() {
            return Err(writer.nothing(path));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The writer of a log. The log may grow until its writer has ended.
enum LogWriter {
    /// A job, whose state comes from Slurm: the phase of its run may be that of an earlier job or attempt.
    Job(JobPoll),
    /// A run without a job.
    Run(PathBuf),
}

impl LogWriter {
    fn of(found: &JobOrRun) -> Self {
        match &found.record {
            Some(record) => Self::Job(JobPoll::new(record)),
            None => Self::Run(found.run.clone()),
        }
    }

    fn has_ended(&mut self) -> Result<bool, SlurmError> {
        match self {
            Self::Job(watch) => watch.has_ended(),
            // A preempted run resumes, and its log continues.
            Self::Run(run) => Ok(Status::read(run)
                .is_ok_and(|status| status.phase.is_final() && status.phase != Phase::Preempted)),
        }
    }

    /// Why there is no log.
    fn nothing(&self, path: &Path) -> SlurmError {
        let path = path.display();
        match self {
            Self::Job(watch) => {
                let state = state(&watch.job).state;
                SlurmError::InvalidArguments(format!("job {} ({state}) has no log `{path}`", watch.job))
            }
            Self::Run(_) => SlurmError::InvalidArguments(format!("there is no log `{path}`")),
        }
    }
}

/// Polls Slurm for the end of a job.
struct JobPoll {
    job: String,
    asked: Option<Instant>,
    answered: Instant,
    looked_ended: bool,
}

impl JobPoll {
    fn new(record: &JobRecord) -> Self {
        Self { job: record.job.clone(), asked: None, answered: Instant::now(), looked_ended: false }
    }

    fn has_ended(&mut self) -> Result<bool, SlurmError> {
        if self.asked.is_some_and(|at| at.elapsed() < ASK) {
            return Ok(false);
        }
        self.asked = Some(Instant::now());
        let state = state(&self.job);
        if state.is_known() {
            self.answered = Instant::now();
        } else if self.answered.elapsed() > TIMEOUT {
            return Err(SlurmError::InvalidArguments(format!(
                "Slurm does not report the state of job {} (`scontrol show job` fails)",
                self.job
            )));
        }
        // While a job is being requeued, it may briefly appear to have ended.
        let ended = state.has_ended() && self.looked_ended;
        self.looked_ended = state.has_ended();
        Ok(ended)
    }
}

/// Reads new complete lines of a log, escaped so that the terminal interprets no control characters in them.
#[derive(Default)]
struct NewLines {
    /// The start of an incomplete line.
    begun: Vec<u8>,
}

impl NewLines {
    /// With `last`, returns an incomplete last line, too.
    fn read(&mut self, from: &mut impl Read, last: bool) -> io::Result<String> {
        from.read_to_end(&mut self.begun)?;
        let whole = self.begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let rest = self.begun.split_off(if last { self.begun.len() } else { whole });
        let lines = std::mem::replace(&mut self.begun, rest);
        Ok(escaped_bytes(&lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_escaped() {
        let mut lines = NewLines::default();
        assert_eq!(lines.read(&mut &b"one\ntw\xc3"[..], false).unwrap(), "one\n");
        assert_eq!(lines.read(&mut &b""[..], false).unwrap(), "");
        assert_eq!(lines.read(&mut &b"\xa4\x1b[2J\nlast"[..], false).unwrap(), "tw\u{e4}\\u{1b}[2J\n");
        assert_eq!(lines.read(&mut &b""[..], true).unwrap(), "last");
    }
}

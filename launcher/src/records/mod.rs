//! The files of a run folder as other programs read them: complete or not, of this version or an older one.

pub mod calibration;
pub mod metrics;
pub mod presets;
pub mod result;
pub mod settings;

use metrics::Metrics;
use protocol::evaluation::{self, EvaluationRecord};
use protocol::{Status, StatusError, layout};
use result::ResultRecord;
use serde::de::DeserializeOwned;
use settings::Settings;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a run folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is no folder.
    #[error("`{}` is not a folder; expected the folder of a run", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder holds no run.
    #[error("`{}` is not the folder of a run: it has neither `{}` nor `{}`", path.display(), layout::RESULT, layout::METRICS)]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Its content is not what the program writes.
    #[error("`{}`{} is not {what}: {reason}", path.display(), at(*line))]
    Content {
        /// The file.
        path: PathBuf,
        /// Line of the problem.
        line: Option<usize>,
        /// What the file should be.
        what: &'static str,
        /// The problem.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("`{}` has format {found}; this version reads format {known}\nhint: use the `lift` of the version that wrote the run", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
        /// What this version reads.
        known: String,
    },
    /// The status cannot be read.
    #[error(transparent)]
    Status(#[from] StatusError),
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" line {line}"))
}

/// What a run folder holds.
#[derive(Debug)]
pub struct RunRecords {
    /// The folder.
    pub folder: PathBuf,
    /// The figures; none for a run that is not finished.
    pub result: Option<ResultRecord>,
    /// Confusion and calibration; none for an unfinished run or one of an older version.
    pub evaluation: Option<EvaluationRecord>,
    /// Steps, epochs and evaluations.
    pub metrics: Metrics,
    /// The configuration; none if the file is missing.
    pub settings: Option<Settings>,
    /// The state; none if the file is missing.
    pub status: Option<Status>,
}

impl RunRecords {
    /// Reads every file that the folder has.
    pub fn read(folder: &Path) -> Result<Self, RecordError> {
        if !folder.is_dir() {
            return Err(RecordError::NoFolder { path: folder.to_owned() });
        }
        let [metrics, result, evaluation, config] =
            [layout::METRICS, layout::RESULT, layout::EVALUATION, layout::CONFIG]
                .map(|name| folder.join(name));
        if !metrics.exists() && !result.exists() {
            return Err(RecordError::NoRun { path: folder.to_owned() });
        }
        let status = match Status::read(folder) {
            Err(StatusError::Absent { .. }) => None,
            status => Some(status?),
        };
        let result = json::<ResultRecord>(&result, "the result of a run")?;
        let record = json::<EvaluationRecord>(&evaluation, "the record of an evaluation")?;
        if let Some(found) =
            record.as_ref().map(|record| record.format).filter(|found| *found != evaluation::FORMAT)
        {
            return Err(RecordError::Format {
                path: evaluation,
                found: found.to_string(),
                known: evaluation::FORMAT.to_string(),
            });
        }
        let records = Self {
            folder: folder.to_owned(),
            result,
            evaluation: record,
            metrics: Metrics::read(&metrics)?,
            settings: Settings::read(&config)?,
            status,
        };
        records.agree(&evaluation)?;
        Ok(records)
    }

    /// Class numbers of the evaluation are those of the result.
    fn agree(&self, path: &Path) -> Result<(), RecordError> {
        let Some((result, evaluation)) = self.result.as_ref().zip(self.evaluation.as_ref()) else {
            return Ok(());
        };
        let classes = result.per_class.len();
        let beyond = |class: u32| class as usize >= classes;
        let confusion =
            evaluation.confusion.iter().any(|(label, predicted, _)| beyond(*label) || beyond(*predicted));
        let mistakes =
            evaluation.mistakes.iter().any(|mistake| beyond(mistake.label) || beyond(mistake.predicted));
        if evaluation.classes == classes && !confusion && !mistakes {
            return Ok(());
        }
        Err(RecordError::Content {
            path: path.to_owned(),
            line: None,
            what: "the record of the evaluation in `result.json`",
            reason: format!("it counts {} classes, the result {classes}", evaluation.classes),
        })
    }
}

/// The content of a JSON file; none if it does not exist.
fn json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, RecordError> {
    let Some(text) = bytes(path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| RecordError::Content {
        path: path.to_owned(),
        line: Some(error.line()),
        what,
        reason: error.to_string(),
    })
}

/// The bytes of a file; none if it does not exist.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;

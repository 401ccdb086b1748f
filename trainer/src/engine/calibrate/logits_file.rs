//! Files of logits: safetensors with `logits` (`[images, classes]`, fp32) and `labels` (`[images]`, int64), and the names of
//! images and classes in the metadata.

use super::LogitsTable;
use crate::weights::dtype::DType;
use crate::weights::safetensors_map::{MapError, MappedWeights};
use crate::weights::trained::{self, TrainedError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use tch::{Kind, Tensor};

/// What the metadata record beside the names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Names in label order.
    pub class_names: Vec<String>,
    /// Training images of each class.
    pub train_counts: Vec<u64>,
    /// The images: `test` or `train`.
    pub split: String,
    /// Their views: `centre`, `five`, `ten` or `random`.
    pub crops: String,
    /// SHA-256 of the file of trained tensors, in hexadecimal.
    pub trained: String,
}

/// A file of logits.
#[derive(Debug)]
pub struct LogitsFile {
    /// The logits.
    pub table: LogitsTable,
    /// Where they are from.
    pub recorded: Recorded,
}

/// A file of logits that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogitsFileError {
    /// It cannot be read as safetensors.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] TrainedError),
    /// Its content is of another form.
    #[error(
        "`{file}` is not a file of logits: {reason}\nhint: write one with `lift-trainer eval --run RUN --logits FILE`"
    )]
    Content {
        /// The file.
        file: String,
        /// The problem.
        reason: String,
    },
}

/// Key of the names in the metadata.
const NAMES: &str = "names";
/// Key of everything else.
const RECORDED: &str = "recorded";

impl LogitsFile {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), LogitsFileError> {
        let table = &self.table;
        let shape = [table.len() as i64, table.classes as i64];
        let tensors = [
            ("labels".to_owned(), Tensor::from_slice(&table.labels)),
            ("logits".to_owned(), Tensor::from_slice(&table.logits).view(shape)),
        ];
        let json = |value: serde_json::Result<String>| value.map_err(|error| content(path, error));
        let metadata = BTreeMap::from([
            (NAMES.to_owned(), json(serde_json::to_string(&table.names))?),
            (RECORDED.to_owned(), json(serde_json::to_string(&self.recorded))?),
        ]);
        Ok(trained::write(path, &tensors, Kind::Float, metadata)?)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, LogitsFileError> {
        let mapped = MappedWeights::open(path)?;
        let missing = |what: &str| content(path, format!("it has no `{what}`"));
        let text = |key: &str| mapped.metadata().get(key).ok_or_else(|| missing(key));
        let names: Vec<String> = serde_json::from_str(text(NAMES)?).map_err(|error| content(path, error))?;
        let recorded = serde_json::from_str(text(RECORDED)?).map_err(|error| content(path, error))?;
        let (logits, labels) = (mapped.view("logits"), mapped.view("labels"));
        let logits = logits.ok_or_else(|| missing("logits"))?;
        let labels = labels.ok_or_else(|| missing("labels"))?;
        let (&[images, classes], &[labelled]) = (logits.shape, labels.shape) else {
            return Err(content(path, "its tensors are not a table with labels"));
        };
        let kinds = (logits.dtype, labels.dtype);
        if kinds != (DType::F32, DType::I64) || labelled != images || names.len() != images {
            let found = format!("{images} rows, {labelled} labels, {} names", names.len());
            return Err(content(path, format!("expected as many labels and names as rows, found {found}")));
        }
        let table = LogitsTable {
            classes,
            logits: logits.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            labels: labels.bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect(),
            names,
        };
        Ok(Self { table, recorded })
    }
}

fn content(path: &Path, reason: impl Display) -> LogitsFileError {
    LogitsFileError::Content { file: path.display().to_string(), reason: reason.to_string() }
}

//! The outside of a run: its folder and files, checkpoints, figures, progress on the terminal, log files, and the
//! signals that request a stop.
//!
//! This module is independent of tensors, models and communication. Only rank 0 writes the folder ([`RunFolder`],
//! [`MetricsWriter`], [`RunResult`]) and the terminal ([`Reporter`]); every rank has its own log ([`Logging`]) and
//! counts its own part of the test images ([`ClassCounts`]).

mod again;
mod calibration;
pub mod checkpoint;
mod claim;
mod counts;
mod deadline;
mod error;
mod evaluated;
mod event_log;
pub mod final_status;
mod folder;
mod json;
mod logging;
mod metrics;
mod progress_bar;
mod result;
pub mod signals;
mod summary;
mod table;
#[cfg(test)]
mod test_terminal;
mod views;

pub use again::resume_command;
pub use calibration::{
    Calibration, CalibrationFigures, CalibrationParts, ConformalFigures, GroupFigures, GroupSets,
    SetThresholds,
};
pub use claim::{Claim, FolderId};
pub use counts::{ClassCounts, CountsError, first_maximum};
pub use deadline::{Deadline, start_limit};
pub use error::RunFolderError;
pub use evaluated::{Evaluated, MOST_MISTAKES, write_evaluation};
pub use event_log::EventLog;
pub use folder::{DEFAULT_PARENT, MARKS, RunDestination, RunFolder, RunStart};
pub use logging::{Logging, LoggingError};
pub use metrics::{
    EpochRecord, EvalRecord, Metrics, MetricsPosition, MetricsRecord, MetricsWriter, StepRecord, WaitSeconds,
    read_metrics,
};
pub use progress_bar::{ProgressOutput, ProgressPlan, Reporter, say};
pub use result::{ClassResult, GpuMemory, RunResult};
pub use signals::{Signals, StopRequest, end_within};
pub use summary::{HARMONIC_FLOOR, Shot, ShotLimits, Summary, percent};
pub use table::{
    TableLook, comparison_table, listing, listing_of, print_comparison, print_result, result_table,
};
pub use views::Views;

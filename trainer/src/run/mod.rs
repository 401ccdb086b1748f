//! A run as people and other programs see it: its folder and the files in it, its checkpoints, its figures, its
//! progress on the terminal, its log files, and the signals that ask it to stop.
//!
//! Nothing here knows of tensors, models or ranks' communication. Rank 0 alone writes the folder ([`RunFolder`],
//! [`MetricsWriter`], [`RunResult`]) and talks to the terminal ([`Reporter`]); every rank has a log of its own
//! ([`Logging`]) and counts its own part of the test images ([`ClassCounts`]).

mod again;
pub mod checkpoint;
mod claim;
mod counts;
mod deadline;
mod error;
mod folder;
mod json;
pub mod last_words;
mod logging;
mod metrics;
mod progress;
mod result;
mod signals;
mod summary;
mod table;
mod views;

pub use again::resume_command;
pub use claim::{Claim, FolderId};
pub use counts::{ClassCounts, CountsError, first_maximum};
pub use deadline::{Deadline, start_limit};
pub use error::RunFolderError;
pub use folder::{DEFAULT_PARENT, MARKS, RunDestination, RunFolder, RunStart};
pub use logging::{Logging, LoggingError};
pub use metrics::{
    EpochRecord, EvalRecord, Metrics, MetricsPosition, MetricsRecord, MetricsWriter, StepRecord, read_metrics,
};
pub use progress::{ProgressOutput, ProgressPlan, Reporter, say};
pub use result::{ClassResult, RunResult};
pub use signals::{Signals, StopRequest, end_within};
pub use summary::{FEW_BELOW, HARMONIC_FLOOR, MANY_ABOVE, Shot, Summary, percent};
pub use table::{TableLook, comparison_table, listing, print_comparison, print_result, result_table};
pub use views::Views;

//! Starts and monitors the ranks of LIFT training: on this machine, on several hosts, or through Slurm.
//!
//! Links neither libtorch nor MPI, so `lift` runs on a login node.
//!
//! ```
//! use launcher::tail::{last_lines, logs_of_rank};
//!
//! // What `lift run` shows when a rank fails: the end of that rank's log.
//! let run = tempfile::tempdir()?;
//! std::fs::create_dir(run.path().join("logs"))?;
//! std::fs::write(run.path().join("logs/rank-1.log"), "step 1\nstep 2\nout of memory\n")?;
//! let log = logs_of_rank(1, None, Some(run.path())).remove(0);
//! assert_eq!(last_lines(&log, 0, 2)?, ["step 2", "out of memory"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod doctor;
pub mod gpu_check;
pub mod init_data;
pub mod limits;
pub mod log_export;
pub mod records;
pub mod report;
pub mod run;
pub mod slurm;
pub mod tail;
pub mod watch;

//! `lift doctor`: what a run would use on this machine, and what is wrong.
//!
//! Probes gather facts, each in its own file and with a time limit. `judge` turns the facts into findings with a
//! remedy each, and asks nothing itself. What only the trainer knows (libtorch, MPI, NCCL) it reports through
//! [`protocol::probe`], because `lift` links none of these libraries.

mod child;
mod cores;
mod facts;
mod folder;
mod gpus;
mod judge;
mod limits;
mod mpi;
mod plan;
mod probes;
mod report;
mod slurm;
mod trainer;
mod units;

pub use probes::{ProbeCommand, probe};

use facts::Facts;
use judge::{Level, judge};
use nix::unistd::gethostname;
use plan::RunPlan;
use protocol::Outcome;
use protocol::terminal::{OutputError, print, print_json};
use report::Report;
use std::path::PathBuf;

/// Options of `lift doctor`.
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorOptions {
    /// Folder for runs, to be measured
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    pub output: PathBuf,
    /// Folder or file of the data, to be measured
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Examines this machine and prints the report. The outcome is wrong input if training cannot start.
pub fn examine(options: &DoctorOptions) -> Result<Outcome, OutputError> {
    let facts = Facts::gather(&options.output, options.data.as_deref());
    let findings = judge(&facts);
    let ready = findings.iter().all(|finding| finding.level < Level::Error);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        host: gethostname().ok().map(|name| name.to_string_lossy().into_owned()),
        ready,
        findings,
        run: RunPlan::of(&facts).filter(|_| ready),
        facts,
    };
    if options.json {
        print_json(&format!("{}\n", serde_json::json!(report)))?;
    } else {
        print(&report.table())?;
    }
    Ok(if ready { Outcome::Done } else { Outcome::WrongInput })
}

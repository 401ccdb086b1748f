#![doc = include_str!("README.md")]

mod case;
mod compare;
mod damage;
mod disk;
mod fault;
mod inject;
mod job;
mod moment;
mod plan;
mod process;
mod shared_inputs;
mod tally;

pub use fault::ChaosFaultKind;
pub use tally::FaultTally;

use crate::harness::HarnessOptions;
use crate::interrupts::is_interrupted;
use case::ChaosCase;
use plan::ChaosPlan;
use shared_inputs::SharedInputs;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Options of `chaos`. Planted bugs: `lost_sample`, `unsynced_byte`, `stale_momentum`.
#[derive(Clone, Debug, clap::Args)]
pub struct ChaosOptions {
    /// Number of faults that must hit a live run.
    #[arg(long, default_value_t = 200)]
    pub faults: u64,
    /// Run only this case.
    #[arg(long, value_name = "CASE")]
    pub only: Option<u64>,
    /// The options of every harness.
    #[command(flatten)]
    pub harness: HarnessOptions,
}

/// Number of problems after which no new run starts.
const MAX_PROBLEMS: usize = 10;

/// Runs cases until there are enough faults.
pub fn run(options: &ChaosOptions) -> io::Result<FaultTally> {
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
    let shared = SharedInputs::open(folder.path(), options.harness.planted.clone())?;
    let runner = ChaosRunner {
        options,
        shared,
        next: AtomicU64::new(options.only.unwrap_or(0)),
        stop: AtomicBool::new(false),
        start: Instant::now(),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.harness.jobs.max(1) {
            scope.spawn(|| runner.run_cases());
        }
    });
    let unsupported = runner.shared.supported.unsupported();
    let mut tally = runner.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.unsupported = unsupported;
    if options.harness.keep || (!tally.is_sound() && options.harness.planted.is_none()) {
        eprintln!("files are kept in {}", folder.keep().display());
    }
    Ok(tally)
}

struct ChaosRunner<'a> {
    options: &'a ChaosOptions,
    shared: SharedInputs,
    next: AtomicU64,
    stop: AtomicBool,
    start: Instant,
    tally: Mutex<FaultTally>,
}

impl ChaosRunner<'_> {
    fn run_cases(&self) {
        while !self.stop.load(Ordering::Relaxed) && !is_interrupted() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if self.options.only.is_some_and(|only| only != number) {
                return;
            }
            let (tally, folder) = self.case(number);
            self.add(number, tally, folder);
        }
    }

    fn case(&self, number: u64) -> (FaultTally, Option<PathBuf>) {
        let plan = ChaosPlan::draw(self.options.harness.seed, number, self.shared.supported);
        match ChaosCase::prepare(&self.shared, &plan, number) {
            Ok(case) => {
                let (tally, folder) = case.run();
                let events: Vec<_> = plan.events.iter().map(|event| (&event.fault, &event.moment)).collect();
                if self.options.only.is_some() {
                    eprintln!("case {number}: {:?}, {events:?}", plan.determinism);
                }
                (tally, Some(folder))
            }
            Err(error) => (FaultTally::of_problem(format!("the harness itself failed: {error}")), None),
        }
    }

    fn add(&self, number: u64, mut tally: FaultTally, folder: Option<PathBuf>) {
        if is_interrupted() {
            // The ranks may have received the signal too, so an interrupted run is not a problem.
            tally.problems.clear();
        }
        let sound = tally.is_sound();
        let planted = self.options.harness.planted.as_ref();
        let bug = planted.map(|bug| format!(" --planted {bug}")).unwrap_or_default();
        let replay =
            format!("replay: chaos --seed {} --only {number} --keep{bug}", self.options.harness.seed);
        for problem in &mut tally.problems {
            *problem = format!("case {number}: {problem} [{replay}]");
            if planted.is_none() {
                eprintln!("PROBLEM {problem}");
            }
        }
        if let Some(folder) = folder.filter(|_| sound && !self.options.harness.keep) {
            // Remaining files are removed with the parent folder.
            let _ = fs::remove_dir_all(folder);
        }
        let mut all = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        let late = self.options.harness.limit.is_some_and(|limit| self.start.elapsed() > limit);
        let too_many_problems = all.problems.len() >= MAX_PROBLEMS || (planted.is_some() && !sound);
        if all.hits() >= self.options.faults || late || too_many_problems {
            self.stop.store(true, Ordering::Relaxed);
        }
        if self.options.harness.verbose {
            let seconds = self.start.elapsed().as_secs();
            eprintln!("{seconds} s: {} faults, {} problems", all.hits(), all.problems.len());
        }
    }
}

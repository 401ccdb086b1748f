#![doc = include_str!("../README.md")]

mod case;
mod compare;
mod methods;
mod plan;
mod tally;

pub use tally::OptionTally;

use case::{Combination, SharedInputs};
use plan::CombinationPlan;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tests::harness::HarnessOptions;
use tests::interrupts::is_interrupted;

/// Options of `combinations`. Planted bugs: `lost_sample`, `stale_momentum`, `other_seed`.
#[derive(Clone, Debug, clap::Args)]
pub struct CombinationOptions {
    /// Number of cases.
    #[arg(long, default_value_t = 1000)]
    pub cases: u64,
    /// The first case.
    #[arg(long, value_name = "CASE", default_value_t = 0)]
    pub first: u64,
    /// Run only this case.
    #[arg(long, conflicts_with_all = ["first", "cases"])]
    pub case: Option<u64>,
    /// The options of every harness.
    #[command(flatten)]
    pub harness: HarnessOptions,
}

impl CombinationOptions {
    /// The numbers of the cases.
    fn range(&self) -> Range<u64> {
        self.case.map_or(self.first..self.first + self.cases, |case| case..case + 1)
    }
}

/// Number of problems after which no new case starts.
const MAX_PROBLEMS: usize = 20;

/// Runs all cases.
pub fn run(options: &CombinationOptions) -> io::Result<OptionTally> {
    let folder = tempfile::Builder::new().prefix("combinations-").tempdir()?;
    let shared = SharedInputs::open(folder.path(), options.harness.planted.clone())?;
    let runner = CombinationRunner {
        options,
        shared,
        next: AtomicU64::new(options.range().start),
        end: options.range().end,
        stop: AtomicBool::new(false),
        start: Instant::now(),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.harness.jobs.max(1) {
            scope.spawn(|| runner.run_cases());
        }
    });
    let tally = runner.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if options.harness.keep || (!tally.is_sound() && options.harness.planted.is_none()) {
        eprintln!("files are kept in {}", folder.keep().display());
    }
    Ok(tally)
}

struct CombinationRunner<'a> {
    options: &'a CombinationOptions,
    shared: SharedInputs,
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    start: Instant,
    tally: Mutex<OptionTally>,
}

impl CombinationRunner<'_> {
    fn run_cases(&self) {
        while !self.stop.load(Ordering::Relaxed) && !is_interrupted() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                return;
            }
            match CombinationPlan::draw(self.options.harness.seed, number, &self.shared.inputs) {
                Ok((plan, refusals)) => {
                    let case = Combination::new(&self.shared, &plan, number);
                    let problem = case.run().err();
                    let tally = OptionTally::of_case(&plan, refusals, case.rounding.get());
                    self.add(number, tally, problem, Some(case.folder));
                }
                Err(refused) => self.add(number, OptionTally::default(), Some(refused), None),
            }
        }
    }

    fn add(&self, number: u64, mut tally: OptionTally, problem: Option<String>, folder: Option<PathBuf>) {
        let options = self.options;
        if problem.is_some() && is_interrupted() {
            // The ranks may have received the signal too, so the case is incomplete.
            return;
        }
        match problem {
            Some(problem) => {
                let bug = options
                    .harness
                    .planted
                    .as_ref()
                    .map(|bug| format!(" --planted {bug}"))
                    .unwrap_or_default();
                let replay =
                    format!("combinations --seed {} --case {number} --keep{bug}", options.harness.seed);
                let problem = format!("case {number}: {problem}\nreplay: {replay}");
                if options.harness.planted.is_none() {
                    eprintln!("PROBLEM {problem}");
                }
                tally.problems.push(problem);
            }
            // Remaining files are removed with the parent folder.
            None if options.harness.keep => {}
            None => drop(folder.map(fs::remove_dir_all)),
        }
        let mut all = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        let timed_out = options.harness.limit.is_some_and(|limit| self.start.elapsed() > limit);
        let max_problems = if options.harness.planted.is_some() { 1 } else { MAX_PROBLEMS };
        if timed_out || all.problems.len() >= max_problems {
            self.stop.store(true, Ordering::Relaxed);
        }
        if options.harness.verbose {
            let seconds = self.start.elapsed().as_secs();
            eprintln!("{seconds} s: {} cases, {} problems", all.cases, all.problems.len());
        }
    }
}

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
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::interrupts::is_interrupted;

/// Options of the harness.
#[derive(Clone, Debug)]
pub struct CombinationOptions {
    /// Seed of the random numbers.
    pub seed: u64,
    /// The first case.
    pub first: u64,
    /// Number of cases.
    pub cases: u64,
    /// Number of concurrent cases.
    pub jobs: usize,
    /// A bug that must be found; the harness then stops after the first problem.
    pub planted: Option<String>,
    /// Keep all files, even without problems.
    pub keep: bool,
    /// Start no new case after this time.
    pub limit: Option<Duration>,
    /// Report the end of each case.
    pub verbose: bool,
}

impl Default for CombinationOptions {
    fn default() -> Self {
        let (planted, limit) = (None, None);
        Self { seed: 0, first: 0, cases: 60, jobs: 1, planted, keep: false, limit, verbose: false }
    }
}

/// Number of problems after which no new case starts.
const MAX_PROBLEMS: usize = 20;

/// Runs all cases.
pub fn run(options: &CombinationOptions) -> io::Result<OptionTally> {
    let folder = tempfile::Builder::new().prefix("combinations-").tempdir()?;
    let shared = SharedInputs::open(folder.path(), options.planted.clone())?;
    let runner = CombinationRunner {
        options,
        shared,
        next: AtomicU64::new(options.first),
        end: options.first + options.cases,
        stop: AtomicBool::new(false),
        start: Instant::now(),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| runner.run_cases());
        }
    });
    let tally = runner.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if options.keep || (!tally.is_sound() && options.planted.is_none()) {
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
            match CombinationPlan::draw(self.options.seed, number, &self.shared.inputs) {
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
                let bug = options.planted.as_ref().map(|bug| format!(" --planted {bug}")).unwrap_or_default();
                let replay = format!("combinations --seed {} --case {number} --keep{bug}", options.seed);
                let problem = format!("case {number}: {problem}\nreplay: {replay}");
                if options.planted.is_none() {
                    eprintln!("PROBLEM {problem}");
                }
                tally.problems.push(problem);
            }
            // Remaining files are removed with the parent folder.
            None if options.keep => {}
            None => drop(folder.map(fs::remove_dir_all)),
        }
        let mut all = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        let timed_out = options.limit.is_some_and(|limit| self.start.elapsed() > limit);
        let max_problems = if options.planted.is_some() { 1 } else { MAX_PROBLEMS };
        if timed_out || all.problems.len() >= max_problems {
            self.stop.store(true, Ordering::Relaxed);
        }
        if options.verbose {
            let seconds = self.start.elapsed().as_secs();
            eprintln!("{seconds} s: {} cases, {} problems", all.cases, all.problems.len());
        }
    }
}

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
mod tally;
mod workshop;

pub use fault::ChaosFaultKind;
pub use tally::FaultTally;

use crate::interrupts::is_interrupted;
use case::ChaosCase;
use plan::ChaosPlan;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use workshop::Workshop;

/// What is to be played.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// Where chance begins.
    pub seed: u64,
    /// Faults that are to meet a living run.
    pub faults: u64,
    /// This case alone.
    pub only: Option<u64>,
    /// Runs at the same time.
    pub jobs: usize,
    /// A bug to play, for `lift-trainer-faults`; then the first problem is the last.
    pub planted: Option<String>,
    /// Stay with what was written, also where all went well.
    pub keep: bool,
    /// No new run is begun after this time.
    pub limit: Option<Duration>,
    /// Tell each run's end.
    pub verbose: bool,
}

impl Default for ChaosOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: 200,
            only: None,
            jobs: 1,
            planted: None,
            keep: false,
            limit: None,
            verbose: false,
        }
    }
}

/// After so many problems nothing more is begun.
const MOST_PROBLEMS: usize = 10;

/// Plays runs with faults until there were enough of them.
pub fn play(options: &ChaosOptions) -> io::Result<FaultTally> {
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
    let shop = Workshop::open(folder.path(), options.planted.clone())?;
    let player = ChaosPlayer {
        options,
        shop,
        next: AtomicU64::new(options.only.unwrap_or(0)),
        stop: AtomicBool::new(false),
        begun: Instant::now(),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| player.work());
        }
    });
    let left_out = player.shop.means.left_out();
    let mut tally = player.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.left_out = left_out;
    if options.keep || (!tally.is_sound() && options.planted.is_none()) {
        eprintln!("what was written stays in {}", folder.keep().display());
    }
    Ok(tally)
}

struct ChaosPlayer<'a> {
    options: &'a ChaosOptions,
    shop: Workshop,
    next: AtomicU64,
    stop: AtomicBool,
    begun: Instant,
    tally: Mutex<FaultTally>,
}

impl ChaosPlayer<'_> {
    fn work(&self) {
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
        let plan = ChaosPlan::draw(self.options.seed, number, self.shop.means);
        match ChaosCase::prepare(&self.shop, &plan, number) {
            Ok(case) => {
                let (tally, folder) = case.play();
                let told: Vec<_> = plan.events.iter().map(|event| (&event.fault, &event.moment)).collect();
                if self.options.only.is_some() {
                    eprintln!("case {number}: {:?}, {told:?}", plan.determinism);
                }
                (tally, Some(folder))
            }
            Err(error) => (FaultTally::of_problem(format!("the harness itself failed: {error}")), None),
        }
    }

    fn add(&self, number: u64, mut tally: FaultTally, folder: Option<PathBuf>) {
        if is_interrupted() {
            // The ranks may have been told as well; that a run was cut short is no problem of it.
            tally.problems.clear();
        }
        let sound = tally.is_sound();
        let planted = self.options.planted.as_ref();
        let bug = planted.map(|bug| format!(" --planted {bug}")).unwrap_or_default();
        let again = format!("replay: chaos --seed {} --only {number} --keep{bug}", self.options.seed);
        for problem in &mut tally.problems {
            *problem = format!("case {number}: {problem} [{again}]");
            if planted.is_none() {
                eprintln!("PROBLEM {problem}");
            }
        }
        if let Some(folder) = folder.filter(|_| sound && !self.options.keep) {
            // What cannot be removed goes with the folder above.
            let _ = fs::remove_dir_all(folder);
        }
        let mut all = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        let late = self.options.limit.is_some_and(|limit| self.begun.elapsed() > limit);
        let hopeless = all.problems.len() >= MOST_PROBLEMS || (planted.is_some() && !sound);
        if all.hits() >= self.options.faults || late || hopeless {
            self.stop.store(true, Ordering::Relaxed);
        }
        if self.options.verbose {
            let seconds = self.begun.elapsed().as_secs();
            eprintln!("{seconds} s: {} faults, {} problems", all.hits(), all.problems.len());
        }
    }
}

#![doc = include_str!("../README.md")]

mod case;
mod compare;
mod plan;
mod tally;
mod words;

pub use tally::OptionTally;

use case::{Combination, Shop};
use plan::CombinationPlan;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::interrupts::is_interrupted;

/// What is to be played.
#[derive(Clone, Debug)]
pub struct CombinationOptions {
    /// Where chance begins.
    pub seed: u64,
    /// The first case.
    pub first: u64,
    /// Number of cases.
    pub cases: u64,
    /// Cases at the same time.
    pub jobs: usize,
    /// A bug to play; then the first problem is the last.
    pub planted: Option<String>,
    /// Stay with what was written, also where all went well.
    pub keep: bool,
    /// No new case is begun after this time.
    pub limit: Option<Duration>,
    /// Report each case's end.
    pub verbose: bool,
}

impl Default for CombinationOptions {
    fn default() -> Self {
        let (planted, limit) = (None, None);
        Self { seed: 0, first: 0, cases: 60, jobs: 1, planted, keep: false, limit, verbose: false }
    }
}

/// After so many problems nothing more is begun.
const MOST_PROBLEMS: usize = 20;

/// Plays all cases.
pub fn play(options: &CombinationOptions) -> io::Result<OptionTally> {
    let folder = tempfile::Builder::new().prefix("combinations-").tempdir()?;
    let shop = Shop::open(folder.path(), options.planted.clone())?;
    let player = CombinationPlayer {
        options,
        shop,
        next: AtomicU64::new(options.first),
        end: options.first + options.cases,
        stop: AtomicBool::new(false),
        begun: Instant::now(),
        tally: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| player.work());
        }
    });
    let tally = player.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if options.keep || (!tally.is_sound() && options.planted.is_none()) {
        eprintln!("what was written stays in {}", folder.keep().display());
    }
    Ok(tally)
}

struct CombinationPlayer<'a> {
    options: &'a CombinationOptions,
    shop: Shop,
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    begun: Instant,
    tally: Mutex<OptionTally>,
}

impl CombinationPlayer<'_> {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) && !is_interrupted() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                return;
            }
            match CombinationPlan::draw(self.options.seed, number, &self.shop.stock) {
                Ok((plan, refusals)) => {
                    let case = Combination::new(&self.shop, &plan, number);
                    let problem = case.play().err();
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
            // The ranks may have been told as well: this case was not played to its end.
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
            // What cannot be removed goes with the folder above.
            None if options.keep => {}
            None => drop(folder.map(fs::remove_dir_all)),
        }
        let mut all = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        let late = options.limit.is_some_and(|limit| self.begun.elapsed() > limit);
        let most = if options.planted.is_some() { 1 } else { MOST_PROBLEMS };
        if late || all.problems.len() >= most {
            self.stop.store(true, Ordering::Relaxed);
        }
        if options.verbose {
            let seconds = self.begun.elapsed().as_secs();
            eprintln!("{seconds} s: {} cases, {} problems", all.cases, all.problems.len());
        }
    }
}

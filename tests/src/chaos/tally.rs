//! Counts over all cases, as a table and as JSON.

use super::fault::ChaosFaultKind;
use super::moment::At;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Counts and maximum times over all cases.
#[derive(Clone, Debug, Default)]
pub struct FaultTally {
    counts: [[u64; At::ALL.len()]; ChaosFaultKind::ALL.len()],
    detected: [Duration; ChaosFaultKind::ALL.len()],
    /// Kinds that this machine does not support.
    pub unsupported: Vec<ChaosFaultKind>,
    /// Maximum time from a kill to the first new checkpoint of the resumed run.
    pub max_recovery: Duration,
    /// Runs.
    pub cases: u64,
    /// Starts of the trainer.
    pub starts: u64,
    /// Starts that resumed from a checkpoint.
    pub resumes: u64,
    /// Starts that did not end in time.
    pub hangs: u64,
    /// Starts that left a process behind.
    pub left: u64,
    /// Runs that succeeded with other weights or counts.
    pub corrupt: u64,
    /// Lost samples.
    pub lost: u64,
    /// Repeated samples.
    pub repeated: u64,
    /// One sentence per problem.
    pub problems: Vec<String>,
}

impl FaultTally {
    /// A tally of one problem.
    pub fn of_problem(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// Counts a fault in a phase.
    pub fn record_fault(&mut self, kind: ChaosFaultKind, at: At) {
        let column = At::ALL.iter().position(|&phase| phase == at).unwrap_or(At::ALL.len() - 1);
        self.counts[kind as usize][column] += 1;
    }

    /// Records the time from a fault to its detection: the end of the job, or a message of the next start.
    pub fn detected(&mut self, kind: ChaosFaultKind, after: Duration) {
        let worst = &mut self.detected[kind as usize];
        *worst = (*worst).max(after);
    }

    /// Number of faults that hit a live run.
    pub fn hits(&self) -> u64 {
        self.counts.iter().flat_map(|row| &row[..At::ALL.len() - 1]).sum()
    }

    /// Number of faults that came too late.
    pub fn misses(&self) -> u64 {
        self.counts.iter().map(|row| row[At::ALL.len() - 1]).sum()
    }

    /// Whether there is no problem.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Number of faults of a kind that hit a live run.
    pub fn of_kind(&self, kind: ChaosFaultKind) -> u64 {
        self.counts[kind as usize][..At::ALL.len() - 1].iter().sum()
    }

    /// The reasons why the test is insufficient: fewer faults than `wanted`, too many late ones, kinds that never
    /// occurred.
    pub fn shortfalls(&self, wanted: u64) -> Vec<String> {
        /// Number of faults from which on every kind must occur.
        const ALL_KINDS: u64 = 200;
        let mut found = Vec::new();
        if self.hits() < wanted {
            found.push(format!("{} of {wanted} faults hit a live run", self.hits()));
        }
        if self.misses() > max_misses(self.hits() + self.misses()) {
            found.push(format!("{} faults came too late, significantly more than a tenth", self.misses()));
        }
        let absent = |kind: &ChaosFaultKind| self.of_kind(*kind) == 0 && !self.unsupported.contains(kind);
        if self.hits() >= ALL_KINDS {
            found.extend(
                ChaosFaultKind::ALL
                    .iter()
                    .filter(|kind| absent(kind))
                    .map(|kind| format!("no {}", kind.name())),
            );
        }
        found
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        for (own, theirs) in self.counts.as_flattened_mut().iter_mut().zip(other.counts.as_flattened()) {
            *own += theirs;
        }
        for (own, theirs) in self.detected.iter_mut().zip(other.detected) {
            *own = (*own).max(theirs);
        }
        self.max_recovery = self.max_recovery.max(other.max_recovery);
        let counts = [
            (&mut self.cases, other.cases),
            (&mut self.starts, other.starts),
            (&mut self.resumes, other.resumes),
            (&mut self.hangs, other.hangs),
            (&mut self.left, other.left),
            (&mut self.corrupt, other.corrupt),
            (&mut self.lost, other.lost),
            (&mut self.repeated, other.repeated),
        ];
        for (own, theirs) in counts {
            *own += theirs;
        }
        self.problems.extend(other.problems);
    }

    /// The counts as a table.
    pub fn table(&self) -> String {
        let mut text = format!("{:20}", "faults");
        for at in At::ALL {
            let _ = write!(text, "{:>12}", at.name());
        }
        text += "  detected within\n";
        for ((kind, row), worst) in ChaosFaultKind::ALL.iter().zip(self.counts).zip(self.detected) {
            let _ = write!(text, "{:20}", kind.name());
            for count in row {
                let _ = write!(text, "{:>12}", if count == 0 { "-".to_owned() } else { count.to_string() });
            }
            let worst =
                if worst.is_zero() { "-".to_owned() } else { format!("{:.2} s", worst.as_secs_f64()) };
            let worst = if self.unsupported.contains(kind) { "not supported" } else { &worst };
            let _ = writeln!(text, "{worst:>25}");
        }
        let (hits, misses) = (self.hits(), self.misses());
        let share = 100.0 * hits as f64 / (hits + misses).max(1) as f64;
        let _ = writeln!(text, "{hits} of {} faults hit a live run ({share:.1} %)", hits + misses);
        let Self { cases, starts, resumes, hangs, left, corrupt, lost, repeated, .. } = self;
        let _ = writeln!(text, "{cases} runs in {starts} starts, {resumes} of them from a checkpoint");
        let _ = writeln!(
            text,
            "from a kill to the next new checkpoint: at most {:.2} s",
            self.max_recovery.as_secs_f64()
        );
        let _ = writeln!(
            text,
            "hangs {hangs}, processes left {left}, silent corruptions {corrupt}, samples lost {lost}, repeated {repeated}"
        );
        for problem in &self.problems {
            let _ = writeln!(text, "PROBLEM {problem}");
        }
        text
    }

    /// The counts as JSON.
    pub fn json(&self, seed: u64, seconds: f64) -> Value {
        let kinds =
            ChaosFaultKind::ALL.iter().zip(self.counts).zip(self.detected).map(|((kind, row), worst)| {
                let phases = At::ALL.iter().zip(row).map(|(at, count)| (at.name().to_owned(), json!(count)));
                let fields = json!({
                    "by_phase": Value::Object(phases.collect()),
                    "worst_detection_seconds": worst.as_secs_f64(),
                    "played": !self.unsupported.contains(kind),
                });
                (kind.name().to_owned(), fields)
            });
        json!({
            "seed": seed,
            "seconds": seconds,
            "faults": Value::Object(kinds.collect()),
            "hits": self.hits(),
            "misses": self.misses(),
            "runs": self.cases,
            "starts": self.starts,
            "resumes": self.resumes,
            "worst_seconds_from_a_kill_to_a_new_checkpoint": self.max_recovery.as_secs_f64(),
            "hangs": self.hangs,
            "left_behind": self.left,
            "silent_corruptions": self.corrupt,
            "samples_lost": self.lost,
            "samples_repeated": self.repeated,
            "problems": self.problems,
        })
    }
}

/// A tenth of `faults` plus two standard deviations: the maximum if the expected share of late faults is a tenth.
fn max_misses(faults: u64) -> u64 {
    let tenth = faults as f64 / 10.0;
    (tenth + 2.0 * (0.9 * tenth).sqrt()) as u64
}

//! What was counted, for people and for programs.

use super::fault::ChaosFaultKind;
use super::moment::At;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Counts and worst times over all cases.
#[derive(Clone, Debug, Default)]
pub struct FaultTally {
    struck: [[u64; At::ALL.len()]; ChaosFaultKind::ALL.len()],
    noticed: [Duration; ChaosFaultKind::ALL.len()],
    /// Kinds that cannot be played here.
    pub left_out: Vec<ChaosFaultKind>,
    /// From when ranks were killed to the first new checkpoint of the next start, which goes on from one.
    pub back: Duration,
    /// Runs that went through.
    pub cases: u64,
    /// Starts of the trainer.
    pub starts: u64,
    /// Starts that went on from a checkpoint.
    pub resumes: u64,
    /// Starts that did not end in time.
    pub hangs: u64,
    /// Starts that left a process behind.
    pub left: u64,
    /// Runs that ended as if all were well, with other weights or counts.
    pub corrupt: u64,
    /// Samples that were lost.
    pub lost: u64,
    /// Samples that were seen twice.
    pub repeated: u64,
    /// Sentences about all that is wrong.
    pub problems: Vec<String>,
}

impl FaultTally {
    /// Nothing but this is wrong.
    pub fn of_problem(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// A fault of this kind struck, or came too late.
    pub fn strike(&mut self, kind: ChaosFaultKind, at: At) {
        let column = At::ALL.iter().position(|&phase| phase == at).unwrap_or(At::ALL.len() - 1);
        self.struck[kind as usize][column] += 1;
    }

    /// So long after a fault the job had ended that noticed it, or a start had said what is wrong.
    pub fn noticed(&mut self, kind: ChaosFaultKind, after: Duration) {
        let worst = &mut self.noticed[kind as usize];
        *worst = (*worst).max(after);
    }

    /// Faults that met a living run.
    pub fn hits(&self) -> u64 {
        self.struck.iter().flat_map(|row| &row[..At::ALL.len() - 1]).sum()
    }

    /// Faults that came too late.
    pub fn misses(&self) -> u64 {
        self.struck.iter().map(|row| row[At::ALL.len() - 1]).sum()
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Faults of a kind that met a living run.
    pub fn of_kind(&self, kind: ChaosFaultKind) -> u64 {
        self.struck[kind as usize][..At::ALL.len() - 1].iter().sum()
    }

    /// What keeps this from being a proof: fewer faults than `wanted`, too many that came too late, kinds that are absent.
    pub fn shortfalls(&self, wanted: u64) -> Vec<String> {
        /// From so many on, every kind has been drawn.
        const ALL_KINDS: u64 = 200;
        let mut found = Vec::new();
        if self.hits() < wanted {
            found.push(format!("{} of {wanted} faults met a living run", self.hits()));
        }
        if self.misses() > most_misses(self.hits() + self.misses()) {
            found.push(format!("{} faults came too late, more than a tenth and chance", self.misses()));
        }
        let absent = |kind: &ChaosFaultKind| self.of_kind(*kind) == 0 && !self.left_out.contains(kind);
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

    /// Adds what another counted.
    pub fn add(&mut self, other: Self) {
        for (own, theirs) in self.struck.as_flattened_mut().iter_mut().zip(other.struck.as_flattened()) {
            *own += theirs;
        }
        for (own, theirs) in self.noticed.iter_mut().zip(other.noticed) {
            *own = (*own).max(theirs);
        }
        self.back = self.back.max(other.back);
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

    /// The table.
    pub fn table(&self) -> String {
        let mut text = format!("{:20}", "faults");
        for at in At::ALL {
            let _ = write!(text, "{:>12}", at.name());
        }
        text += "  noticed after, at worst\n";
        for ((kind, row), worst) in ChaosFaultKind::ALL.iter().zip(self.struck).zip(self.noticed) {
            let _ = write!(text, "{:20}", kind.name());
            for count in row {
                let _ = write!(text, "{:>12}", if count == 0 { "-".to_owned() } else { count.to_string() });
            }
            let worst =
                if worst.is_zero() { "-".to_owned() } else { format!("{:.2} s", worst.as_secs_f64()) };
            let worst = if self.left_out.contains(kind) { "not played here" } else { &worst };
            let _ = writeln!(text, "{worst:>25}");
        }
        let (hits, misses) = (self.hits(), self.misses());
        let share = 100.0 * hits as f64 / (hits + misses).max(1) as f64;
        let _ = writeln!(text, "{hits} of {} faults met a living run ({share:.1} %)", hits + misses);
        let Self { cases, starts, resumes, hangs, left, corrupt, lost, repeated, .. } = self;
        let _ = writeln!(text, "{cases} runs in {starts} starts, {resumes} of them from a checkpoint");
        let _ = writeln!(
            text,
            "from a kill to the next new checkpoint: {:.2} s at worst",
            self.back.as_secs_f64()
        );
        let _ = writeln!(
            text,
            "hangs {hangs}, left behind {left}, silently wrong {corrupt}, samples lost {lost}, repeated {repeated}"
        );
        for problem in &self.problems {
            let _ = writeln!(text, "PROBLEM {problem}");
        }
        text
    }

    /// The same for programs.
    pub fn json(&self, seed: u64, seconds: f64) -> Value {
        let kinds =
            ChaosFaultKind::ALL.iter().zip(self.struck).zip(self.noticed).map(|((kind, row), worst)| {
                let phases = At::ALL.iter().zip(row).map(|(at, count)| (at.name().to_owned(), json!(count)));
                let fields = json!({
                    "by_phase": Value::Object(phases.collect()),
                    "worst_detection_seconds": worst.as_secs_f64(),
                    "played": !self.left_out.contains(kind),
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
            "worst_seconds_from_a_kill_to_a_new_checkpoint": self.back.as_secs_f64(),
            "hangs": self.hangs,
            "left_behind": self.left,
            "silent_corruptions": self.corrupt,
            "samples_lost": self.lost,
            "samples_repeated": self.repeated,
            "problems": self.problems,
        })
    }
}

/// A tenth of `faults`, and two standard deviations more: that many come too late by chance where a tenth does.
fn most_misses(faults: u64) -> u64 {
    let tenth = faults as f64 / 10.0;
    (tenth + 2.0 * (0.9 * tenth).sqrt()) as u64
}

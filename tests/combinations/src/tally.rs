//! Counts over all cases.

use super::plan::CombinationPlan;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Counts over all cases.
#[derive(Clone, Debug, Default)]
pub struct OptionTally {
    /// Number of cases.
    pub cases: u64,
    /// Starts of the trainer.
    pub starts: u64,
    /// Number of processes of all starts.
    pub ranks: u64,
    /// Number of draws of each word of each key.
    pub words: BTreeMap<String, BTreeMap<String, u64>>,
    /// Number of combinations that the configuration refused, by message.
    pub refusals: BTreeMap<String, u64>,
    /// Maximum relative difference of losses that may differ only by rounding, by precision.
    pub rounding: BTreeMap<String, f64>,
    /// The problems, each with the commands that reproduce it.
    pub problems: Vec<String>,
}

impl OptionTally {
    /// The counts of one case.
    pub fn of_case(plan: &CombinationPlan, refused: Vec<String>, rounding: f64) -> Self {
        let mut tally = Self { cases: 1, ..Self::default() };
        for leg in plan.legs() {
            tally.starts += 1;
            tally.ranks += leg.ranks as u64;
        }
        for (key, word) in &plan.words {
            *tally.words.entry(key.clone()).or_default().entry(word.clone()).or_default() += 1;
        }
        let precision = plan.words.iter().find(|(key, _)| key == "train.precision");
        tally.rounding.extend(precision.map(|(_, word)| (word.clone(), rounding)));
        for message in refused {
            *tally.refusals.entry(message).or_default() += 1;
        }
        tally
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.starts += other.starts;
        self.ranks += other.ranks;
        for (key, words) in other.words {
            add(self.words.entry(key).or_default(), words);
        }
        add(&mut self.refusals, other.refusals);
        for (precision, rounding) in other.rounding {
            let maximum = self.rounding.entry(precision).or_default();
            *maximum = maximum.max(rounding);
        }
        self.problems.extend(other.problems);
    }

    /// Whether there is no problem.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Number of draws of a word.
    pub fn count(&self, key: &str, word: &str) -> u64 {
        self.words.get(key).and_then(|words| words.get(word)).copied().unwrap_or(0)
    }

    /// The counts, with one line per key.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let width = self.words.keys().map(String::len).max().unwrap_or(0);
        for (key, words) in &self.words {
            let counts: Vec<_> = words.iter().map(|(word, count)| format!("{word} {count}")).collect();
            let _ = writeln!(text, "{key:width$}  {}", counts.join(", "));
        }
        for (precision, rounding) in self.rounding.iter().filter(|(_, rounding)| **rounding > 0.0) {
            let _ = writeln!(
                text,
                "maximum relative difference of losses by rounding in {precision}: {rounding:.1e}"
            );
        }
        let redrawn: u64 = self.refusals.values().sum();
        let _ = writeln!(text, "refused by the configuration and redrawn: {redrawn}");
        for (message, count) in &self.refusals {
            let _ = writeln!(text, "  {count} x {message}");
        }
        let Self { cases, starts, ranks, problems, .. } = self;
        let _ = writeln!(
            text,
            "{cases} cases, {starts} starts of {ranks} ranks in all, {} problems",
            problems.len()
        );
        text
    }
}

fn add(to: &mut BTreeMap<String, u64>, counts: BTreeMap<String, u64>) {
    for (word, count) in counts {
        *to.entry(word).or_default() += count;
    }
}

//! What is found about a rank, and how it is said.

use crate::activity::ActivitySnapshot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a rank last said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// Steps done over the whole run.
    pub step: u64,
    /// The part of the run.
    pub phase: String,
    /// What is being done.
    pub operation: String,
    /// The operation waits for other ranks.
    pub waits_for_others: bool,
    /// Collective calls made so far.
    pub calls: u64,
    /// For how long nothing of this had changed.
    pub idle: Duration,
    /// For how long nothing may change; [`Duration::MAX`] is no limit.
    pub timeout: Duration,
}

impl LastReport {
    pub(super) fn new(moment: ActivitySnapshot, idle: Duration) -> Self {
        let ActivitySnapshot { step, phase, operation, waits_for_others, calls, timeout, .. } = moment;
        let (phase, operation) = (phase.to_owned(), operation.to_owned());
        Self { step, phase, operation, waits_for_others, calls, idle, timeout }
    }

    /// Nothing has changed for longer than it may.
    pub(super) fn stands_still(&self) -> bool {
        self.idle > self.timeout
    }
}

/// What is wrong with a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RankFailure {
    /// Its connection closed without a goodbye.
    Dead,
    /// Its process is stopped, or its host is gone.
    Silent,
    /// It answers, but makes no progress.
    Stuck,
}

/// One rank's trouble, for which the job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// What is wrong with it.
    pub kind: RankFailure,
    /// What it last said of itself.
    pub standing: LastReport,
    /// For how long nothing was heard of it, or nothing changed there.
    pub since: Duration,
    /// Why it is this rank, where that needs a word.
    pub reason: Option<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, pid, .. } = self;
        let LastReport { step, phase, operation, timeout, .. } = &self.standing;
        let since = self.since.as_secs_f64();
        write!(f, "rank {rank} on {host} (pid {pid}) ")?;
        match self.kind {
            RankFailure::Dead => write!(f, "died after step {step} ({phase}, in {operation})")?,
            RankFailure::Silent => write!(
                f,
                "has not answered for {since:.1} s, last after step {step} ({phase}, in {operation}): it is stopped or unreachable"
            )?,
            RankFailure::Stuck => {
                write!(f, "has made no progress for {since:.1} s ")?;
                if *timeout < Duration::MAX {
                    write!(f, "(limit {} s) ", (timeout.as_secs_f64() * 10.0).round() / 10.0)?;
                }
                write!(f, "after step {step} ({phase}, in {operation})")?;
            }
        }
        self.reason.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(kind: RankFailure, reason: Option<&str>) -> String {
        let standing = LastReport {
            step: 17,
            phase: "training".into(),
            operation: "all_reduce".into(),
            waits_for_others: true,
            calls: 9,
            idle: Duration::ZERO,
            timeout: Duration::from_secs(10),
        };
        let (host, reason) = ("n1".to_owned(), reason.map(str::to_owned));
        let since = Duration::from_millis(12_345);
        Diagnosis { rank: 2, host, pid: 4711, kind, standing, since, reason }.to_string()
    }

    #[test]
    fn each_trouble_is_one_sentence_with_rank_host_process_step_and_operation() {
        assert_eq!(
            verdict(RankFailure::Dead, None),
            "rank 2 on n1 (pid 4711) died after step 17 (training, in all_reduce)"
        );
        assert_eq!(
            verdict(RankFailure::Silent, None),
            "rank 2 on n1 (pid 4711) has not answered for 12.3 s, last after step 17 (training, in all_reduce): \
             it is stopped or unreachable"
        );
        assert_eq!(
            verdict(RankFailure::Stuck, Some("the others wait for it in barrier")),
            "rank 2 on n1 (pid 4711) has made no progress for 12.3 s (limit 10 s) after step 17 (training, in \
             all_reduce); the others wait for it in barrier"
        );
    }
}

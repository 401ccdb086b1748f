//! The diagnosis of a failed rank, and its text.

use crate::activity::ActivitySnapshot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The last activity that a rank has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// Steps done over the whole run.
    pub step: u64,
    /// The phase of the run, e.g. `training`.
    pub phase: String,
    /// The current operation, e.g. `all_reduce`.
    pub operation: String,
    /// Whether the operation waits for other ranks.
    pub waits_for_others: bool,
    /// Collective calls made so far.
    pub calls: u64,
    /// Time since the last change of these values.
    pub idle: Duration,
    /// Time without a change after which the rank counts as stuck; [`Duration::MAX`] means no limit.
    pub timeout: Duration,
}

impl LastReport {
    pub(super) fn new(moment: ActivitySnapshot, idle: Duration) -> Self {
        let ActivitySnapshot { step, phase, operation, waits_for_others, calls, timeout, .. } = moment;
        let (phase, operation) = (phase.to_owned(), operation.to_owned());
        Self { step, phase, operation, waits_for_others, calls, idle, timeout }
    }

    /// Whether nothing has changed for longer than the timeout.
    pub(super) fn exceeds_timeout(&self) -> bool {
        self.idle > self.timeout
    }
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RankFailure {
    /// The connection closed without a goodbye.
    Dead,
    /// The process is stopped, or its host is unreachable.
    Silent,
    /// The process answers, but makes no progress.
    Stuck,
}

/// The failure of one rank, which ends the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The kind of the failure.
    pub kind: RankFailure,
    /// The last activity that it has reported.
    pub report: LastReport,
    /// Time since its last heartbeat, or for a stuck rank since its last change.
    pub since: Duration,
    /// Why this rank is the culprit, if the kind alone does not show it.
    pub reason: Option<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, pid, .. } = self;
        let LastReport { step, phase, operation, timeout, .. } = &self.report;
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
        let report = LastReport {
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
        Diagnosis { rank: 2, host, pid: 4711, kind, report, since, reason }.to_string()
    }

    #[test]
    fn each_failure_is_one_sentence_with_rank_host_process_step_and_operation() {
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

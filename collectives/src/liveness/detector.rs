//! Finds the rank that blocks the others, from the last reports of the ranks, without clocks or sockets.

use super::diagnosis::{LastReport, RankFailure};
use std::collections::BTreeMap;
use std::time::Duration;

/// An active rank, as seen by the rank that monitors it.
#[derive(Debug, Clone)]
pub(super) struct PeerView<'a> {
    pub(super) rank: usize,
    pub(super) report: &'a LastReport,
    /// Time since its last heartbeat.
    pub(super) silent_for: Duration,
    /// Maximum time between heartbeats.
    pub(super) silence: Duration,
    /// Whether its connection is closed.
    pub(super) disconnected: bool,
}

/// The failure of one rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symptom {
    pub(super) rank: usize,
    pub(super) kind: RankFailure,
    pub(super) since: Duration,
    pub(super) reason: Option<String>,
}

/// Finds the failure among the reports of all ranks: dead before silent, silent before stuck, because the former
/// explain the latter.
///
/// `all_waiting_for` is the time for which all ranks have been seen waiting. A report may be one heartbeat old: just
/// after a long wait, some ranks still seem to wait while others have continued or even left.
pub(super) fn judge(views: &[PeerView], all_waiting_for: Duration) -> Option<Symptom> {
    absent(views).or_else(|| stuck(views, all_waiting_for))
}

/// Finds a rank without heartbeats. A rank that monitors only some ranks cannot decide more than that.
pub(super) fn absent(views: &[PeerView]) -> Option<Symptom> {
    let found =
        |view: &PeerView, kind| Symptom { rank: view.rank, kind, since: view.silent_for, reason: None };
    let dead = views.iter().find(|view| view.disconnected).map(|view| found(view, RankFailure::Dead));
    let silent =
        views.iter().filter(|view| view.silent_for > view.silence).max_by_key(|view| view.silent_for);
    dead.or_else(|| silent.map(|view| found(view, RankFailure::Silent)))
}

fn stuck(views: &[PeerView], all_waiting_for: Duration) -> Option<Symptom> {
    let working = views.iter().filter(|view| !view.report.waits_for_others);
    let still = working.clone().filter(|view| view.report.exceeds_timeout());
    if let Some(culprit) = still.max_by_key(|view| view.report.idle) {
        return Some(found(culprit, waiting_for(culprit, views)));
    }
    // While one rank works within its timeout, the others wait for it, which is normal.
    if working.count() > 0 {
        return None;
    }
    deadlock(views, all_waiting_for)
}

/// Every rank waits, which is normal during a collective. Only the longest timeout counts; a rank without a limit is
/// ignored, because it waits as well.
fn deadlock(views: &[PeerView], all_waiting_for: Duration) -> Option<Symptom> {
    let limits = views.iter().map(|view| view.report.timeout).filter(|&limit| limit < Duration::MAX);
    let limit = limits.max()?;
    if all_waiting_for <= limit || views.iter().any(|view| view.report.idle <= limit) {
        return None;
    }
    let (fewest, most) = (calls(views).min()?, calls(views).max()?);
    if fewest < most {
        let behind = views.iter().find(|view| view.report.calls == fewest)?;
        let ahead = views.iter().find(|view| view.report.calls == most)?;
        let reason = format!(
            "all ranks wait; this one made {fewest} collective calls, but rank {} made {most} and is in {}",
            ahead.rank, ahead.report.operation
        );
        return Some(found(behind, Some(reason)));
    }
    let odd = odd_one(views)?;
    if let Some(other) = views.iter().find(|view| view.report.operation != odd.report.operation) {
        let (own, theirs) = (&odd.report.operation, &other.report.operation);
        let reason = format!(
            "all ranks wait; call number {fewest} of this one is {own}, but that of rank {} is {theirs}",
            other.rank
        );
        return Some(found(odd, Some(reason)));
    }
    let reason =
        "all ranks wait in the same operation: one of them skipped a call, their sizes differ, or the network between them fails".to_owned();
    Some(found(odd, Some(reason)))
}

fn calls<'a>(views: &'a [PeerView]) -> impl Iterator<Item = u64> + 'a {
    views.iter().map(|view| view.report.calls)
}

/// Among the ranks in the rarest operation, the one without a change for the longest time; the higher rank in a tie.
fn odd_one<'a, 'b>(views: &'a [PeerView<'b>]) -> Option<&'a PeerView<'b>> {
    let mut users = BTreeMap::<&str, usize>::new();
    for view in views {
        *users.entry(&view.report.operation).or_default() += 1;
    }
    let rarest = users.values().copied().min()?;
    if users.len() == 1 {
        return views.iter().max_by_key(|view| view.report.idle);
    }
    views.iter().rev().find(|view| users[view.report.operation.as_str()] == rarest)
}

fn waiting_for(culprit: &PeerView, views: &[PeerView]) -> Option<String> {
    let others = || views.iter().filter(|view| view.rank != culprit.rank);
    let waiting = others().filter(|view| view.report.waits_for_others).count();
    let first = others().find(|view| view.report.waits_for_others)?;
    let operation = &first.report.operation;
    Some(match (waiting, others().count()) {
        (waiting, all) if waiting == all && all > 1 => format!("the others wait for it in {operation}"),
        (1, _) => format!("rank {} waits for it in {operation}", first.rank),
        (waiting, _) => format!("{waiting} others wait for it, rank {} in {operation}", first.rank),
    })
}

fn found(view: &PeerView, reason: Option<String>) -> Symptom {
    Symptom { rank: view.rank, kind: RankFailure::Stuck, since: view.report.idle, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 10;

    fn working(idle: u64) -> LastReport {
        LastReport {
            step: 3,
            phase: "training".into(),
            operation: "forward".into(),
            waits_for_others: false,
            calls: 5,
            idle: Duration::from_secs(idle),
            timeout: Duration::from_secs(LIMIT),
        }
    }

    fn waiting(operation: &str, calls: u64, idle: u64) -> LastReport {
        LastReport { operation: operation.into(), waits_for_others: true, calls, ..working(idle) }
    }

    fn views(reports: &[LastReport]) -> Vec<PeerView<'_>> {
        let silence = Duration::from_secs(5);
        let view = |(rank, report)| PeerView {
            rank,
            report,
            silent_for: Duration::ZERO,
            silence,
            disconnected: false,
        };
        reports.iter().enumerate().map(view).collect()
    }

    fn stuck_rank(reports: &[LastReport]) -> Option<(usize, String)> {
        judge(&views(reports), Duration::from_secs(11)).map(|found| {
            assert_eq!(found.kind, RankFailure::Stuck);
            (found.rank, found.reason.unwrap_or_default())
        })
    }

    #[test]
    fn a_dead_rank_explains_silent_and_stuck_ones() {
        let reports = [working(99), working(0), working(0)];
        let mut views = views(&reports);
        views[1].silent_for = Duration::from_secs(6);
        assert_eq!(
            judge(&views, Duration::ZERO).map(|found| (found.rank, found.kind)),
            Some((1, RankFailure::Silent))
        );
        views[2].disconnected = true;
        assert_eq!(
            judge(&views, Duration::ZERO).map(|found| (found.rank, found.kind)),
            Some((2, RankFailure::Dead))
        );
    }

    #[test]
    fn the_rank_that_does_not_wait_is_stuck() {
        let (rank, reason) =
            stuck_rank(&[waiting("all_reduce", 6, 30), working(12), waiting("all_reduce", 6, 20)]).unwrap();
        assert_eq!((rank, reason.as_str()), (1, "the others wait for it in all_reduce"));
        let (rank, reason) = stuck_rank(&[working(1), working(12), waiting("all_reduce", 6, 20)]).unwrap();
        assert_eq!((rank, reason.as_str()), (1, "rank 2 waits for it in all_reduce"));
        assert_eq!(stuck_rank(&[working(12)]), Some((0, String::new())));
    }

    #[test]
    fn waiting_for_a_working_rank_is_no_failure() {
        assert_eq!(stuck_rank(&[waiting("barrier", 6, 99), working(9), waiting("barrier", 6, 99)]), None);
        let unlimited = LastReport { timeout: Duration::MAX, ..working(9999) };
        assert_eq!(stuck_rank(&[waiting("barrier", 6, 99), unlimited]), None);
    }

    #[test]
    fn a_collective_that_has_just_started_is_no_deadlock() {
        assert_eq!(stuck_rank(&[waiting("all_reduce", 6, 99), waiting("all_reduce", 6, 1)]), None);
        let unlimited = LastReport { timeout: Duration::MAX, ..waiting("barrier", 6, 9999) };
        assert_eq!(stuck_rank(&[unlimited.clone(), unlimited]), None);
    }

    #[test]
    fn the_end_of_a_long_wait_is_no_deadlock() {
        let reports = [waiting("barrier", 6, 99), waiting("barrier", 6, 99)];
        assert_eq!(judge(&views(&reports), Duration::from_millis(1)), None);
    }

    #[test]
    fn a_deadlock_names_the_rank_with_the_fewest_calls() {
        let behind = waiting("barrier", 5, 12);
        let (rank, reason) =
            stuck_rank(&[waiting("all_reduce", 6, 12), behind, waiting("all_reduce", 6, 12)]).unwrap();
        assert_eq!(rank, 1);
        assert_eq!(
            reason,
            "all ranks wait; this one made 5 collective calls, but rank 0 made 6 and is in all_reduce"
        );
    }

    #[test]
    fn a_deadlock_with_equal_calls_names_the_rank_in_another_operation() {
        let odd = waiting("barrier", 6, 12);
        let (rank, reason) =
            stuck_rank(&[waiting("all_reduce", 6, 12), odd, waiting("all_reduce", 6, 12)]).unwrap();
        assert_eq!(rank, 1);
        assert_eq!(
            reason,
            "all ranks wait; call number 6 of this one is barrier, but that of rank 0 is all_reduce"
        );
        let (rank, _) = stuck_rank(&[waiting("all_reduce", 6, 12), waiting("barrier", 6, 12)]).unwrap();
        assert_eq!(rank, 1);
    }

    #[test]
    fn a_deadlock_in_the_same_operation_is_reported_as_such() {
        let (_, reason) = stuck_rank(&[waiting("all_reduce", 6, 12), waiting("all_reduce", 6, 13)]).unwrap();
        assert!(reason.contains("wait in the same operation"), "{reason}");
    }
}

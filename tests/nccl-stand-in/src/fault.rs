//! Injected faults.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandInFaultKind {
    Slow(Duration),
    Hang,
    AsyncError,
    LateError,
    AbortHang,
    InitFail,
    InitHang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandInFault {
    kind: StandInFaultKind,
    rank: Option<usize>,
    call: Option<u64>,
}

/// This process's rank in its first communicator.
static RANK: OnceLock<usize> = OnceLock::new();
/// Number of collectives that this process has started.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Sets the rank for which faults are selected. Only the first call has an effect.
pub(crate) fn set_rank(rank: usize) {
    RANK.get_or_init(|| rank);
}

/// The fault in the environment variable, or an error about its text.
pub(crate) fn configured() -> Result<Option<StandInFault>, String> {
    static FAULT: OnceLock<Result<Option<StandInFault>, String>> = OnceLock::new();
    FAULT
        .get_or_init(|| {
            let slow = std::env::var("NCCL_STAND_IN_SLOW_MS").unwrap_or_else(|_| "100".to_owned());
            match std::env::var("NCCL_STAND_IN_FAULT") {
                Ok(text) if !text.is_empty() => parse(&text, &slow).map(Some),
                _ => Ok(None),
            }
        })
        .clone()
}

fn parse(text: &str, slow: &str) -> Result<StandInFault, String> {
    let invalid = || format!("NCCL_STAND_IN_FAULT is {text:?}, expected KIND[:RANK[:CALL]]");
    let mut fields = text.split(':');
    let kind = match fields.next().unwrap_or_default() {
        "slow" => {
            let millis = slow.parse().map_err(|_| format!("NCCL_STAND_IN_SLOW_MS is {slow:?}"))?;
            StandInFaultKind::Slow(Duration::from_millis(millis))
        }
        "hang" => StandInFaultKind::Hang,
        "async_error" => StandInFaultKind::AsyncError,
        "late_error" => StandInFaultKind::LateError,
        "abort_hang" => StandInFaultKind::AbortHang,
        "init_fail" => StandInFaultKind::InitFail,
        "init_hang" => StandInFaultKind::InitHang,
        _ => return Err(invalid()),
    };
    let rank = fields.next().map(str::parse).transpose().map_err(|_| invalid())?;
    let call = fields.next().map(str::parse).transpose().map_err(|_| invalid())?;
    if fields.next().is_some() { Err(invalid()) } else { Ok(StandInFault { kind, rank, call }) }
}

/// The fault, if it applies to this rank.
fn own_fault() -> Option<StandInFault> {
    let fault = configured().ok().flatten()?;
    let here = fault.rank.is_none_or(|rank| RANK.get() == Some(&rank));
    here.then_some(fault)
}

/// The fault during the creation of a communicator.
pub(crate) fn at_init() -> Option<StandInFaultKind> {
    own_fault()
        .map(|fault| fault.kind)
        .filter(|kind| matches!(kind, StandInFaultKind::InitFail | StandInFaultKind::InitHang))
}

/// Counts a collective; returns its number and its fault.
pub(crate) fn at_call() -> (u64, Option<StandInFaultKind>) {
    let number = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    (number, own_fault().and_then(|fault| fault.at(number)))
}

impl StandInFault {
    fn at(self, number: u64) -> Option<StandInFaultKind> {
        let hit = match self.kind {
            StandInFaultKind::InitFail | StandInFaultKind::InitHang => false,
            StandInFaultKind::Slow(_) => self.call.is_none_or(|call| call == number),
            StandInFaultKind::Hang
            | StandInFaultKind::AsyncError
            | StandInFaultKind::LateError
            | StandInFaultKind::AbortHang => self.call.unwrap_or(1) == number,
        };
        hit.then_some(self.kind)
    }
}

/// Whether `ncclCommAbort` does not return on this rank.
pub(crate) fn abort_hangs() -> bool {
    own_fault().is_some_and(|fault| fault.kind == StandInFaultKind::AbortHang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_kind_rank_and_call() {
        let fault = parse("hang:2:5", "100").unwrap();
        assert_eq!(fault, StandInFault { kind: StandInFaultKind::Hang, rank: Some(2), call: Some(5) });
        assert_eq!((fault.at(4), fault.at(5), fault.at(6)), (None, Some(StandInFaultKind::Hang), None));
        let slow = parse("slow", "30").unwrap();
        assert_eq!(slow.at(9), Some(StandInFaultKind::Slow(Duration::from_millis(30))));
    }

    #[test]
    fn an_unknown_fault_is_an_error() {
        let text = parse("hung:1", "100").unwrap_err();
        assert_eq!(text, "NCCL_STAND_IN_FAULT is \"hung:1\", expected KIND[:RANK[:CALL]]");
    }
}

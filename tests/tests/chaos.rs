//! Faults do not change the result of real runs, and the harness finds planted bugs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;
use tests::chaos::{ChaosOptions, run};
use tests::harness::HarnessOptions;

/// Number of concurrent runs, which mostly wait for the start and the end of processes.
const JOBS: usize = 2;

#[test]
fn law_7_twelve_faults_lose_and_repeat_no_sample() {
    let tally = run(&ChaosOptions { faults: 12, only: None, harness: HarnessOptions::quiet(JOBS) }).unwrap();
    println!("{}", tally.table());
    assert!(tally.is_sound(), "{}", tally.table());
    assert_eq!(tally.shortfalls(12), [""; 0], "{}", tally.table());
}

#[test]
#[ignore = "long; `make test-long` runs it"]
fn law_7_forty_faults_lose_and_repeat_no_sample() {
    let tally = run(&ChaosOptions { faults: 40, only: None, harness: HarnessOptions::quiet(JOBS) }).unwrap();
    println!("{}", tally.table());
    assert!(tally.is_sound(), "{}", tally.table());
    assert_eq!(tally.shortfalls(40), [""; 0], "{}", tally.table());
}

#[test]
fn planted_bugs_are_found_within_a_few_faults() {
    for bug in ["lost_sample", "unsynced_byte", "stale_momentum"] {
        let planted = Some(bug.to_owned());
        let limit = Some(Duration::from_mins(3));
        let harness = HarnessOptions { planted, limit, ..HarnessOptions::quiet(JOBS) };
        let tally = run(&ChaosOptions { faults: 20, only: None, harness }).unwrap();
        println!("{bug} found after {} faults: {}", tally.hits(), tally.problems.join("; "));
        assert!(tally.corrupt > 0, "{bug} was not found: {}", tally.table());
        assert_eq!(tally.lost > 0, bug == "lost_sample", "{}", tally.table());
    }
}

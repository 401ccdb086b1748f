//! Laws 1 and 7 on random combinations of all methods. The harness must also find planted bugs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use combinations::{CombinationOptions, OptionTally, run};
use tests::harness::HarnessOptions;
use trainer::config::words_of;

/// Maximum number of concurrent cases: each has up to four ranks with about 300 MB.
const MAX_JOBS: usize = 8;

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into).min(MAX_JOBS)
}

#[test]
fn laws_1_and_7_hold_on_fifteen_random_combinations() {
    assert_sound(15);
}

#[test]
#[ignore = "long; `make test-long` runs it"]
fn laws_1_and_7_hold_on_sixty_random_combinations_with_every_method() {
    let tally = assert_sound(60);
    for key in ["tuner.kinds", "loss.kind", "head.kind", "head.init"] {
        for word in words_of(key).iter().map(|word| word.word) {
            assert!(tally.count(key, word) > 0, "{key}={word} was not drawn: {}", tally.table());
        }
    }
}

#[test]
fn planted_bugs_are_found_within_a_few_combinations() {
    for bug in ["lost_sample", "stale_momentum", "other_seed"] {
        let planted = Some(bug.to_owned());
        let harness = HarnessOptions { seed: 1, planted, ..HarnessOptions::quiet(1) };
        let tally = run(&CombinationOptions { cases: 6, first: 0, case: None, harness }).unwrap();
        assert_eq!(tally.problems.len(), 1, "{bug} was not found: {}", tally.table());
        let found = tally.problems[0].lines().next().unwrap_or_default();
        println!("{bug} found after {} combinations: {found}", tally.cases);
    }
}

fn assert_sound(cases: u64) -> OptionTally {
    let harness = HarnessOptions::quiet(jobs());
    let tally = run(&CombinationOptions { cases, first: 0, case: None, harness }).unwrap();
    println!("{}", tally.table());
    assert!(tally.is_sound(), "{}\n{}", tally.problems.join("\n"), tally.table());
    tally
}

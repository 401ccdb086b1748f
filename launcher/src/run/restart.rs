//! Decides whether and when a run restarts.

use protocol::Outcome;
use std::fmt;
use std::time::Duration;

/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Decides whether and when to restart: at most `limit` times, and not after two failed attempts in a row without a
/// newer checkpoint. Steps after the last checkpoint do not count as progress, because a restart repeats them.
#[derive(Debug, Clone)]
pub struct RestartBudget {
    limit: u32,
    first_pause: Duration,
    made: u32,
    /// Step of the checkpoint after which the previous attempt failed without a newer one.
    stuck_at: Option<u64>,
    /// How often the first pause has been doubled.
    doublings: u32,
}

/// The decision after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Restart after this time.
    Restart(Duration),
    /// Do not restart.
    Stop(NoRestart),
}

/// Why a run is not restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRestart {
    /// It is done, its input is wrong, or the user stopped it.
    Ended,
    /// No restart is left.
    Limit(u32),
    /// The last two attempts left no checkpoint newer than that of this step.
    NoGain(u64),
}

impl RestartBudget {
    /// At most `limit` restarts, the first after `pause`; the pause doubles as long as no newer checkpoint is saved.
    pub const fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, first_pause: pause, made: 0, stuck_at: None, doublings: 0 }
    }

    /// At most `limit` restarts without a pause, including those that earlier processes made.
    pub const fn continued(limit: u32, made: u32, stuck_at: Option<u64>) -> Self {
        Self { limit, first_pause: Duration::ZERO, made, stuck_at, doublings: 0 }
    }

    /// Restarts so far.
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// The step at which the last attempt made no progress, for [`Self::continued`].
    pub const fn stuck_at(&self) -> Option<u64> {
        self.stuck_at
    }

    /// The decision after an attempt with this outcome. `found` and `left` are the steps of the newest checkpoint
    /// before and after it; 0 if there is none.
    pub fn after(&mut self, outcome: Outcome, found: u64, left: u64) -> RestartDecision {
        if left > found {
            (self.stuck_at, self.doublings) = (None, 0);
        }
        match outcome {
            Outcome::Preempted => self.restart(),
            Outcome::Failed if left > found => self.restart(),
            Outcome::Failed if self.stuck_at == Some(left) => RestartDecision::Stop(NoRestart::NoGain(left)),
            Outcome::Failed => {
                self.stuck_at = Some(left);
                self.without_ranks()
            }
            _ => RestartDecision::Stop(NoRestart::Ended),
        }
    }

    /// The decision after an attempt with too few hosts. That is not a failure of the run, so only the limit ends the
    /// wait for hosts.
    pub fn without_ranks(&mut self) -> RestartDecision {
        let next = self.restart();
        self.doublings += 1;
        next
    }

    fn restart(&mut self) -> RestartDecision {
        if self.made >= self.limit {
            return RestartDecision::Stop(NoRestart::Limit(self.limit));
        }
        self.made += 1;
        let pause = self.first_pause.saturating_mul(1 << self.doublings.min(16));
        RestartDecision::Restart(pause.min(LONGEST_PAUSE.max(self.first_pause)))
    }
}

impl fmt::Display for NoRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended"),
            Self::Limit(0) => f.write_str("not started again; --restarts N would"),
            Self::Limit(limit) => write!(f, "not started again after {limit} of {limit} restarts"),
            Self::NoGain(step) => {
                write!(f, "not started again: {}; look at the log first", no_gain(*step))
            }
        }
    }
}

/// Message after two attempts without a checkpoint newer than that of `step`.
pub fn no_gain(step: u64) -> String {
    format!("two starts in a row gained no checkpoint (the newest is of step {step})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn two_starts_in_a_row_without_a_checkpoint_are_enough() {
        let mut restarts = RestartBudget::new(9, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 0, 4), RestartDecision::Restart(SECOND));
        assert_eq!(restarts.after(Outcome::Failed, 4, 4), RestartDecision::Restart(SECOND));
        assert_eq!(restarts.after(Outcome::Failed, 4, 4), RestartDecision::Stop(NoRestart::NoGain(4)));
        assert_eq!(restarts.made(), 2);
    }

    #[test]
    fn a_checkpoint_gained_resets_the_limit_and_a_preemption_takes_none() {
        let mut restarts = RestartBudget::new(99, SECOND);
        for (outcome, found, left) in [
            (Outcome::Failed, 0, 0),
            (Outcome::Preempted, 0, 0),
            (Outcome::Preempted, 0, 7),
            (Outcome::Failed, 7, 7),
            (Outcome::Failed, 7, 8),
            (Outcome::Failed, 8, 8),
        ] {
            assert!(matches!(restarts.after(outcome, found, left), RestartDecision::Restart(_)), "{left}");
        }
        assert_eq!(restarts.after(Outcome::Done, 8, 9), RestartDecision::Stop(NoRestart::Ended));
    }

    #[test]
    fn another_process_continues_the_count() {
        let mut first = RestartBudget::continued(9, 0, None);
        assert_eq!(first.after(Outcome::Failed, 10, 10), RestartDecision::Restart(Duration::ZERO));
        let mut second = RestartBudget::continued(9, 1, first.stuck_at());
        assert_eq!(second.after(Outcome::Failed, 10, 10), RestartDecision::Stop(NoRestart::NoGain(10)));
        let mut last = RestartBudget::continued(9, 9, None);
        assert_eq!(last.after(Outcome::Preempted, 10, 20), RestartDecision::Stop(NoRestart::Limit(9)));
    }

    #[test]
    fn hosts_are_waited_for_until_no_restart_is_left() {
        let mut restarts = RestartBudget::new(6, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 0, 4), RestartDecision::Restart(SECOND));
        for seconds in [1, 2, 4, 8, 16] {
            assert_eq!(restarts.without_ranks(), RestartDecision::Restart(SECOND * seconds));
        }
        assert_eq!(restarts.without_ranks(), RestartDecision::Stop(NoRestart::Limit(6)));
        let mut restarts = RestartBudget::new(9, SECOND);
        restarts.after(Outcome::Failed, 0, 4);
        for _ in 0..3 {
            restarts.without_ranks();
        }
        assert!(
            matches!(restarts.after(Outcome::Failed, 4, 4), RestartDecision::Restart(_)),
            "one start without gain"
        );
    }

    #[test]
    fn the_limit_holds_also_when_checkpoints_are_gained() {
        let mut restarts = RestartBudget::new(1, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 0, 1), RestartDecision::Restart(SECOND));
        assert_eq!(restarts.after(Outcome::Failed, 1, 2), RestartDecision::Stop(NoRestart::Limit(1)));
    }

    #[test]
    fn wrong_input_and_the_persons_wish_are_final() {
        for outcome in [Outcome::WrongInput, Outcome::Interrupted, Outcome::Done] {
            assert_eq!(
                RestartBudget::new(9, SECOND).after(outcome, 0, 0),
                RestartDecision::Stop(NoRestart::Ended)
            );
        }
    }

    #[test]
    fn pauses_grow_up_to_five_minutes() {
        let mut restarts = RestartBudget { doublings: 1, ..RestartBudget::new(9, SECOND * 200) };
        assert_eq!(restarts.without_ranks(), RestartDecision::Restart(SECOND * 300));
        assert_eq!(restarts.after(Outcome::Failed, 1, 2), RestartDecision::Restart(SECOND * 200));
        assert_eq!(restarts.after(Outcome::Failed, 2, 2), RestartDecision::Restart(SECOND * 200));
        assert_eq!(restarts.without_ranks(), RestartDecision::Restart(SECOND * 300));
    }
}

//! Whether and when a run that ended is started again.

use protocol::Outcome;
use std::fmt;
use std::time::Duration;

/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Restarts in a row that may gain no step.
const PATIENCE: u32 = 2;

/// What is left of the restarts.
#[derive(Debug, Clone)]
pub struct Restarts {
    limit: u32,
    first_pause: Duration,
    made: u32,
    without_gain: u32,
    /// How often the first pause is doubled.
    doublings: u32,
    /// The furthest step that an earlier start reached.
    best: Option<u64>,
}

/// What to do after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start again after this time.
    Restart(Duration),
    /// Leave it.
    Stop(Why),
}

/// Why a run is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is done, or its input is wrong, or the person stopped it: nothing would change, or nobody wants it.
    Ended,
    /// No restart is left.
    Limit(u32),
    /// The last restarts gained nothing.
    NoGain(u64),
}

impl Restarts {
    /// At most `limit`, the first after `pause`; the pause doubles as long as no step is gained.
    pub const fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, first_pause: pause, made: 0, without_gain: 0, doublings: 0, best: None }
    }

    /// Restarts so far.
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// What to do after a start that ended like this, at this step of the whole run.
    pub fn after(&mut self, outcome: Outcome, step: u64) -> Next {
        self.count(step);
        if !matches!(outcome, Outcome::Failed | Outcome::Preempted) {
            return Next::Stop(Why::Ended);
        }
        if self.without_gain >= PATIENCE {
            return Next::Stop(Why::NoGain(self.best.unwrap_or(0)));
        }
        self.restart()
    }

    /// What to do after a start that had too few hosts for its ranks. It says nothing about the run, so only the limit
    /// ends the waiting for hosts.
    pub fn without_ranks(&mut self) -> Next {
        let next = self.restart();
        self.doublings += 1;
        next
    }

    fn restart(&mut self) -> Next {
        if self.made >= self.limit {
            return Next::Stop(Why::Limit(self.limit));
        }
        self.made += 1;
        let pause = self.first_pause.saturating_mul(1 << self.doublings.min(16));
        Next::Restart(pause.min(LONGEST_PAUSE.max(self.first_pause)))
    }

    fn count(&mut self, step: u64) {
        match self.best {
            // The first start is no restart: it has nothing to gain over.
            None => self.best = Some(step),
            Some(best) if step > best => {
                self.best = Some(step);
                (self.without_gain, self.doublings) = (0, 0);
            }
            Some(_) => {
                self.without_gain += 1;
                self.doublings += 1;
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended"),
            Self::Limit(0) => f.write_str("not started again; --restarts N would"),
            Self::Limit(limit) => write!(f, "not started again after {limit} of {limit} restarts"),
            Self::NoGain(step) => write!(
                f,
                "not started again: {PATIENCE} restarts in a row gained no step (still at step {step}); look at the log first"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn two_restarts_in_a_row_without_a_step_are_enough() {
        let mut restarts = Restarts::new(9, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 4), Next::Restart(SECOND));
        assert_eq!(restarts.after(Outcome::Failed, 4), Next::Restart(SECOND * 2));
        assert_eq!(restarts.after(Outcome::Failed, 3), Next::Stop(Why::NoGain(4)));
        assert_eq!(restarts.made(), 2);
    }

    #[test]
    fn a_step_gained_makes_patience_new() {
        let mut restarts = Restarts::new(9, SECOND);
        for step in [0, 0, 7, 7, 8] {
            assert!(matches!(restarts.after(Outcome::Preempted, step), Next::Restart(_)), "{step}");
        }
        assert_eq!(restarts.after(Outcome::Done, 9), Next::Stop(Why::Ended));
    }

    #[test]
    fn hosts_are_waited_for_until_no_restart_is_left() {
        let mut restarts = Restarts::new(6, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 4), Next::Restart(SECOND));
        for seconds in [1, 2, 4, 8, 16] {
            assert_eq!(restarts.without_ranks(), Next::Restart(SECOND * seconds));
        }
        assert_eq!(restarts.without_ranks(), Next::Stop(Why::Limit(6)));
        let mut restarts = Restarts::new(9, SECOND);
        restarts.after(Outcome::Failed, 4);
        for _ in 0..3 {
            restarts.without_ranks();
        }
        assert!(matches!(restarts.after(Outcome::Failed, 4), Next::Restart(_)), "one restart without gain");
    }

    #[test]
    fn the_limit_holds_also_when_steps_are_gained() {
        let mut restarts = Restarts::new(1, SECOND);
        assert_eq!(restarts.after(Outcome::Failed, 1), Next::Restart(SECOND));
        assert_eq!(restarts.after(Outcome::Failed, 2), Next::Stop(Why::Limit(1)));
    }

    #[test]
    fn wrong_input_and_the_persons_wish_are_final() {
        for outcome in [Outcome::WrongInput, Outcome::Interrupted, Outcome::Done] {
            assert_eq!(Restarts::new(9, SECOND).after(outcome, 0), Next::Stop(Why::Ended));
        }
    }

    #[test]
    fn pauses_grow_up_to_five_minutes() {
        let mut restarts = Restarts { doublings: 1, best: Some(1), ..Restarts::new(9, SECOND * 200) };
        assert_eq!(restarts.after(Outcome::Failed, 2), Next::Restart(SECOND * 200));
        assert_eq!(restarts.after(Outcome::Failed, 2), Next::Restart(SECOND * 300));
    }
}

//! How long a step may take, learned from the steps before it.

use std::collections::VecDeque;
use std::time::Duration;

/// Steps that are remembered.
const REMEMBERED: usize = 32;

/// Derives a timeout from the durations of the last steps: their median times a factor, at least a floor.
///
/// The median, because a first step that compiles kernels or one step behind a slow disk says nothing of the rest.
#[derive(Debug, Clone)]
pub struct StepClock {
    recent: VecDeque<Duration>,
    floor: Duration,
    factor: u32,
}

impl Default for StepClock {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), 5)
    }
}

impl StepClock {
    /// A clock without steps yet.
    pub fn new(floor: Duration, factor: u32) -> Self {
        Self { recent: VecDeque::with_capacity(REMEMBERED), floor, factor }
    }

    /// A step took so long.
    pub fn record(&mut self, step: Duration) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(step);
    }

    /// The median of the last steps; `None` before the first.
    pub fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// How long nothing may change from here on; `None` before the first step, of which nothing is known.
    pub fn timeout(&self) -> Option<Duration> {
        Some(self.median()?.saturating_mul(self.factor).max(self.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn quick_steps_get_the_floor_and_slow_ones_a_multiple_of_their_median() {
        let mut clock = StepClock::default();
        assert_eq!(clock.timeout(), None);
        clock.record(SECOND / 10);
        assert_eq!(clock.timeout(), Some(10 * SECOND));
        for _ in 0..3 {
            clock.record(4 * SECOND);
        }
        assert_eq!(clock.timeout(), Some(20 * SECOND));
    }

    #[test]
    fn one_slow_step_changes_nothing() {
        let mut clock = StepClock::new(SECOND, 3);
        (0..9).for_each(|_| clock.record(SECOND));
        clock.record(1000 * SECOND);
        assert_eq!(clock.timeout(), Some(3 * SECOND));
    }

    #[test]
    fn only_the_last_steps_count() {
        let mut clock = StepClock::new(SECOND, 2);
        (0..100).for_each(|_| clock.record(SECOND));
        (0..REMEMBERED).for_each(|_| clock.record(7 * SECOND));
        assert_eq!(clock.timeout(), Some(14 * SECOND));
    }

    #[test]
    fn an_absurd_step_does_not_overflow() {
        let mut clock = StepClock::default();
        clock.record(Duration::MAX);
        assert_eq!(clock.timeout(), Some(Duration::MAX));
    }
}

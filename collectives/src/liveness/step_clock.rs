//! Derives the timeout of a step from the durations of the previous steps.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of steps in the window.
const WINDOW: usize = 32;

/// Computes a timeout: the median duration of the last steps times a factor, but at least a floor.
///
/// The median ignores outliers, such as a first step that compiles kernels or a step that waits for a slow disk.
#[derive(Debug, Clone)]
pub struct StepClock {
    window: VecDeque<Duration>,
    floor: Duration,
    factor: u32,
}

impl Default for StepClock {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), 5)
    }
}

impl StepClock {
    /// A clock without steps.
    pub fn new(floor: Duration, factor: u32) -> Self {
        Self { window: VecDeque::with_capacity(WINDOW), floor, factor }
    }

    /// Records the duration of a step.
    pub fn record(&mut self, step: Duration) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(step);
    }

    /// Median duration of the last steps; `None` before the first step.
    pub fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.window.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Time without progress after which the rank counts as stuck; `None` before the first step.
    pub fn timeout(&self) -> Option<Duration> {
        Some(self.median()?.saturating_mul(self.factor).max(self.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_timeout_is_the_floor_or_a_multiple_of_the_median() {
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
    fn one_slow_step_does_not_change_the_timeout() {
        let mut clock = StepClock::new(SECOND, 3);
        (0..9).for_each(|_| clock.record(SECOND));
        clock.record(1000 * SECOND);
        assert_eq!(clock.timeout(), Some(3 * SECOND));
    }

    #[test]
    fn only_the_last_steps_count() {
        let mut clock = StepClock::new(SECOND, 2);
        (0..100).for_each(|_| clock.record(SECOND));
        (0..WINDOW).for_each(|_| clock.record(7 * SECOND));
        assert_eq!(clock.timeout(), Some(14 * SECOND));
    }

    #[test]
    fn the_longest_possible_step_does_not_overflow() {
        let mut clock = StepClock::default();
        clock.record(Duration::MAX);
        assert_eq!(clock.timeout(), Some(Duration::MAX));
    }
}

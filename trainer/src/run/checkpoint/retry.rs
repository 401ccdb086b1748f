//! Retries of transient errors.

use super::CheckpointError;
use std::time::Duration;

/// Pauses between the attempts to load.
pub(super) const LOAD_PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// Repeats `attempt` until it succeeds, fails permanently, or all pauses are used.
pub(super) fn patiently<T>(
    pauses: &[Duration],
    mut told: impl FnMut(&CheckpointError, Duration),
    mut attempt: impl FnMut() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    for pause in pauses {
        match attempt() {
            Err(error) if error.is_transient() => {
                told(&error, *pause);
                std::thread::sleep(*pause);
            }
            outcome => return outcome,
        }
    }
    attempt()
}

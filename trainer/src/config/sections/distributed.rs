//! `[distributed]`: several ranks.

use super::super::section::section;

section! {
    /// Several ranks.
    pub struct Distributed in "distributed" {
        /// Seconds that a rank waits for the others before it ends the job.
        pub timeout_seconds: u64,
    }
}

//! `[eval]`: testing.

use super::super::section::section;

section! {
    /// Testing.
    pub struct Eval in "eval" {
        /// Images that each rank tests at once; it changes memory and speed only.
        pub batch_size: u64,
        /// Epochs between two tests; 0 tests only at the end.
        pub every_epochs: u64,
    }
}

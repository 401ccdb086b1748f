//! The room that sees all others: it sets a run up, makes its steps, trains and evaluates, over ranks.

pub mod eval;
pub mod failure;
pub mod memory;
pub mod panics;
pub mod rank;
pub mod setup;
pub mod step;
pub mod training;

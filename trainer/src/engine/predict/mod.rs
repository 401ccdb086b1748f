//! Predictions for images that a user names: the most probable classes of each, in the order of the input.

mod applied;
mod ranking;

pub use applied::AppliedRun;
pub use ranking::{Adjustment, Guess, Prediction, PredictionRun, Ranking, Rule};

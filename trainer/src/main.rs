//! lift-trainer
fn main() {}

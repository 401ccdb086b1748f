//! lift
fn main() {}

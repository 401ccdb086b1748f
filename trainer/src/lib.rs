//! LIFT training.

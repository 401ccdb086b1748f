//! Whole-system tests over real processes.

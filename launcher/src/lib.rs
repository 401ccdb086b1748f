//! Launcher library.

//! A Python with PyTorch, for comparisons.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that can load PyTorch: that of `LIFT_PYTHON`, of the repository, or the system's. `None`, said aloud, where
/// there is none.
pub fn with_torch(test: &str) -> Option<PathBuf> {
    with(test, "torch", "its part with PyTorch")
}

/// A Python that can import `modules` (`a, b`), of the same ones. `None`, said aloud for `part` of a test, where there is
/// none.
pub fn with(test: &str, modules: &str, part: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let candidates = [std::env::var_os("LIFT_PYTHON").map(PathBuf::from), Some(own), Some("python3".into())];
    let loads = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", &format!("import {modules}")]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().flatten().find(loads);
    if found.is_none() {
        eprintln!("skipped: {test}, {part} (no Python that has {modules}; LIFT_PYTHON can name one)");
    }
    found
}

//! Where the tests of this room find their reference files.

use super::decode::RgbImage;
use std::path::{Path, PathBuf};

/// An image of noise; the script that made the reference values of `resize` draws the same.
pub(crate) fn noise(width: u32, height: u32) -> RgbImage {
    let pixels = (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    RgbImage { width, height, pixels }
}

/// Reference files that are part of the repository.
pub(crate) fn kept(name: &str) -> PathBuf {
    repository().join("tests/fixtures/images").join(name)
}

/// A folder of the shared data sets (`LIFT_DATA`), or none with a word on the terminal.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    shared("LIFT_DATA", "data", name)
}

/// A folder of the golden fixtures (`LIFT_FIXTURES`), or none with a word on the terminal.
pub(crate) fn golden(name: &str) -> Option<PathBuf> {
    shared("LIFT_FIXTURES", "fixtures", name)
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shared(variable: &str, folder: &str, name: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os(variable).map_or_else(|| repository().join("../shared").join(folder), PathBuf::from);
    let path = base.join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {name} ({variable} not found)");
    None
}

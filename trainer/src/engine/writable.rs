//! Files that the user names for output are checked before any work.

use crate::engine::failure::Failure;
use std::path::Path;

/// Refuses a path that no file can be written to; `flag` names it in the message.
pub fn check(flag: &str, path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reason = if path.is_dir() {
        "it is a folder".to_owned()
    } else if !folder.is_dir() {
        let folder = folder.display();
        format!("there is no folder `{folder}`\nhint: create it: `mkdir -p {folder}`")
    } else {
        return Ok(());
    };
    Err(Failure::input(format!("{flag} `{}` cannot be written: {reason}", path.display())))
}

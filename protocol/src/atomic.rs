//! Atomic replacement of files: a reader, also after a crash at any moment, sees either the old or the new content.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// Permissions of new files before the umask applies.
const NEW_FILE: u32 = 0o666;

/// Writes `content` to a temporary file beside `path`, syncs it to disk, and renames it to `path`.
///
/// On an error, `path` is unchanged and the temporary file is removed. A killed process can leave a hidden
/// `.NAME.*.tmp`, which is never read.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, content)?;
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|failure| failure.error)?;
    sync_folder(folder_of(path))
}

/// Like [`write_atomically`], but without waiting for the disk, for files that are soon replaced again: after a power
/// loss the file may be old or empty.
pub fn write_quickly(path: &Path, content: &[u8]) -> io::Result<()> {
    write_beside(path, content)?.persist(path).map_err(|failure| failure.error)?;
    Ok(())
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not the name of a file", path.display()))
    })?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut beside = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(NEW_FILE))
        .tempfile_in(folder_of(path))?;
    beside.write_all(content)?;
    Ok(beside)
}

/// Syncs `folder` to disk, so that a file just created or renamed there survives a power loss.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot sync a folder; they order directory updates themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        outcome => outcome,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        write_atomically(&path, b"one, and long").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["status.json"]);
    }

    #[test]
    fn others_may_read_it_as_the_umask_says() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("ours");
        let plain = folder.path().join("plain");
        write_atomically(&ours, b"").unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        std::fs::write(taken.join("inside"), b"old").unwrap();
        assert!(write_atomically(&taken, b"new").is_err());
        assert_eq!(names(folder.path()), ["taken"]);
        assert!(write_atomically(&folder.path().join("absent/file"), b"new").is_err());
        assert!(write_atomically(Path::new("/"), b"new").is_err());
    }

    #[test]
    fn a_reader_never_sees_half_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, &vec![b'a'; 30_000]).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for letter in [b'b', b'c'] {
                let (path, stop) = (&path, &stop);
                scope.spawn(move || {
                    for round in 1..40 {
                        write_atomically(path, &vec![letter; 1000 * round]).unwrap();
                    }
                    stop.store(true, Ordering::Relaxed);
                });
            }
            while !stop.load(Ordering::Relaxed) {
                let content = std::fs::read(&path).unwrap();
                assert!(content.len() >= 1000 && content.len().is_multiple_of(1000), "{}", content.len());
                assert!(content.iter().all(|byte| *byte == content[0]));
            }
        });
        assert_eq!(names(folder.path()), ["file"]);
    }
}

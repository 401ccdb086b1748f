//! The end of a log file.

use protocol::layout;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Maximum number of bytes read to find the last lines of a file.
const MOST: u64 = 64 * 1024;

/// Sizes of the logs in a run folder at one moment: bytes after that are new.
#[derive(Debug, Default)]
pub struct Sizes(HashMap<PathBuf, u64>);

impl Sizes {
    /// The current sizes of the logs in this run folder.
    pub fn of(run: &Path) -> Self {
        let entries = std::fs::read_dir(run.join(layout::LOGS)).into_iter().flatten().flatten();
        Self(entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect())
    }

    /// The size of this file; 0 if it did not exist.
    pub fn of_file(&self, path: &Path) -> u64 {
        self.0.get(path).copied().unwrap_or(0)
    }
}

/// The last `count` lines of a file after its first `from` bytes, without the states that a progress bar overwrote.
pub fn last_lines(path: &Path, from: u64, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST).max(from)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(|line| line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(""));
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect())
}

/// The log files of a rank that exist and are not empty, the most useful first: its standard error as `mpirun` wrote it
/// below `streams`, then its own log in the run folder.
pub fn logs_of_rank(rank: usize, streams: Option<&Path>, run: Option<&Path>) -> Vec<PathBuf> {
    let mut files = streams.map(|folder| stream_files(folder, rank)).unwrap_or_default();
    files.extend(run.map(|run| run.join(layout::LOGS).join(layout::rank_log(rank))));
    files.retain(|path| path.metadata().is_ok_and(|data| data.len() > 0));
    files
}

/// `FOLDER/<job>/rank.<number with leading zeros>/{stderr,stdout}`
fn stream_files(folder: &Path, rank: usize) -> Vec<PathBuf> {
    let entries =
        |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_rank = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix("rank.")?.parse().ok());
        name == Some(rank)
    };
    let folders = entries(folder).flat_map(|job| entries(&job).collect::<Vec<_>>()).filter(of_rank);
    folders.flat_map(|rank| [rank.join("stderr"), rank.join("stdout")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_what_was_seen_last() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n\ntwo\n10 %\r50 %\r100 %\r\nlast").unwrap();
        assert_eq!(last_lines(file.path(), 0, 3).unwrap(), ["two", "100 %", "last"]);
        assert_eq!(last_lines(file.path(), 0, 99).unwrap().len(), 4);
    }

    #[test]
    fn what_was_there_before_is_left_out() {
        let run = tempfile::tempdir().unwrap();
        let log = run.path().join("logs/rank-0.log");
        std::fs::create_dir_all(run.path().join("logs")).unwrap();
        std::fs::write(&log, "of an earlier start\n").unwrap();
        let sizes = Sizes::of(run.path());
        assert!(last_lines(&log, sizes.of_file(&log), 9).unwrap().is_empty());
        std::fs::write(&log, "of an earlier start\nof this one\n").unwrap();
        assert_eq!(last_lines(&log, sizes.of_file(&log), 9).unwrap(), ["of this one"]);
        assert_eq!(sizes.of_file(Path::new("other")), 0);
    }

    #[test]
    fn a_long_file_is_not_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "line\n".repeat(100_000)).unwrap();
        assert_eq!(last_lines(file.path(), 0, 2).unwrap(), ["line", "line"]);
    }

    #[test]
    fn logs_of_a_rank_are_found_with_leading_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let (streams, run) = (folder.path().join("streams"), folder.path().join("run"));
        for (path, text) in [("1/rank.03/stderr", "bad"), ("1/rank.03/stdout", ""), ("1/rank.13/stderr", "x")]
        {
            let path = streams.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(run.join("logs")).unwrap();
        std::fs::write(run.join("logs/rank-3.log"), "log").unwrap();
        let found = logs_of_rank(3, Some(&streams), Some(&run));
        assert_eq!(found, [streams.join("1/rank.03/stderr"), run.join("logs/rank-3.log")]);
    }
}

//! A folder: its file system, free space, locks, and the speed of writing and reading.

use super::child::{ChildEnd, ask};
use super::probes::ProbeCommand;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;
use procfs::process::Process;
use protocol::lock::{Locking, try_lock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for all measurements of a folder.
const LIMIT: Duration = Duration::from_millis(3500);
/// Time after which writing, or reading, is measured no further.
const MEASURED: Duration = Duration::from_millis(400);
/// Most bytes that are written and forced to disk at once, and that are written in all.
const PIECE: usize = 4 << 20;
const PIECES: usize = 16;
/// Most files and folders of a data set that are opened.
const MOST_OPENED: usize = 256;

/// Types of file systems that other machines serve.
const NETWORK: [&str; 13] = [
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "afs", "wekafs", "orangefs", "9p",
    "panfs",
];

/// How a run uses a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FolderUsage {
    /// It writes runs there.
    Output,
    /// It reads images there.
    Data,
    /// Ranks share memory there.
    Memory,
}

impl FolderUsage {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Data => "data",
            Self::Memory => "memory",
        }
    }
}

/// A folder or a file. What could not be found out is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FolderFacts {
    /// The path that was asked for.
    pub path: PathBuf,
    /// Whether it exists.
    pub exists: Option<bool>,
    /// The folder that was measured: the path, or the nearest folder above it that exists.
    pub measured: Option<PathBuf>,
    /// Type of the file system, such as `ext4` or `nfs4`.
    pub file_system: Option<String>,
    /// What is mounted there: a device, or a server.
    pub source: Option<String>,
    /// Whether other machines serve it.
    pub network: Option<bool>,
    /// Size of the file system.
    pub size_bytes: Option<u64>,
    /// Free space for this user.
    pub free_bytes: Option<u64>,
    /// Whether a file can be created and written.
    pub writable: Option<bool>,
    /// Whether files can be locked.
    pub locks: Option<bool>,
    /// Speed of writing with `fsync` after every 4 MiB.
    pub write_bytes_per_second: Option<f64>,
    /// Speed of reading, as far as possible without the page cache.
    pub read_bytes_per_second: Option<f64>,
    /// The operation that failed, and the error of the system.
    pub error: Option<String>,
    /// Whether it did not answer in time.
    pub timed_out: bool,
}

/// Measures a folder in a child process.
pub(super) fn look(path: &Path, usage: FolderUsage) -> FolderFacts {
    let own = FolderFacts { path: path.to_owned(), ..FolderFacts::default() };
    let mut command = match (ProbeCommand::Folder { path: path.to_owned(), usage }).command() {
        Ok(command) => command,
        Err(error) => return FolderFacts { error: Some(error.to_string()), ..own },
    };
    let answer = ask(&mut command, LIMIT);
    let told: FolderFacts = answer.facts();
    FolderFacts {
        path: own.path,
        error: told.error.or_else(|| answer.failure()),
        timed_out: matches!(answer.end, ChildEnd::TimedOut(_)),
        ..told
    }
}

/// Inside the child: prints what it finds, the quick facts first.
pub(super) fn probe(path: &Path, usage: FolderUsage, tell: &mut dyn FnMut(Value)) {
    if let Err((operation, error)) = measure(path, usage, tell) {
        tell(json!({ "error": format!("cannot {operation}: {error}") }));
    }
}

type Failed = (&'static str, io::Error);

fn measure(path: &Path, usage: FolderUsage, tell: &mut dyn FnMut(Value)) -> Result<(), Failed> {
    let path = std::path::absolute(path).map_err(|error| ("resolve the path", error))?;
    tell(json!({ "exists": path.exists() }));
    let there = existing(&path).map_err(|error| ("find the folder", error))?;
    tell(json!({ "measured": there }));
    if let Some((file_system, source)) = mounted(&there) {
        let network = NETWORK.contains(&file_system.as_str()) || file_system.starts_with("fuse.");
        tell(json!({ "file_system": file_system, "source": source, "network": network }));
    }
    let space = statvfs(&there).map_err(|errno| ("read the free space", errno.into()))?;
    let unit = space.fragment_size();
    tell(json!({ "size_bytes": space.blocks() * unit, "free_bytes": space.blocks_available() * unit }));
    match usage {
        FolderUsage::Data => read_files(&there, tell),
        FolderUsage::Output | FolderUsage::Memory => write(&there, usage, tell),
    }
}

/// The path, or the nearest folder above it that exists.
fn existing(path: &Path) -> io::Result<PathBuf> {
    let mut error = None;
    for path in path.ancestors() {
        match path.canonicalize() {
            Ok(found) => return Ok(found),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => error = Some(failed),
            Err(failed) => return Err(failed),
        }
    }
    Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Type and source of the file system that contains the path: the mount with the longest path, the last of several.
fn mounted(path: &Path) -> Option<(String, Option<String>)> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).ok()?;
    let above = mounts.into_iter().filter(|mount| path.starts_with(&mount.mount_point));
    let mount = above.max_by_key(|mount| mount.mount_point.components().count())?;
    Some((mount.fs_type, mount.mount_source))
}

/// Writes a file without a name, which the system removes in any case.
fn write(folder: &Path, usage: FolderUsage, tell: &mut dyn FnMut(Value)) -> Result<(), Failed> {
    let created = tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&[1]).map(|()| file));
    let mut file = created.map_err(|error| {
        tell(json!({ "writable": false }));
        ("write a file", error)
    })?;
    if usage == FolderUsage::Memory {
        tell(json!({ "writable": true }));
        return Ok(());
    }
    let locking = try_lock(&file).map_err(|error| ("lock a file", error))?;
    tell(json!({ "writable": true, "locks": locking != Locking::Unknown }));
    let piece = vec![0x5a; PIECE];
    let start = Instant::now();
    let mut written = 0;
    while written < PIECES && start.elapsed() < MEASURED {
        file.write_all(&piece).and_then(|()| file.sync_all()).map_err(|error| {
            tell(json!({ "writable": false }));
            ("write 4 MiB", error)
        })?;
        written += 1;
    }
    let speed = (written * PIECE) as f64 / start.elapsed().as_secs_f64();
    tell(json!({ "write_bytes_per_second": speed }));
    file.rewind().map_err(|error| ("read the file back", error))?;
    let mut clock = ReadClock::start();
    clock.read(&mut file).map_err(|error| ("read the file back", error))?;
    tell(json!({ "read_bytes_per_second": clock.speed() }));
    Ok(())
}

/// Reads the first files that a search finds.
fn read_files(path: &Path, tell: &mut dyn FnMut(Value)) -> Result<(), Failed> {
    let (mut places, mut clock) = (vec![path.to_owned()], ReadClock::start());
    for _ in 0..MOST_OPENED {
        let Some(place) = places.pop().filter(|_| !clock.is_over()) else { break };
        if place.is_dir() {
            let entries = std::fs::read_dir(&place).map_err(|error| ("list the folder", error))?;
            places.extend(entries.take(MOST_OPENED).flatten().map(|entry| entry.path()));
        } else if place.is_file() {
            let mut file = File::open(&place).map_err(|error| ("open a file", error))?;
            clock.read(&mut file).map_err(|error| ("read a file", error))?;
        }
    }
    tell(json!({ "read_bytes_per_second": clock.speed() }));
    Ok(())
}

/// Measures the speed of reading, until its time is over.
struct ReadClock {
    spent: Duration,
    bytes: usize,
}

impl ReadClock {
    const fn start() -> Self {
        Self { spent: Duration::ZERO, bytes: 0 }
    }

    fn is_over(&self) -> bool {
        self.spent >= MEASURED || self.bytes >= PIECE * PIECES
    }

    fn read(&mut self, file: &mut File) -> io::Result<()> {
        // Only a hint: pages that stay in the cache make the figure larger.
        let _ = posix_fadvise(&*file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let mut buffer = vec![0; 1 << 20];
        while !self.is_over() {
            let start = Instant::now();
            let count = file.read(&mut buffer)?;
            self.spent += start.elapsed();
            self.bytes += count;
            if count == 0 {
                break;
            }
        }
        Ok(())
    }

    fn speed(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bytes as f64 / self.spent.as_secs_f64().max(1e-6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &Path, usage: FolderUsage) -> FolderFacts {
        let mut lines = Vec::new();
        probe(path, usage, &mut |fact| lines.push(fact.to_string()));
        protocol::probe::merged(&lines.join("\n"))
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_measured_above_it_and_nothing_is_left_there() {
        let folder = tempfile::tempdir().unwrap();
        let facts = found(&folder.path().join("runs/a"), FolderUsage::Output);
        assert_eq!(facts.error, None);
        assert_eq!(facts.exists, Some(false));
        assert_eq!(facts.measured, Some(folder.path().canonicalize().unwrap()));
        assert_eq!((facts.writable, facts.locks), (Some(true), Some(true)));
        assert!(facts.write_bytes_per_second.unwrap() > 0.0 && facts.read_bytes_per_second.unwrap() > 0.0);
        assert!(facts.free_bytes <= facts.size_bytes && facts.file_system.is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn data_are_read_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("train")).unwrap();
        std::fs::write(folder.path().join("train/a.png"), vec![1; 100_000]).unwrap();
        let facts = found(folder.path(), FolderUsage::Data);
        assert!(facts.read_bytes_per_second.unwrap() > 0.0, "{facts:?}");
        assert_eq!((facts.writable, facts.write_bytes_per_second, facts.error), (None, None, None));
        let file = found(&folder.path().join("train/a.png"), FolderUsage::Data);
        assert!(file.read_bytes_per_second.is_some());
    }

    #[test]
    fn a_folder_of_the_kernel_cannot_be_written() {
        let facts = found(Path::new("/proc"), FolderUsage::Memory);
        assert_eq!(facts.writable, Some(false));
        assert!(facts.error.unwrap().starts_with("cannot write a file: "));
        assert_eq!(facts.file_system.as_deref(), Some("proc"));
    }
}

//! The shared-memory file through which the ranks of a communicator exchange data.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Maximum number of bytes that a rank can post per round.
pub(crate) const CHUNK: usize = 256 << 10;
const PAGE: usize = 4096;
const NAME: &str = "nccl-stand-in-";

/// Header of the file. A new file contains zeros.
#[repr(C)]
struct BoardHead {
    /// Number of ranks, set by the first one.
    size: AtomicU64,
    /// Number of ranks that have opened the file.
    joined: AtomicU64,
}

/// State of one rank, in separate cache lines.
#[repr(C, align(256))]
pub(crate) struct BoardLine {
    /// Last round in which this rank has posted data.
    pub(crate) posted: AtomicU64,
    /// Last round that this rank has read.
    pub(crate) read: AtomicU64,
    /// Signature of the call to which this rank's round belongs.
    pub(crate) signature: AtomicU64,
    /// Last split for which this rank has posted color and key.
    pub(crate) split_posted: AtomicU64,
    /// Last split of which this rank has read all colors and keys.
    pub(crate) split_read: AtomicU64,
    pub(crate) color: AtomicI64,
    pub(crate) key: AtomicI64,
}

pub(crate) struct Board {
    map: MmapRaw,
    path: PathBuf,
    size: usize,
}

impl Board {
    /// Opens or creates the file and waits for all ranks; `None` if `stop` ends the wait.
    pub(crate) fn join(path: &Path, size: usize, stop: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // Every rank sets the same length; the system allocates pages on first use.
        file.set_len(Self::length(size) as u64)?;
        let map = MmapOptions::new().len(Self::length(size)).map_raw(&file)?;
        let board = Self { map, path: path.to_owned(), size };
        let head = board.head();
        let stored_size = head.size.compare_exchange(0, size as u64, Ordering::AcqRel, Ordering::Acquire);
        if stored_size.is_err_and(|other| other != size as u64) {
            return Err(io::Error::other("the ranks have different world sizes"));
        }
        head.joined.fetch_add(1, Ordering::AcqRel);
        let complete = wait(|| head.joined.load(Ordering::Acquire) >= size as u64, stop);
        // All ranks have opened the file, or none will use it, so its name is no longer needed.
        let _ = std::fs::remove_file(&board.path);
        Ok(complete.then_some(board))
    }

    fn lines_end(size: usize) -> usize {
        (PAGE + size * size_of::<BoardLine>()).next_multiple_of(PAGE)
    }

    fn length(size: usize) -> usize {
        Self::lines_end(size) + size * CHUNK
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    #[allow(clippy::cast_ptr_alignment, reason = "the map starts at a page")]
    fn head(&self) -> &BoardHead {
        // SAFETY: the map is page-aligned and longer than the header; any bytes are valid atomics.
        unsafe { &*self.map.as_ptr().cast::<BoardHead>() }
    }

    #[allow(clippy::cast_ptr_alignment, reason = "lines start at the second page and are 256 bytes long")]
    pub(crate) fn line(&self, rank: usize) -> &BoardLine {
        debug_assert!(rank < self.size);
        // SAFETY: the line is inside the map and aligned to 256 bytes; any bytes are valid atomics.
        unsafe { &*self.map.as_ptr().add(PAGE).cast::<BoardLine>().add(rank) }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &BoardLine> {
        (0..self.size).map(|rank| self.line(rank))
    }

    /// The data slot of a rank: `CHUNK` bytes.
    pub(crate) fn data(&self, rank: usize) -> *mut u8 {
        debug_assert!(rank < self.size);
        // SAFETY: the slot is inside the map.
        unsafe { self.map.as_mut_ptr().add(Self::lines_end(self.size) + rank * CHUNK) }
    }
}

/// Waits for `done`; returns false if `stop` ends the wait.
pub(crate) fn wait(done: impl Fn() -> bool, stop: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !done() {
        if stop() {
            return false;
        }
        // There may be more ranks than cores, so sleep after a short spin.
        if begin.elapsed() < Duration::from_micros(200) {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    true
}

/// A unique file name that is short enough for a unique id.
pub(crate) fn new_path() -> PathBuf {
    let folder = Path::new("/dev/shm");
    let folder = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
    sweep(&folder);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    folder.join(format!("{NAME}{}-{nanos:x}", std::process::id()))
}

/// Removes files of processes that were killed before all ranks had joined.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(NAME)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

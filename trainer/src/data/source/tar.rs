//! A tar file of images, read in place: its headers are read once, its contents at their offsets, by any
//! number of threads. ustar names, GNU long names and pax paths and sizes are understood.
//!
//! `entries_with_seek` of the `tar` crate returns the same offsets, but accepts an archive that was cut short (it
//! seeks past the end and does not require the closing zeros), gives no position in its errors, and reads a name of
//! any length into memory. It also reads each header with a separate call, where one window here contains those of
//! about twenty small images: it takes nearly twice the time for 100,000 images on a local disk.

use super::files::{FileSample, check_size, reserve, sample_at};
use crate::data::error::{DataError, ImageFault};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Headers and contents begin at multiples of this.
const BLOCK: u64 = 512;

/// Bytes read at a time in the search for headers: one read covers many small images, and large ones are skipped.
const WINDOW: usize = 64 << 10;

/// Limit on the buffer that a thread keeps for the next image, in bytes.
const MOST_KEPT: usize = 64 << 20;

/// Limit on the length of a name in bytes.
const MAX_NAME: u64 = 1 << 16;

/// Position of an image's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TarMember {
    offset: u64,
    len: u64,
}

impl TarMember {
    pub(super) fn new(offset: u64, len: u64) -> Self {
        Self { offset, len }
    }

    pub(super) fn len(self) -> u64 {
        self.len
    }

    pub(super) fn offset(self) -> u64 {
        self.offset
    }
}

/// The files in a tar file, by their names.
#[derive(Debug)]
pub(super) struct TarIndex {
    path: PathBuf,
    file: Arc<TarFile>,
    places: HashMap<Box<str>, TarMember>,
}

/// A tar file to read from.
#[derive(Debug)]
pub(super) struct TarFile(File);

thread_local! {
    /// Bytes of the current image.
    static IMAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl TarIndex {
    /// Reads all headers.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let (file, members) = members(path)?;
        Ok(Self { path: path.into(), file: Arc::new(file), places: members.into_iter().collect() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The position of a file; a leading `./` is ignored.
    pub(super) fn find(&self, name: &str) -> Option<TarMember> {
        self.places.get(plain(name)).copied()
    }

    /// The part that readers keep once they know the positions of their images.
    pub(super) fn file(&self) -> Arc<TarFile> {
        self.file.clone()
    }
}

/// Names without a leading `./`, with positions.
pub(super) type Members = Vec<(Box<str>, TarMember)>;

/// The files of a tar file in their order, by their names without a leading `./`.
pub(super) fn members(path: &Path) -> Result<(TarFile, Members), DataError> {
    let file = TarFile::open(path)?;
    let size = file.0.metadata().map_err(|error| DataError::open("tar file", path, error))?.len();
    let mut scan = Scan { path, file: &file.0, size, window: Vec::new(), window_at: 0 };
    let members = scan.run()?;
    if members.is_empty() {
        return Err(DataError::content("tar file", path, "it contains no file"));
    }
    Ok((file, members))
}

impl TarFile {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        File::open(path).map(Self).map_err(|error| DataError::open("tar file", path, error))
    }

    pub(super) fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Passes the bytes of a file to `use_bytes`, in a buffer that the thread keeps unless it is large.
    pub(super) fn with_bytes<T>(
        &self,
        place: TarMember,
        use_bytes: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ImageFault> {
        check_size(place.len)?;
        let len = place.len as usize;
        IMAGE.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                reserve(buffer, len)?;
                buffer.resize(len, 0);
            }
            self.0.read_exact_at(&mut buffer[..len], place.offset)?;
            let used = use_bytes(&buffer[..len]);
            if buffer.len() > MOST_KEPT {
                *buffer = Vec::new();
            }
            Ok(used)
        })
    }

    /// Some bytes of a file, for the fingerprint.
    pub(super) fn sample(&self, place: TarMember) -> std::io::Result<FileSample> {
        sample_at(&self.0, place.offset, place.len)
    }
}

fn plain(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    name
}

/// The state of the pass over the headers.
struct Scan<'a> {
    path: &'a Path,
    file: &'a File,
    size: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// Properties of the next file from pax and GNU headers.
#[derive(Default)]
struct Override {
    name: Option<String>,
    len: Option<u64>,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<Members, DataError> {
        let mut places = Vec::new();
        let mut next = Override::default();
        let mut at = 0;
        loop {
            let header: [u8; BLOCK as usize] = self.block(at)?;
            if header.iter().all(|&byte| byte == 0) {
                return Ok(places);
            }
            self.check(&header, at)?;
            let kind = header[156];
            let own_len =
                number(&header[124..136]).ok_or_else(|| self.wrong(at, "its size is not a number"))?;
            let len = match kind {
                b'L' | b'K' | b'x' | b'g' => own_len,
                // Links, devices and folders have no content, whatever size their header states.
                b'1'..=b'6' => 0,
                _ => next.len.unwrap_or(own_len),
            };
            let offset = at + BLOCK;
            let end = offset.checked_add(len).filter(|&end| end <= self.size);
            let end = end.ok_or_else(|| self.early(at, len))?;
            match kind {
                b'L' => next.name = Some(text(&self.content(offset, len)?)),
                b'x' => self.read_pax(offset, len, &mut next)?,
                // Global pax headers and long link names are irrelevant for images.
                b'g' | b'K' => {}
                _ => {
                    let own = std::mem::take(&mut next);
                    if matches!(kind, b'0' | 0 | b'7') {
                        let name = own.name.unwrap_or_else(|| ustar_name(&header));
                        places.push((plain(&name).into(), TarMember { offset, len }));
                    }
                }
            }
            at = end.next_multiple_of(BLOCK);
        }
    }

    fn wrong(&self, at: u64, reason: &str) -> DataError {
        DataError::content("tar file", self.path, format!("at byte {at}: {reason}"))
    }

    fn early(&self, at: u64, len: u64) -> DataError {
        let reason = format!(
            "the file of {len} bytes whose header is here goes beyond the end of the tar ({} bytes)\nhint: copy it again",
            self.size
        );
        self.wrong(at, &reason)
    }

    /// One block, through the window.
    fn block(&mut self, at: u64) -> Result<[u8; BLOCK as usize], DataError> {
        let inside = at.checked_sub(self.window_at).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            self.window.get(start..start + BLOCK as usize)?.try_into().ok()
        });
        if let Some(block) = inside {
            return Ok(block);
        }
        let len = self.size.saturating_sub(at).min(WINDOW as u64) as usize;
        if len < BLOCK as usize {
            let reason = format!(
                "expected a file or the closing block of zeros, found the end of the tar ({} bytes)\nhint: copy it again",
                self.size
            );
            return Err(self.wrong(at, &reason));
        }
        self.window.resize(len, 0);
        self.window_at = at;
        let read = self.file.read_exact_at(&mut self.window, at);
        read.map_err(|error| DataError::open("tar file", self.path, error))?;
        self.window[..BLOCK as usize].try_into().map_err(|_| self.wrong(at, "no header"))
    }

    /// The checksum of a header, its own field counted as spaces.
    fn check(&self, header: &[u8], at: u64) -> Result<(), DataError> {
        let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        let field: u64 = header[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if number(&header[148..156]) != Some(sum - field + 8 * u64::from(b' ')) {
            return Err(self.wrong(at, "expected a tar header, found something else (wrong checksum)"));
        }
        Ok(())
    }

    fn content(&self, offset: u64, len: u64) -> Result<Vec<u8>, DataError> {
        if len > MAX_NAME {
            return Err(self.wrong(offset, &format!("a name of {len} bytes; at most {MAX_NAME} are read")));
        }
        let mut bytes = vec![0; len as usize];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| DataError::open("tar file", self.path, error))?;
        Ok(bytes)
    }

    /// Records of a pax header: `length key=value`, a line each.
    fn read_pax(&self, offset: u64, len: u64, next: &mut Override) -> Result<(), DataError> {
        let bytes = self.content(offset, len)?;
        let broken = || self.wrong(offset, "its pax header is broken");
        let mut rest = &bytes[..];
        while !rest.is_empty() && rest[0] != 0 {
            let space = rest.iter().position(|&byte| byte == b' ').ok_or_else(broken)?;
            let size: usize = text(&rest[..space]).parse().map_err(|_| broken())?;
            let record = rest.get(space + 1..size).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if let Some(path) = record.strip_prefix(b"path=") {
                next.name = Some(text(path));
            } else if let Some(size) = record.strip_prefix(b"size=") {
                next.len = Some(text(size).parse().map_err(|_| broken())?);
            }
            rest = &rest[size..];
        }
        Ok(())
    }
}

/// Text up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn ustar_name(header: &[u8]) -> String {
    let name = text(&header[..100]);
    let prefix = if &header[257..263] == b"ustar\0" { text(&header[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// A number in octal digits, or, where the first bit is set, in base 256.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7f);
        return field[1..]
            .iter()
            .try_fold(first, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()));
    }
    let digits =
        field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(**byte, 0 | b' '));
    digits.into_iter().try_fold(0u64, |sum, &byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add((byte - b'0').into()),
        _ => None,
    })
}

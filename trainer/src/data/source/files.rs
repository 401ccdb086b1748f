//! Image files and their bytes: regular files of a bounded size, and named pipes, whose reader waits for a writer.
//! Inspecting a file never waits.

use super::super::error::{DataError, ImageFault};
use super::stored::Stored;
use crate::data::decode;
use nix::fcntl::OFlag;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Image files with more bytes than this are refused before memory is allocated: more than the pixels of the
/// largest image that is decoded ([`decode::MAX_PIXELS`], four bytes each).
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Bytes of an image that are part of the fingerprint, from its start and from its end.
const SAMPLE: u64 = 4096;

/// The size of an image's bytes and some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSample {
    /// Bytes in all.
    pub size: u64,
    /// The first and the last of them.
    pub bytes: Vec<u8>,
}

/// Opens a regular file for inspection. Opening a named pipe would block.
pub(super) fn open(path: &Path) -> Result<(File, u64), ImageFault> {
    let (file, metadata) = open_at_once(path)?;
    if !metadata.is_file() {
        return Err(ImageFault::NotAFile);
    }
    Ok((file, metadata.len()))
}

/// Opens a regular file or a named pipe for reading. Devices are refused, because they may have no end.
fn open_to_read(path: &Path) -> Result<(File, u64), ImageFault> {
    let (file, metadata) = open_at_once(path)?;
    if metadata.is_file() {
        return Ok((file, metadata.len()));
    }
    if metadata.file_type().is_fifo() {
        return Ok((File::open(path)?, 0));
    }
    Err(ImageFault::NotAFile)
}

/// Without this flag, opening a pipe waits for a writer; it has no effect on regular files.
fn open_at_once(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Passes the bytes of the file `name` below `root` to `take`.
pub(super) fn read_stored(
    root: &Path,
    name: &str,
    take: &mut dyn FnMut(Stored<'_>),
) -> Result<(), DataError> {
    let bytes = read_bytes(&root.join(name)).map_err(|fault| DataError::image(name.to_owned(), fault))?;
    take(Stored::Encoded(&bytes));
    Ok(())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ImageFault> {
    let (file, size) = open_to_read(path)?;
    check_size(size)?;
    let mut bytes = Vec::new();
    reserve(&mut bytes, size as usize)?;
    // The file may grow in the meantime.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64)?;
    Ok(bytes)
}

/// Refuses more bytes than an image has.
pub(super) fn check_size(size: u64) -> Result<(), ImageFault> {
    if size > MAX_FILE_BYTES { Err(ImageFault::TooLarge { size }) } else { Ok(()) }
}

/// Reserves memory, or reports that there is not enough.
pub(super) fn reserve(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    let more = len.saturating_sub(bytes.len());
    bytes.try_reserve_exact(more).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))
}

/// Checks by its first bytes that a file is an image to decode; the error names any other kind of file.
pub(super) fn probe(path: &Path) -> Result<(), ImageFault> {
    let (file, _) = open(path)?;
    let mut start = Vec::with_capacity(decode::START);
    file.take(decode::START as u64).read_to_end(&mut start)?;
    Ok(decode::probe(&start)?)
}

/// The canonical path of a file: `root` has no links, and `.` and `..` are resolved.
pub(super) fn place(root: &Path, name: &str) -> String {
    let mut place = PathBuf::new();
    for part in root.join(name).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
    }
    place.to_string_lossy().into_owned()
}

/// The sample of `size` bytes at `offset` of a file.
pub(super) fn sample_at(file: &File, offset: u64, size: u64) -> io::Result<FileSample> {
    let mut bytes = vec![0; size.min(2 * SAMPLE) as usize];
    let (first, last) = bytes.split_at_mut(size.min(SAMPLE) as usize);
    file.read_exact_at(first, offset)?;
    file.read_exact_at(last, offset + size - last.len() as u64)?;
    Ok(FileSample { size, bytes })
}

/// The sample of a file.
pub(super) fn sample(path: &Path) -> Result<FileSample, ImageFault> {
    let (file, size) = open(path)?;
    Ok(sample_at(&file, 0, size)?)
}

#[cfg(test)]
mod tests;

//! A Parquet file, read at offsets by any number of threads.

use super::thrift::Compact;
use crate::data::error::DataError;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// The last bytes of a file: the length of its footer and these four letters.
const TAIL: u64 = 8;
const MARK: &[u8; 4] = b"PAR1";

/// Limit on a footer in bytes.
const MAX_FOOTER: u64 = 256 << 20;

/// Bytes of one read of a page.
const WINDOW: usize = 8 << 10;

/// A file to read from. The crate's own implementation for `File` moves the one position of the file, which threads
/// would share.
#[derive(Clone, Debug)]
pub(super) struct PositionedFile {
    file: Arc<File>,
    len: u64,
}

impl PositionedFile {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |error| DataError::open("Parquet file", path, error);
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self { file: Arc::new(file), len })
    }

    pub(super) fn bytes_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        if start.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Reads the footer.
    pub(super) fn metadata(&self, path: &Path) -> Result<ParquetMetaData, DataError> {
        let wrong = |reason: &str| DataError::content("Parquet file", path, reason);
        let failed = |error| DataError::open("Parquet file", path, error);
        let short = || wrong(&format!("it has {} bytes and is cut short\nhint: copy it again", self.len));
        let tail_at = self.len.checked_sub(TAIL).ok_or_else(short)?;
        let tail = self.bytes_at(tail_at, TAIL as usize).map_err(failed)?;
        let (len, mark) = tail.split_at(4);
        match mark {
            mark if mark == MARK => {}
            b"PARE" => return Err(wrong("it is encrypted; expected a plain Parquet file")),
            _ => {
                return Err(wrong(
                    "expected `PAR1` at its end; it is no Parquet file, or it is cut short\nhint: copy it again",
                ));
            }
        }
        let len = u64::from(u32::from_le_bytes(len.try_into().unwrap_or_default()));
        let start = tail_at.checked_sub(len).filter(|_| len <= MAX_FOOTER).ok_or_else(|| {
            wrong(&format!(
                "its footer claims {len} bytes of {}; it is damaged\nhint: copy it again",
                self.len
            ))
        })?;
        let footer = self.bytes_at(start, len as usize).map_err(failed)?;
        let damaged = || wrong("its footer is damaged\nhint: copy it again");
        Compact::new(&footer).check_struct().ok_or_else(damaged)?;
        contained(|| ParquetMetaDataReader::decode_metadata(&footer))
            .map_err(|error| wrong(&format!("its footer is damaged: {error}\nhint: copy it again")))
    }
}

/// Runs code of the `parquet` crate, in which damaged files may panic. A panic of the main thread would end the
/// process, so it runs on another one there.
pub(super) fn contained<T: Send>(work: impl FnOnce() -> ParquetResult<T> + Send) -> ParquetResult<T> {
    let panicked = || ParquetError::General("it contradicts its format".into());
    if std::thread::current().name() == Some("main") {
        return std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(panicked()));
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}

impl Length for PositionedFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for PositionedFile {
    type T = io::BufReader<Positioned>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let file = Positioned { file: Arc::clone(&self.file), at: start };
        Ok(io::BufReader::with_capacity(WINDOW, file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        Ok(self.bytes_at(start, length)?.into())
    }
}

/// Reads on from a position of its own.
pub(super) struct Positioned {
    file: Arc<File>,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

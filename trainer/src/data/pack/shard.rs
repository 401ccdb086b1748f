//! One shard: written under another name, synced, renamed, then indexed. The index is its sign of completion.

use super::form::{FormError, Member, PackForm};
use super::index::{PackedImage, ShardIndex, checksum};
use super::{PackError, write};
use crate::data::error::DataError;
use crate::data::source::Split;
use protocol::numbers::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::{Builder, Header};

/// Headers and contents begin at multiples of this.
const BLOCK: u64 = 512;

/// Bytes written at a time.
const BUFFER: usize = 1 << 20;

/// A shard to write.
pub(super) struct Shard<'a> {
    pub(super) split: &'a Split,
    /// Its images in the split.
    pub(super) range: Range<usize>,
    pub(super) path: PathBuf,
    pub(super) form: PackForm,
}

/// A complete shard.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) was_there: bool,
    pub(super) bad_images: Vec<String>,
}

type MayFail<'a> = dyn FnMut(&Arc<DataError>) -> Result<(), PackError> + 'a;

impl Shard<'_> {
    /// Writes the shard, unless it is there and its bytes have the checksum of its index.
    pub(super) fn complete(
        &self,
        progress: &dyn Fn(usize),
        may_fail: &mut MayFail<'_>,
    ) -> Result<Written, PackError> {
        let (index, was_there) = match self.found() {
            Some(index) => {
                progress(self.range.len());
                (index, true)
            }
            None => (self.write(progress, may_fail)?, false),
        };
        let bad = index
            .images
            .iter()
            .filter_map(|image| image.fault.as_ref().map(|fault| format!("`{}`: {fault}", image.name)));
        Ok(Written { bytes: index.bytes, was_there, bad_images: bad.collect() })
    }

    /// The index of a shard that an earlier process completed.
    fn found(&self) -> Option<ShardIndex> {
        let index: ShardIndex = serde_json::from_slice(&std::fs::read(self.index_path()).ok()?).ok()?;
        let (bytes, sha256) = hash_of(&self.path).ok()?;
        let is_whole = (index.bytes, &index.sha256, index.images.len()) == (bytes, &sha256, self.range.len());
        is_whole.then_some(index)
    }

    fn index_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn write(&self, progress: &dyn Fn(usize), may_fail: &mut MayFail<'_>) -> Result<ShardIndex, PackError> {
        let part = self.path.with_extension("tar.part");
        let failed = |source| PackError::Io { path: part.clone(), source };
        let file = File::create(&part).map_err(failed)?;
        let mut tar = Builder::new(HashedFile {
            file: BufWriter::with_capacity(BUFFER, file),
            hash: Sha256::new(),
            len: 0,
        });
        let mut images = Vec::with_capacity(self.range.len());
        for index in self.range.clone() {
            images.push(self.add(&mut tar, index, may_fail, &failed)?);
            progress(1);
        }
        let HashedFile { file, hash, len } = tar.into_inner().map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        drop(file);
        std::fs::rename(&part, &self.path).map_err(failed)?;
        let index = ShardIndex { bytes: len, sha256: hex(&hash.finalize()), images };
        let path = self.index_path();
        let text = serde_json::to_vec(&index)
            .map_err(|error| PackError::Io { path: path.clone(), source: error.into() })?;
        write(&path, &text)?;
        Ok(index)
    }

    /// Adds an image and its label.
    fn add(
        &self,
        tar: &mut Builder<HashedFile>,
        index: usize,
        may_fail: &mut MayFail<'_>,
        failed: &dyn Fn(io::Error) -> PackError,
    ) -> Result<PackedImage, PackError> {
        let (name, label) = (self.split.name(index), self.split.labels()[index]);
        let mut image = PackedImage { name, label, offset: 0, bytes: 0, checksum: 0, fault: None };
        let mut added: Option<Result<(), io::Error>> = None;
        let mut fault: Option<DataError> = None;
        let read = self.split.stored(index, &mut |stored| match self.form.member(stored) {
            Ok(Member { bytes, ending }) => {
                image.offset = tar.get_ref().len + BLOCK;
                image.bytes = bytes.len() as u64;
                image.checksum = checksum(&bytes);
                added = Some(append(tar, &format!("{index:09}.{ending}"), &bytes));
            }
            Err(FormError::Decode(error)) => fault = Some(DataError::image(image.name.clone(), error)),
            Err(FormError::Encode(reason)) => {
                fault = Some(DataError::image(image.name.clone(), io::Error::other(reason)));
            }
        });
        added.transpose().map_err(failed)?;
        if let Some(error) = read.err().or(fault) {
            image.fault = Some(match &error {
                DataError::Image { fault, .. } => fault.to_string(),
                error => error.to_string(),
            });
            may_fail(&Arc::new(error))?;
        }
        append(tar, &format!("{index:09}.cls"), label.to_string().as_bytes()).map_err(failed)?;
        Ok(image)
    }
}

/// Adds a file without a time and an owner, so that the bytes depend on nothing else.
fn append(tar: &mut Builder<HashedFile>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, bytes)
}

/// A file that is hashed while it is written.
struct HashedFile {
    file: BufWriter<File>,
    hash: Sha256,
    len: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn hash_of(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut len, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((len, hex(&hash.finalize()))),
            read => {
                hash.update(&buffer[..read]);
                len += read as u64;
            }
        }
    }
}

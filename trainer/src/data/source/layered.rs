//! A reader behind a cache and behind threads that read ahead: the layers between the files and the decoder.

use super::cache::Cache;
use super::files::FileSample;
use super::presence::SplitFiles;
use super::read_ahead::ReadAhead;
use super::stored::{Stored, decoded};
use super::{ImageReader, Split};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use crate::data::pack::pixels;
use std::sync::Arc;

/// The bytes of an image as a layer keeps them: those of its file, or of a PPM file with its pixels.
pub(super) fn kept(stored: Stored<'_>) -> Vec<u8> {
    match stored {
        Stored::Encoded(bytes) => bytes.to_vec(),
        Stored::Pixels { width, height, pixels } => pixels::packed(width, height, pixels),
    }
}

/// The image that [`kept`] kept.
pub(super) fn given(bytes: &[u8]) -> Stored<'_> {
    pixels::of_packed(bytes).unwrap_or(Stored::Encoded(bytes))
}

impl Split {
    /// The same images, kept in a cache once they have been read.
    #[must_use]
    pub fn cached(self, cache: Cache) -> Self {
        let Self { labels, reader } = self;
        Self { labels, reader: Box::new(Cached { inner: reader, cache }) }
    }

    /// The same images, read by `threads` threads in the order in which they are announced.
    #[must_use]
    pub fn read_ahead(self, threads: usize) -> Self {
        let Self { labels, reader } = self;
        let inner: Arc<dyn ImageReader> = Arc::from(reader);
        let ahead = ReadAhead::start(Arc::clone(&inner), threads);
        Self { labels, reader: Box::new(Ahead { inner, ahead }) }
    }
}

/// A reader whose images are kept in a cache.
struct Cached {
    inner: Box<dyn ImageReader>,
    cache: Cache,
}

impl ImageReader for Cached {
    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        if self.cache.get(index, &mut |bytes| take(given(bytes))) {
            return Ok(());
        }
        self.inner.stored(index, &mut |stored| {
            self.cache.put(index, || kept(stored));
            take(stored);
        })
    }

    fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        self.inner.announce(indices);
    }

    fn files(&self) -> Option<SplitFiles<'_>> {
        self.inner.files()
    }

    fn place(&self, index: usize) -> Option<String> {
        self.inner.place(index)
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        self.inner.sample(index)
    }
}

/// A reader whose images are read ahead.
struct Ahead {
    inner: Arc<dyn ImageReader>,
    ahead: ReadAhead,
}

impl ImageReader for Ahead {
    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        match self.ahead.take(index) {
            Some(read) => read.map(|bytes| take(given(&bytes))),
            None => self.inner.stored(index, take),
        }
    }

    fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        self.ahead.announce(indices);
    }

    fn files(&self) -> Option<SplitFiles<'_>> {
        self.inner.files()
    }

    fn place(&self, index: usize) -> Option<String> {
        self.inner.place(index)
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        self.inner.sample(index)
    }
}

#[cfg(test)]
mod tests;

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
        self.behind(|_| cache)
    }

    /// The same images, read by `threads` threads in the order in which they are announced.
    #[must_use]
    pub fn read_ahead(self, threads: usize) -> Self {
        self.behind(|reader| ReadAhead::start(Arc::clone(reader), threads))
    }

    fn behind<L: Layer + 'static>(self, layer: impl FnOnce(&Arc<dyn ImageReader>) -> L) -> Self {
        let Self { labels, reader } = self;
        let inner: Arc<dyn ImageReader> = Arc::from(reader);
        let layer = layer(&inner);
        Self { labels, reader: Box::new(Layered { inner, layer }) }
    }
}

/// What stands between a reader and the decoder.
trait Layer: Send + Sync {
    /// As [`ImageReader::stored`], with the reader behind the layer.
    fn stored(
        &self,
        inner: &dyn ImageReader,
        index: usize,
        take: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), DataError>;

    /// As [`ImageReader::announce`].
    fn announce(&self, inner: &dyn ImageReader, indices: &mut dyn Iterator<Item = usize>) {
        inner.announce(indices);
    }
}

impl Layer for Cache {
    fn stored(
        &self,
        inner: &dyn ImageReader,
        index: usize,
        take: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), DataError> {
        if self.get(index, &mut |bytes| take(given(bytes))) {
            return Ok(());
        }
        inner.stored(index, &mut |stored| {
            self.put(index, || kept(stored));
            take(stored);
        })
    }
}

impl Layer for ReadAhead {
    fn stored(
        &self,
        inner: &dyn ImageReader,
        index: usize,
        take: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), DataError> {
        match self.take(index) {
            Some(read) => read.map(|bytes| take(given(&bytes))),
            None => inner.stored(index, take),
        }
    }

    fn announce(&self, _inner: &dyn ImageReader, indices: &mut dyn Iterator<Item = usize>) {
        ReadAhead::announce(self, indices);
    }
}

/// A reader behind a layer.
struct Layered<L> {
    inner: Arc<dyn ImageReader>,
    layer: L,
}

impl<L: Layer> ImageReader for Layered<L> {
    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        self.layer.stored(self.inner.as_ref(), index, take)
    }

    fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        self.layer.announce(self.inner.as_ref(), indices);
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

//! Some images of a list.

use super::super::decode::RgbImage;
use super::super::error::{DataError, ImageFault};
use super::{FileSample, ImageReader, Split, SplitFiles, Stored};
use std::sync::Arc;

/// Reads the images of a list that are among some of them.
struct Subset {
    whole: Arc<Split>,
    indices: Vec<usize>,
}

impl Split {
    /// Some images of a list, under their names there.
    pub fn some_of(whole: Arc<Self>, indices: Vec<usize>) -> Self {
        let labels = indices.iter().map(|&index| whole.labels[index]).collect();
        Self::from_parts(labels, Box::new(Subset { whole, indices }))
    }
}

/// The reader of a split without images.
pub(super) struct Nothing;

impl ImageReader for Nothing {
    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        let nothing = std::io::Error::new(std::io::ErrorKind::NotFound, "the split has no images");
        Err(DataError::image(self.name(index), nothing))
    }
}

impl ImageReader for Subset {
    fn name(&self, index: usize) -> String {
        self.whole.name(self.indices[index])
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        self.whole.read(self.indices[index])
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        self.whole.stored(self.indices[index], take)
    }

    fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        self.whole.announce(&mut indices.filter_map(|index| self.indices.get(index).copied()));
    }

    fn files(&self) -> Option<SplitFiles<'_>> {
        self.whole.files()
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        self.whole.sample(self.indices[index])
    }

    fn place(&self, index: usize) -> Option<String> {
        self.whole.place(self.indices[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    #[test]
    fn images_keep_their_names_labels_and_pixels() {
        let whole = Arc::new(demo::data_set(0).train);
        let some = Split::some_of(Arc::clone(&whole), vec![7, 2]);
        assert_eq!(some.labels(), [whole.labels()[7], whole.labels()[2]]);
        assert_eq!((some.len(), some.name(1)), (2, whole.name(2)));
        assert_eq!(some.read(0).unwrap(), whole.read(7).unwrap());
    }
}

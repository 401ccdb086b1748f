//! The demo as a data set: its pictures are drawn instead of read from a disk.

use super::{DemoSet, DemoSplit, DemoStyle};
use crate::data::decode::RgbImage;
use crate::data::error::DataError;
use crate::data::source::{DataSet, ImageReader, Split};
use std::sync::Arc;

/// The cluttered training and test pictures for `seed`, with their classes.
pub fn demo_data_set(seed: u64) -> DataSet {
    styled_data_set(DemoStyle::Cluttered, seed)
}

/// The training and test pictures of a style for `seed`, with their classes.
pub fn styled_data_set(style: DemoStyle, seed: u64) -> DataSet {
    let set = Arc::new(DemoSet::in_style(style, seed));
    let split = |which| {
        let reader = DemoReader { set: Arc::clone(&set), split: which };
        Split::from_parts(set.labels(which).to_vec(), Box::new(reader))
    };
    DataSet {
        class_names: set.class_names(),
        train: split(DemoSplit::Train),
        test: split(DemoSplit::Test),
        findings: Vec::new(),
    }
}

struct DemoReader {
    set: Arc<DemoSet>,
    split: DemoSplit,
}

impl ImageReader for DemoReader {
    /// Style and seed are part of the name, so that the fingerprints of two styles or seeds differ.
    fn name(&self, index: usize) -> String {
        let split = match self.split {
            DemoSplit::Train => "train",
            DemoSplit::Test => "test",
        };
        let style = match self.set.style {
            DemoStyle::Cluttered => "",
            DemoStyle::FalseColour => "false-colour/",
        };
        format!("demo/{style}seed-{}/{split}/{index}", self.set.seed)
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        self.set.draw(self.split, index).ok_or_else(|| {
            let count = self.set.labels(self.split).len();
            let reason = format!("the demo has {count} such pictures; expected an index below that");
            DataError::image(self.name(index), std::io::Error::new(std::io::ErrorKind::NotFound, reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_set_reads_what_the_demo_draws() {
        let (data, demo) = (demo_data_set(6), DemoSet::new(6));
        assert_eq!(data.class_names, demo.class_names());
        for (split, which) in [(&data.train, DemoSplit::Train), (&data.test, DemoSplit::Test)] {
            assert_eq!(split.labels(), demo.labels(which));
            for index in [0, 1, split.len() - 1] {
                assert_eq!(split.read(index).unwrap(), demo.draw(which, index).unwrap());
            }
        }
    }

    #[test]
    fn a_picture_beyond_the_end_is_an_error_with_its_name() {
        let data = demo_data_set(6);
        let error = data.test.read(1200).unwrap_err();
        assert!(error.is_image_failure());
        assert_eq!(
            error.to_string(),
            "image `demo/seed-6/test/1200`: cannot be read (the demo has 1200 such pictures; \
             expected an index below that)"
        );
    }
}

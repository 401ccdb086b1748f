//! Reads and decodes every image of a split on several threads: which are broken, and which have the same content.

use super::decode::decode;
use super::error::{DataError, ImageFault};
use super::pack::index::checksum;
use super::source::{Split, Stored};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Images that a thread takes at a time.
const CHUNK: usize = 8;

/// What was found in a split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Images that cannot be read or decoded, in order, with the reason.
    pub broken: Vec<(usize, String)>,
    /// Images with the same bytes, each group in order; groups by their first image.
    pub copies: Vec<Vec<usize>>,
}

/// Decodes all images of a split. `progress` receives the number of images of each step that is done.
pub fn survey(split: &Split, threads: usize, progress: &(dyn Fn(usize) + Sync)) -> Survey {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= split.len() {
                return found;
            }
            let range = first..(first + CHUNK).min(split.len());
            let count = range.len();
            found.extend(range.map(|index| (index, examine(split, index))));
            progress(count);
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        // Panics of decoders were caught, so the threads do not panic.
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect::<Vec<_>>()
    });
    all.sort_unstable_by_key(|&(index, _)| index);
    let mut survey = Survey::default();
    let mut same: HashMap<(u64, usize), Vec<usize>> = HashMap::new();
    for (index, result) in all {
        match result {
            Ok(content) => same.entry(content).or_default().push(index),
            Err(reason) => survey.broken.push((index, reason)),
        }
    }
    survey.copies = same.into_values().filter(|images| images.len() > 1).collect();
    survey.copies.sort_unstable();
    survey
}

/// Decodes an image and returns the checksum and the length of its bytes.
fn examine(split: &Split, index: usize) -> Result<(u64, usize), String> {
    let mut content = (0, 0);
    let mut fault: Option<ImageFault> = None;
    let read = catch_unwind(AssertUnwindSafe(|| {
        split.stored(index, &mut |stored| match stored {
            Stored::Encoded(bytes) => {
                content = (checksum(bytes), bytes.len());
                fault = decode(bytes).err().map(Into::into);
            }
            Stored::Pixels { width, pixels, .. } => {
                content = (checksum(pixels) ^ u64::from(width), pixels.len());
            }
        })
    }));
    match (read, fault) {
        (Ok(Ok(())), None) => Ok(content),
        (Ok(Ok(())), Some(fault)) | (Ok(Err(DataError::Image { fault, .. })), _) => Err(fault.to_string()),
        (Ok(Err(error)), _) => Err(error.to_string()),
        (Err(_), _) => Err("the decoder panicked; this is a defect of the program".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{DataSet, DataSpec};
    use super::*;

    #[test]
    fn broken_images_and_copies_are_found_by_any_number_of_threads() {
        let root = tempfile::tempdir().unwrap();
        let picture = |level: u8| [&b"P5 2 2 255 "[..], &[level; 4]].concat();
        for (name, bytes) in [
            ("train/a/1.pgm", picture(1)),
            ("train/a/2.pgm", picture(2)),
            ("train/b/3.pgm", picture(1)),
            ("train/b/4.pgm", b"P5 2 2".to_vec()),
            ("test/a/5.pgm", picture(5)),
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let set = DataSet::open(&DataSpec { root: root.path().into(), ..DataSpec::default() }).unwrap();
        let found = survey(&set.train, 1, &|_| ());
        assert_eq!((&found.copies, found.broken.len(), found.broken[0].0), (&vec![vec![0, 2]], 1, 3));
        assert_eq!(survey(&set.train, 5, &|_| ()), found);
    }
}

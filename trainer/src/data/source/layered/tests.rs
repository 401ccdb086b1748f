//! Layers change neither pixels nor errors, and threads that read ahead hide the time of a slow file system.

use super::super::cache::{Cache, CachePlace};
use super::super::tests::{dot, folder};
use super::super::{DataSet, DataSpec};
use super::*;
use crate::data::loader::{BatchRequest, Item, Loader, LoaderOptions};
use crate::data::resize::Filter;
use crate::data::transform::{ImageView, TestView};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A file system that takes its time.
struct Slow {
    wait: Duration,
    reads: Arc<AtomicUsize>,
}

impl ImageReader for Slow {
    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.wait);
        if index == 13 {
            return Err(DataError::image(self.name(index), std::io::Error::other("gone")));
        }
        take(Stored::Encoded(&dot(index as u8, 0, 0)));
        Ok(())
    }
}

const IMAGES: usize = 120;

fn slow(wait: u64) -> (Split, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let reader = Slow { wait: Duration::from_millis(wait), reads: Arc::clone(&reads) };
    (Split::from_parts(vec![0; IMAGES], Box::new(reader)), reads)
}

/// Reds of all images, those that failed, and the time of an epoch of one decoding thread.
fn epoch(split: &Arc<Split>) -> (Vec<u8>, Vec<u64>, Duration) {
    let start = Instant::now();
    let requests = (0..IMAGES as u64).step_by(20).map(|first| {
        let items = (first..first + 20).map(|position| Item { position, sample: position }).collect();
        BatchRequest { epoch: 0, items }
    });
    let view = ImageView::Test(TestView { size: 1, resize: 1, filter: Filter::Bilinear });
    let options = LoaderOptions { workers: 1, prefetch: 3 };
    let mut loader =
        Loader::start(Arc::clone(split), view, requests.collect::<Vec<_>>().into_iter(), options).unwrap();
    let (mut reds, mut failed) = (Vec::new(), Vec::new());
    while let Some(batch) = loader.next() {
        let batch = batch.unwrap();
        reds.extend(batch.images.chunks_exact(3).map(|pixel| pixel[0]));
        failed.extend(batch.skipped.iter().map(|skipped| skipped.sample));
    }
    (reds, failed, start.elapsed())
}

#[test]
fn reading_ahead_hides_the_time_of_the_files() {
    let (plain, ahead) = (Arc::new(slow(2).0), Arc::new(slow(2).0.read_ahead(16)));
    let (reds, failed, alone) = epoch(&plain);
    let (same, also, together) = epoch(&ahead);
    assert_eq!((&reds, &failed), (&same, &also));
    assert_eq!((reds.len(), failed), (IMAGES - 1, vec![13]));
    assert!(together * 3 < alone, "{together:?} with 16 threads, {alone:?} without");
}

#[test]
fn a_cache_reads_every_image_once() {
    let (split, reads) = slow(0);
    let split = Arc::new(split.cached(Cache::in_memory(IMAGES, 1 << 20)).read_ahead(4));
    let first = epoch(&split);
    let second = epoch(&split);
    assert_eq!((first.0, first.1), (second.0, second.1));
    assert_eq!(reads.load(Ordering::Relaxed), IMAGES + 1, "all once, and the one that fails twice");
}

#[test]
fn a_data_set_keeps_its_names_labels_and_pixels() {
    let root = folder(&[
        ("train/a/1.bmp", &dot(1, 2, 3)),
        ("train/b/2.bmp", &dot(4, 5, 6)),
        ("test/a/3.bmp", b"broken"),
    ]);
    let open = || DataSet::open(&DataSpec { root: root.path().into(), ..DataSpec::default() }).unwrap();
    let plain = open();
    for place in [CachePlace::Memory, CachePlace::Folder(root.path().join("cache"))] {
        let cached = open().cached(&place, 1 << 20).unwrap();
        assert_eq!(cached.fingerprint(), plain.fingerprint());
        for _ in 0..2 {
            for index in 0..2 {
                assert_eq!(cached.train.read(index).unwrap(), plain.train.read(index).unwrap());
            }
            assert_eq!(
                cached.test.read(0).unwrap_err().to_string(),
                plain.test.read(0).unwrap_err().to_string()
            );
        }
        assert_eq!(cached.train.missing(), []);
    }
}

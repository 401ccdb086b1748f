//! The loader over small made-up images: order, failures, panics, ends.

use super::*;
use crate::data::decode::{DecodeError, RgbImage, decode};
use crate::data::fixtures;
use crate::data::resize::Filter;
use crate::data::source::{ImageReader, Stored};
use crate::data::transform::{CornerCrops, DecodeMode, TestView, TrainView};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// Images of one level each, which is their index; some fail.
struct Levels {
    bad: Vec<usize>,
    panics: Option<usize>,
    pause: Duration,
    reads: Arc<AtomicUsize>,
}

impl ImageReader for Levels {
    fn name(&self, index: usize) -> String {
        format!("level {index}")
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Later ones are faster, so that chunks are finished out of order.
        std::thread::sleep(self.pause * (7 - index as u32 % 7));
        assert!(self.panics != Some(index), "a made-up defect");
        if self.bad.contains(&index) {
            return Err(DataError::image(self.name(index), DecodeError::Empty));
        }
        Ok(RgbImage { width: 4, height: 4, pixels: vec![index as u8; 48] })
    }
}

fn levels() -> Levels {
    Levels { bad: Vec::new(), panics: None, pause: Duration::ZERO, reads: Arc::default() }
}

fn split(levels: Levels) -> Arc<Split> {
    Arc::new(Split::from_parts((0..100).map(|i| i % 10).collect(), Box::new(levels)))
}

const VIEW: ImageView = ImageView::Test(TestView { size: 2, resize: 2, filter: Filter::Bilinear });

fn options(workers: usize, prefetch: usize) -> LoaderOptions {
    LoaderOptions { workers, prefetch }
}

fn request(samples: std::ops::Range<u64>) -> BatchRequest {
    BatchRequest { epoch: 3, items: samples.map(|sample| Item { position: 1000 + sample, sample }).collect() }
}

fn start(levels: Levels, requests: Vec<BatchRequest>, options: LoaderOptions) -> Loader {
    Loader::start(split(levels), VIEW, requests.into_iter(), options).expect("threads")
}

fn check(batch: &Batch, samples: &[u64]) {
    assert_eq!(batch.samples, samples);
    assert_eq!(batch.positions, samples.iter().map(|sample| 1000 + sample).collect::<Vec<_>>());
    assert_eq!(batch.labels, samples.iter().map(|sample| (sample % 10) as i64).collect::<Vec<_>>());
    assert_eq!(batch.images, samples.iter().flat_map(|&sample| [sample as u8; 12]).collect::<Vec<_>>());
}

#[test]
fn of_many_crops_an_image_is_read_once_and_a_broken_one_leaves_no_gap() {
    let reads = Arc::new(AtomicUsize::new(0));
    let levels = Levels { bad: vec![4], reads: Arc::clone(&reads), ..levels() };
    let view = ImageView::Corners(CornerCrops::lift(2, 1, Filter::Bilinear, true));
    let requests = [request(2..9)].into_iter();
    let mut loader = Loader::start(split(levels), view, requests, options(3, 2)).expect("threads");
    let batch = loader.next().expect("a batch").expect("no error");
    assert_eq!(batch.samples, [2, 3, 5, 6, 7, 8]);
    assert_eq!(batch.skipped[0].sample, 4);
    // Ten crops of 2 x 2 pixels in three channels.
    assert_eq!(
        batch.images,
        batch.samples.iter().flat_map(|&sample| [sample as u8; 120]).collect::<Vec<_>>()
    );
    assert_eq!(reads.load(Ordering::Relaxed), 7);
}

#[test]
fn batches_come_in_the_order_of_their_requests() {
    for (workers, prefetch) in [(1, 1), (1, 4), (3, 1), (4, 2), (5, 9)] {
        let ranges = [0..17, 17..17, 17..18, 18..80, 3..3, 90..100];
        let slow = Levels { pause: Duration::from_micros(100), ..levels() };
        let mut loader =
            start(slow, ranges.iter().cloned().map(request).collect(), options(workers, prefetch));
        for range in ranges {
            let batch = loader.next().expect("a batch").expect("no error");
            assert_eq!(batch.epoch, 3);
            check(&batch, &range.collect::<Vec<_>>());
        }
        assert!(loader.next().is_none());
        assert!(loader.next().is_none());
    }
}

#[test]
fn no_request_is_the_end() {
    assert!(start(levels(), vec![], options(3, 2)).next().is_none());
}

#[test]
fn bad_images_are_skipped_and_named() {
    let bad = Levels { bad: vec![0, 3, 4, 9], ..levels() };
    let mut loader = start(bad, vec![request(0..10), request(3..5)], options(2, 2));
    let batch = loader.next().expect("a batch").expect("no error");
    check(&batch, &[1, 2, 5, 6, 7, 8]);
    let skipped: Vec<_> =
        batch.skipped.iter().map(|skipped| (skipped.sample, skipped.path.as_str())).collect();
    assert_eq!(skipped, [(0, "level 0"), (3, "level 3"), (4, "level 4"), (9, "level 9")]);
    assert!(batch.skipped[0].reason.starts_with("the file is empty"));
    let batch = loader.next().expect("a batch").expect("no error");
    assert!(batch.is_empty() && batch.images.is_empty() && batch.skipped.len() == 2);
}

#[test]
fn a_panic_is_an_error_and_no_bad_image() {
    let panics = Levels { bad: vec![2], panics: Some(6), ..levels() };
    let mut loader = start(panics, vec![request(0..10)], options(2, 2));
    let error = loader.next().expect("a batch").expect_err("an error");
    assert!(
        matches!(&error, DataError::Panicked { name, message } if name == "sample 6" && message == "a made-up defect")
    );
}

#[test]
fn a_panic_of_the_order_is_an_error() {
    let requests = (0..3u64).map(|i| if i == 1 { panic!("no order") } else { request(0..2) });
    let mut loader = Loader::start(split(levels()), VIEW, requests, options(2, 1)).expect("threads");
    assert!(loader.next().expect("a batch").is_ok());
    assert!(matches!(loader.next(), Some(Err(DataError::Panicked { message, .. })) if message == "no order"));
}

#[test]
fn a_sample_outside_the_split_is_an_error() {
    let mut loader = start(levels(), vec![request(98..101)], options(1, 1));
    let error = loader.next().expect("a batch").expect_err("an error");
    assert_eq!(error.to_string(), "sample 100 was requested, but the split has 100");
}

#[test]
fn prefetch_bounds_what_is_read_ahead() {
    let counted = levels();
    let reads = counted.reads.clone();
    let requests = (0..).map(|i: u64| request(i % 10 * 10..i % 10 * 10 + 10));
    let mut loader = Loader::start(split(counted), VIEW, requests, options(3, 4)).expect("threads");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(reads.load(Ordering::Relaxed), 40);
    assert!(loader.next().expect("a batch").is_ok());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(reads.load(Ordering::Relaxed), 50);
}

/// A file system that does not answer: dropping does not wait for it.
#[test]
fn a_read_that_does_not_end_is_left_behind() {
    let stuck = Levels { pause: Duration::from_secs(10), ..levels() };
    let loader = start(stuck, vec![request(0..1)], options(1, 1));
    std::thread::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    drop(loader);
    assert!(begin.elapsed() < PARTING * 2);
}

#[test]
fn dropping_ends_the_threads_promptly() {
    let slow = Levels { pause: Duration::from_millis(5), ..levels() };
    let reads = slow.reads.clone();
    let requests = std::iter::repeat_with(|| request(0..100));
    let loader = Loader::start(split(slow), VIEW, requests, options(4, 8)).expect("threads");
    std::thread::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    drop(loader);
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    let after = reads.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(reads.load(Ordering::Relaxed), after, "threads still read");
}

/// Law 6: a sample's pixels do not depend on threads or on its neighbours.
#[test]
fn train_views_do_not_depend_on_threads_or_batches() {
    struct Noise;
    impl ImageReader for Noise {
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn read(&self, index: usize) -> Result<RgbImage, DataError> {
            let pixels =
                (0..48 * 40 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 9) as u8 ^ index as u8);
            Ok(RgbImage { width: 48, height: 40, pixels: pixels.collect() })
        }
    }
    let run = |workers, batch: usize| {
        let view = ImageView::Train(TrainView {
            size: 16,
            filter: Filter::Bilinear,
            seed: 5,
            decode: DecodeMode::Exact,
        });
        let split = Arc::new(Split::from_parts(vec![0; 60], Box::new(Noise)));
        let items: Vec<Item> = (0..60).map(|i| Item { position: i, sample: i * 7 % 60 }).collect();
        let requests: Vec<BatchRequest> =
            items.chunks(batch).map(|items| BatchRequest { epoch: 2, items: items.to_vec() }).collect();
        let mut loader =
            Loader::start(split, view, requests.into_iter(), options(workers, 3)).expect("threads");
        let mut all = Vec::new();
        while let Some(batch) = loader.next() {
            all.extend(batch.expect("no error").images);
        }
        all
    };
    let one = run(1, 60);
    assert_eq!(one.len(), 60 * 3 * 256);
    assert!(run(4, 7) == one && run(3, 1) == one && run(2, 32) == one);
}

/// Order, crops and pixels of files are the same for any number of threads, size of batches and point of resume.
#[test]
fn train_views_of_files_do_not_depend_on_threads_or_the_point_of_resume() {
    struct Photos(Vec<Vec<u8>>);
    impl ImageReader for Photos {
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn read(&self, index: usize) -> Result<RgbImage, DataError> {
            decode(&self.0[index]).map_err(|error| DataError::image(self.name(index), error))
        }
        fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
            take(Stored::Encoded(&self.0[index]));
            Ok(())
        }
    }
    let files = std::fs::read_dir(fixtures::kept("photos")).expect("photos");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let photos: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    let split = Arc::new(Split::from_parts(vec![0; photos.len()], Box::new(Photos(photos))));
    for decode in [DecodeMode::Exact, DecodeMode::Fast] {
        let view = ImageView::Train(TrainView { size: 96, filter: Filter::Bicubic, seed: 1, decode });
        let run = |workers, batch: usize, from: u64| {
            let items: Vec<Item> =
                (from..40).map(|i| Item { position: i, sample: i * 3 % split.len() as u64 }).collect();
            let requests: Vec<_> =
                items.chunks(batch).map(|items| BatchRequest { epoch: 1, items: items.to_vec() }).collect();
            let requests = requests.into_iter();
            let mut loader =
                Loader::start(split.clone(), view, requests, options(workers, 2)).expect("threads");
            let (mut images, mut samples) = (Vec::new(), Vec::new());
            while let Some(batch) = loader.next() {
                let batch = batch.expect("no error");
                images.extend(batch.images);
                samples.extend(batch.samples);
            }
            (images, samples)
        };
        let (images, samples) = run(1, 40, 0);
        assert_eq!(images.len(), 40 * view.bytes());
        for (workers, batch, from) in
            [(1, 7, 0), (2, 40, 0), (7, 16, 13), (16, 8, 0), (16, 5, 31), (2, 1, 39)]
        {
            let resumed = run(workers, batch, from as u64);
            assert!(resumed.0 == images[from * view.bytes()..], "{decode:?}: {workers} threads from {from}");
            assert_eq!(resumed.1, samples[from..]);
        }
    }
}

/// The reasons of a wait add up to it.
#[test]
fn a_wait_for_slow_reads_is_said_to_be_for_reads() {
    let slow = Levels { pause: Duration::from_millis(3), ..levels() };
    let mut loader = start(slow, vec![request(0..20)], options(2, 1));
    let begin = Instant::now();
    let batch = loader.next().expect("a batch").expect("no error");
    let waited = batch.waited;
    let all = waited.read + waited.decode + waited.queue;
    assert!(all > 0.0 && all <= begin.elapsed().as_secs_f64(), "{waited:?}");
    assert!(waited.read >= 0.5 * all, "{waited:?}");
    assert!(batch.work.read >= Duration::from_millis(3 * 20), "{:?}", batch.work);
}

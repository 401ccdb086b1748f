//! The speed of the loader: images per second in the view of training, and the time of each stage.

use crate::data::DataError;
use crate::data::decode::RgbImage;
use crate::data::loader::{BatchRequest, Item, Loader, LoaderOptions};
use crate::data::source::{ImageReader, Split, Stored};
use crate::data::transform::{ImageView, Work};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches prepared ahead.
const PREFETCH: usize = 4;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct DataOptions {
    /// The view of an image.
    pub view: ImageView,
    /// Images in a batch.
    pub batch_size: u64,
    /// Least time of a measurement.
    pub time: Duration,
}

/// Speed with a number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct LoaderSpeed {
    /// Number of threads.
    pub threads: usize,
    /// Images per second.
    pub images_per_second: f64,
    /// Images that were prepared.
    pub images: u64,
    /// Images that could not be read.
    pub failed: u64,
    /// Seconds of the measurement.
    pub seconds: f64,
    /// Milliseconds of one thread for one image, by stage.
    pub milliseconds: StageMilliseconds,
}

/// Milliseconds of one thread for one image.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageMilliseconds {
    /// Reading its bytes.
    pub read: f64,
    /// Decoding them.
    pub decode: f64,
    /// Cropping, resizing, mirroring and writing to the batch.
    pub transform: f64,
}

/// Measures with each number of threads, after one pass over at most 2,000 images, which fills the caches.
pub fn measure(
    split: &Arc<Split>,
    options: DataOptions,
    threads: &[usize],
) -> Result<Vec<LoaderSpeed>, DataError> {
    run(split, options, threads.iter().copied().max().unwrap_or(1), Some(WARM_UP))?;
    threads.iter().map(|&threads| run(split, options, threads, None)).collect()
}

/// Images of the first pass, which is not measured.
const WARM_UP: u64 = 2000;

/// Loads batches until the time is over, or so many images.
fn run(
    split: &Arc<Split>,
    options: DataOptions,
    threads: usize,
    limit: Option<u64>,
) -> Result<LoaderSpeed, DataError> {
    let len = split.len() as u64;
    let batch = options.batch_size;
    let requests = (0..).map(move |number: u64| {
        let items = (number * batch..(number + 1) * batch).map(|at| Item { position: at, sample: at % len });
        BatchRequest { epoch: 0, items: items.collect() }
    });
    let options_of_loader = LoaderOptions { workers: threads, prefetch: PREFETCH };
    let start = Instant::now();
    let mut loader = Loader::start(split.clone(), options.view, requests, options_of_loader)?;
    let (mut images, mut failed, mut work) = (0, 0, Work::default());
    let end = limit.map_or(u64::MAX, |limit| limit.min(len));
    while images + failed < end && (limit.is_some() || start.elapsed() < options.time) {
        let Some(loaded) = loader.next() else { break };
        let loaded = loaded?;
        images += loaded.len() as u64;
        failed += loaded.skipped.len() as u64;
        work = [work, loaded.work].into_iter().sum();
    }
    let seconds = start.elapsed().as_secs_f64();
    let each = |time: Duration| time.as_secs_f64() * 1e3 / (images + failed).max(1) as f64;
    let milliseconds = StageMilliseconds {
        read: each(work.read),
        decode: each(work.decode),
        transform: each(work.transform),
    };
    Ok(LoaderSpeed {
        threads,
        images_per_second: images as f64 / seconds,
        images,
        failed,
        seconds,
        milliseconds,
    })
}

/// The files of a folder and of those below it, in the order of their paths.
pub fn folder(root: &Path) -> Result<Split, DataError> {
    let mut paths = Vec::new();
    find(root, &mut paths)?;
    paths.sort();
    if paths.is_empty() {
        return Err(DataError::Setting(format!("`{}`: expected images, found no file", root.display())));
    }
    Ok(Split::from_parts(vec![0; paths.len()], Box::new(Files(paths))))
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let failed = |error| DataError::Setting(format!("cannot read `{}`: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            find(&path, paths)?;
        } else if is_image(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

/// Other files of a folder are descriptions of it.
fn is_image(path: &Path) -> bool {
    const ENDINGS: [&str; 11] =
        ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm"];
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Image files by their paths.
struct Files(Vec<PathBuf>);

impl ImageReader for Files {
    fn name(&self, index: usize) -> String {
        self.0[index].display().to_string()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        let mut image = Err(crate::data::DecodeError::Empty);
        self.stored(index, &mut |stored| {
            if let Stored::Encoded(bytes) = stored {
                image = crate::data::decode(bytes);
            }
        })?;
        image.map_err(|error| DataError::image(self.name(index), error))
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let bytes = fs::read(&self.0[index]).map_err(|error| DataError::image(self.name(index), error))?;
        take(Stored::Encoded(&bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures;
    use crate::data::resize::Filter;
    use crate::data::transform::{DecodeMode, TrainView};

    #[test]
    fn images_of_a_folder_are_counted_and_timed() {
        let split = Arc::new(folder(&fixtures::kept("odd")).expect("images"));
        let view = TrainView { size: 16, filter: Filter::Bicubic, seed: 0, decode: DecodeMode::Fast };
        let options =
            DataOptions { view: ImageView::Train(view), batch_size: 8, time: Duration::from_millis(30) };
        let speeds = measure(&split, options, &[1, 2]).expect("figures");
        assert_eq!(speeds.iter().map(|speed| speed.threads).collect::<Vec<_>>(), [1, 2]);
        for speed in speeds {
            assert!(speed.images > 0 && speed.images_per_second > 0.0, "{speed:?}");
            let stages = speed.milliseconds;
            assert!(stages.read > 0.0 && stages.decode > 0.0 && stages.transform > 0.0, "{speed:?}");
        }
    }

    #[test]
    fn a_folder_without_images_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("README.md"), "text").expect("a file");
        let error = folder(root.path()).expect_err("a refusal").to_string();
        assert_eq!(error, format!("`{}`: expected images, found no file", root.path().display()));
    }
}

//! Packs a data set into tar shards with an index: copied, reduced, or as pixels.
//!
//! Each image has its place from the start: shard `n` of a split holds images `n * images_per_shard` and on, in the
//! order of the source. Threads write whole shards, first under another name. A shard with its index is complete, so
//! the same command continues after any end of the process, and the bytes do not depend on threads or interruptions.
//! The shards are also a `WebDataset`: `000000000.jpg` with its label in `000000000.cls`.

mod form;
pub mod index;
pub(crate) mod pixels;
mod shard;
#[cfg(test)]
mod tests;

pub use form::PackForm;

use super::error::DataError;
use super::source::{DataSet, Split};
use index::{MANIFEST, Manifest, VERSION};
use shard::{Shard, Written};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The preset for `--data`.
pub const PRESET: &str = "data.toml";

/// Images of a shard.
pub const IMAGES_PER_SHARD: usize = 512;

/// How to pack.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// The form of the images.
    pub form: PackForm,
    /// Images of a shard.
    pub images_per_shard: usize,
    /// Threads.
    pub threads: usize,
    /// Images that may be unreadable; they keep their place and fail when they are read.
    pub max_bad_images: usize,
}

/// Why a data set cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file cannot be written or read.
    #[error("cannot write `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The folder contains something else.
    #[error("`{}` is not empty and holds no packed set\nhint: choose another `--output`", .0.display())]
    NotEmpty(PathBuf),
    /// The folder contains another packed set.
    #[error(
        "`{}` holds another packed set: expected {what} {expected}, found {found}\nhint: choose another `--output`, or remove \
         the folder",
        path.display()
    )]
    Other {
        /// The manifest.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The value of this command.
        expected: String,
        /// The value in the folder.
        found: String,
    },
    /// Another process packs into the folder.
    #[error("another process is packing into `{}`\nhint: wait for it, or choose another `--output`", .0.display())]
    Taken(PathBuf),
    /// Images cannot be read or decoded.
    #[error(
        "{count} images cannot be packed, at most {most} are allowed (`data.max_bad_images`); the first is {first}"
    )]
    BadImages {
        /// How many, so far.
        count: usize,
        /// How many are allowed.
        most: u64,
        /// The first one of them.
        first: DataError,
    },
    /// A defect of the program.
    #[error("a thread panicked while it packed images; this is a defect of the program")]
    Panicked,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Images in all.
    pub images: usize,
    /// Shards in all.
    pub shards: usize,
    /// Shards that an earlier process had completed.
    pub kept_shards: usize,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Images that could not be packed, with the reason.
    pub bad_images: Vec<String>,
}

/// Packs a data set into `output`. `progress` receives the number of images of each step that is done.
pub fn pack(
    set: &DataSet,
    output: &Path,
    options: PackOptions,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Packed, PackError> {
    let _lock = claim(output)?;
    let mut manifest = begin(set, output, options)?;
    let shards = planned(set, output, &manifest, options);
    let job = Job {
        shards: &shards,
        options,
        progress,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        bad: AtomicUsize::new(0),
    };
    let mut done = Vec::new();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..options.threads.max(1).min(shards.len())).map(|_| scope.spawn(|| job.run())).collect();
        for thread in threads {
            match thread.join() {
                Ok((written, failure)) => {
                    done.extend(written);
                    failures.extend(failure);
                }
                Err(_) => failures.push((0, PackError::Panicked)),
            }
        }
    });
    failures.sort_by_key(|&(shard, _)| shard);
    if let Some((_, failure)) = failures.into_iter().next() {
        return Err(failure);
    }
    done.sort_by_key(|&(number, _)| number);
    let mut packed =
        Packed { images: set.train.len() + set.test.len(), shards: shards.len(), ..Packed::default() };
    for (_, written) in done {
        packed.bytes += written.bytes;
        packed.kept_shards += usize::from(written.was_there);
        packed.bad_images.extend(written.bad_images);
    }
    write(
        &output.join(PRESET),
        b"# A packed set, for --data.\n\n[data]\nlayout = \"packed\"\nroot = \".\"\n",
    )?;
    manifest.complete = true;
    write_manifest(output, &manifest)?;
    Ok(packed)
}

/// Holds the folder for this process.
fn claim(output: &Path) -> Result<std::fs::File, PackError> {
    let failed = |source| PackError::Io { path: output.into(), source };
    std::fs::create_dir_all(output).map_err(failed)?;
    let folder = std::fs::File::open(output).map_err(failed)?;
    match protocol::lock::try_lock(&folder).map_err(failed)? {
        protocol::lock::Locking::Taken => Err(PackError::Taken(output.into())),
        protocol::lock::Locking::Own | protocol::lock::Locking::Unknown => Ok(folder),
    }
}

/// Writes the manifest, or compares it with that of an earlier process.
fn begin(set: &DataSet, output: &Path, options: PackOptions) -> Result<Manifest, PackError> {
    let names = |split: &Split, half| shard_names(split.len(), half, options.images_per_shard);
    let manifest = Manifest {
        version: VERSION,
        complete: false,
        form: options.form.to_string(),
        images_per_shard: options.images_per_shard.max(1),
        identity: set.identity(),
        class_names: set.class_names.clone(),
        train: names(&set.train, "train"),
        test: names(&set.test, "test"),
    };
    let path = output.join(MANIFEST);
    let failed = |source| PackError::Io { path: path.clone(), source };
    match std::fs::read(&path) {
        Ok(bytes) => {
            let found: Option<Manifest> = serde_json::from_slice(&bytes).ok();
            compare(&path, &manifest, found.as_ref())?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A killed process may leave a hidden unfinished manifest.
            let is_hidden = |name: std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
            let mut entries = std::fs::read_dir(output).map_err(failed)?.flatten();
            if entries.any(|entry| !is_hidden(entry.file_name())) {
                return Err(PackError::NotEmpty(output.into()));
            }
            write_manifest(output, &manifest)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(manifest)
}

fn compare(path: &Path, own: &Manifest, found: Option<&Manifest>) -> Result<(), PackError> {
    let differs = |what, expected: &str, found: &str| {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Err(PackError::Other { path: path.into(), what, expected, found })
    };
    let Some(found) = found else { return differs("an index of", MANIFEST, "something else") };
    let (own_count, count) = (own.images_per_shard.to_string(), found.images_per_shard.to_string());
    let pairs = [
        ("the version", &own.version.to_string(), &found.version.to_string()),
        ("the form", &own.form, &found.form),
        ("images per shard:", &own_count, &count),
        ("data with the hash", &own.identity, &found.identity),
    ];
    for (what, own, found) in pairs {
        if own != found {
            return differs(what, own, found);
        }
    }
    Ok(())
}

fn shard_names(images: usize, half: &str, per_shard: usize) -> Vec<String> {
    (0..images.div_ceil(per_shard.max(1))).map(|number| format!("{half}-{number:06}.tar")).collect()
}

fn planned<'a>(set: &'a DataSet, output: &Path, manifest: &Manifest, options: PackOptions) -> Vec<Shard<'a>> {
    let per_shard = manifest.images_per_shard;
    let of = |split: &'a Split, names: &[String]| -> Vec<Shard<'a>> {
        let shard = |(number, name): (usize, &String)| {
            let first = number * per_shard;
            let range = first..(first + per_shard).min(split.len());
            Shard { split, range, path: output.join(name), form: options.form }
        };
        names.iter().enumerate().map(shard).collect()
    };
    let mut shards = of(&set.train, &manifest.train);
    shards.extend(of(&set.test, &manifest.test));
    shards
}

/// The work of all threads.
struct Job<'a> {
    shards: &'a [Shard<'a>],
    options: PackOptions,
    progress: &'a (dyn Fn(usize) + Sync),
    next: AtomicUsize,
    stop: AtomicBool,
    bad: AtomicUsize,
}

type Failed = (usize, PackError);

impl Job<'_> {
    /// Writes shards until none is left, or one fails.
    fn run(&self) -> (Vec<(usize, Written)>, Option<Failed>) {
        let mut done = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = self.shards.get(number) else { break };
            let mut may_fail = |error: &Arc<DataError>| {
                let count = 1 + self.bad.fetch_add(1, Ordering::Relaxed);
                let most = self.options.max_bad_images;
                if count > most {
                    return Err(PackError::BadImages {
                        count,
                        most: most as u64,
                        first: DataError::clone(error),
                    });
                }
                Ok(())
            };
            match shard.complete(self.progress, &mut may_fail) {
                Ok(written) => done.push((number, written)),
                Err(failure) => {
                    self.stop.store(true, Ordering::Release);
                    return (done, Some((number, failure)));
                }
            }
        }
        (done, None)
    }
}

fn write_manifest(output: &Path, manifest: &Manifest) -> Result<(), PackError> {
    let path = output.join(MANIFEST);
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| PackError::Io { path: path.clone(), source: error.into() })?;
    write(&path, &text)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PackError> {
    protocol::write_atomically(path, bytes).map_err(|source| PackError::Io { path: path.into(), source })
}

//! Finds the missing image files of a split without opening any of them.
//!
//! Half a million `stat` calls take minutes on a network file system. Several threads list the folders instead, and
//! `stat` is called only for a name that no listing contains as a file.

use super::Split;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of threads that list folders; they wait for the file system, not for the CPU.
const THREADS: usize = 8;

/// Where the images of a split lie that are files of their own.
#[derive(Clone, Copy, Debug)]
pub struct SplitFiles<'a> {
    /// The folder below which the name of each image leads to its file.
    pub root: &'a Path,
    /// The list that names them; none for class folders.
    pub list: Option<&'a Path>,
}

/// A missing image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingImage {
    /// Its index in the split.
    pub index: usize,
    /// The error of the operating system.
    pub reason: String,
}

/// The missing images of `split`, in its order. Empty where images are stored in larger files, which were checked when
/// the data set was opened.
pub(super) fn missing(split: &Split, files: SplitFiles<'_>) -> Vec<MissingImage> {
    let mut folders: BTreeMap<PathBuf, Vec<(OsString, usize)>> = BTreeMap::new();
    let mut missing = Vec::new();
    for index in 0..split.len() {
        let path = files.root.join(split.name(index));
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => {
                // Most images are in the folder of the previous one; this check avoids a copy of its path.
                if let Some(images) = folders.get_mut(folder) {
                    images.push((name.to_owned(), index));
                } else {
                    folders.insert(folder.to_owned(), vec![(name.to_owned(), index)]);
                }
            }
            _ => missing.extend(ask(&path, index)),
        }
    }
    let folders: Vec<_> = folders.into_iter().collect();
    let next = AtomicUsize::new(0);
    let look = || {
        let mut found = Vec::new();
        while let Some((folder, images)) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(missing_in(folder, images));
        }
        found
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS.min(folders.len())).map(|_| scope.spawn(look)).collect();
        missing.extend(look());
        // A thread that only lists folders does not panic.
        missing.extend(others.into_iter().filter_map(|thread| thread.join().ok()).flatten());
    });
    missing.sort_unstable_by_key(|missing| missing.index);
    missing
}

fn missing_in(folder: &Path, images: &[(OsString, usize)]) -> Vec<MissingImage> {
    let listed = list(folder);
    let unlisted = images.iter().filter(|(name, _)| !listed.contains::<OsStr>(name));
    unlisted.filter_map(|(name, index)| ask(&folder.join(name), *index)).collect()
}

/// Names of the plain files in a folder; none of a folder that cannot be listed.
fn list(folder: &Path) -> HashSet<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.file_name()).collect()
}

/// Calls `stat` on a file, which follows links and supports case-insensitive file systems.
fn ask(path: &Path, index: usize) -> Option<MissingImage> {
    let reason = match std::fs::metadata(path) {
        Ok(found) if found.is_file() || found.file_type().is_fifo() => return None,
        Ok(_) => "it is no file".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(MissingImage { index, reason })
}

#[cfg(test)]
mod tests {
    use super::super::ImageReader;
    use super::*;
    use crate::data::decode::RgbImage;
    use crate::data::error::DataError;

    struct Named(PathBuf, Vec<&'static str>);

    impl ImageReader for Named {
        fn name(&self, index: usize) -> String {
            self.1[index].to_owned()
        }
        fn read(&self, _: usize) -> Result<RgbImage, DataError> {
            unreachable!("nothing is opened")
        }
        fn files(&self) -> Option<SplitFiles<'_>> {
            Some(SplitFiles { root: &self.0, list: None })
        }
    }

    #[test]
    fn what_is_not_there_is_found_in_the_order_of_the_split() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for class in ["a", "b", "deep/er"] {
            std::fs::create_dir_all(root.join(class)).unwrap();
        }
        for file in ["a/1.png", "b/1.png", "deep/er/1.png", "flat.png"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("flat.png"), root.join("a/link.png")).unwrap();
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("a/dangling.png")).unwrap();
        std::fs::create_dir(root.join("b/folder.png")).unwrap();
        let names = [
            "b/2.png",
            "a/1.png",
            "flat.png",
            "a/link.png",
            "a/dangling.png",
            "b/folder.png",
            "c/1.png",
            "./b/1.png",
            "b/../deep/er/1.png",
            "a/2.png",
        ];
        let reader = Named(root.to_owned(), names.to_vec());
        let split = Split::from_parts(vec![0; names.len()], Box::new(reader));
        let found: Vec<_> = split.missing().into_iter().map(|missing| names[missing.index]).collect();
        assert_eq!(found, ["b/2.png", "a/dangling.png", "b/folder.png", "c/1.png", "a/2.png"]);
        assert_eq!(split.missing()[2].reason, "it is no file");
        assert!(split.missing()[0].reason.starts_with("No such file or directory"));
    }
}

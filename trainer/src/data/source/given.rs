//! Images that a user names outside of any data set, and the class sizes of a run without its images.

use super::files::{self, FileSample, probe};
use super::finding::Finding;
use super::folders;
use super::stored::{Stored, decoded};
use super::{ImageReader, Split};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use std::io;
use std::path::{Path, PathBuf};

/// The images in a folder and in the folders below it, in byte order of their paths, and what was left out.
pub fn images_below(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Finding>), DataError> {
    let (names, findings) = folders::images_below(folder)?;
    Ok((names.into_iter().map(|name| folder.join(name)).collect(), findings))
}

/// Whether a file is meant to be an image: by its extension, or else by its first bytes. A damaged image is one.
pub fn is_image(path: &Path) -> bool {
    path.file_name().is_some_and(|name| folders::has_image_ending(&name.to_string_lossy()))
        || probe(path).is_ok()
}

impl Split {
    /// Images at these paths, without classes: the label of each is 0.
    pub fn of_paths(paths: Vec<PathBuf>) -> Self {
        Self::from_parts(vec![0; paths.len()], Box::new(Paths(paths)))
    }

    /// So many images of each class, none of which can be read: what a run records of its training images.
    pub fn of_counts(counts: &[u64]) -> Self {
        let of_class = |(class, &count): (u32, &u64)| std::iter::repeat_n(class, count as usize);
        Self::from_parts((0..).zip(counts).flat_map(of_class).collect(), Box::new(Absent))
    }
}

struct Paths(Vec<PathBuf>);

impl ImageReader for Paths {
    fn name(&self, index: usize) -> String {
        self.0[index].to_string_lossy().into_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        files::read_stored_at(&self.0[index], &self.name(index), take)
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        files::sample(&self.0[index])
    }
}

struct Absent;

impl ImageReader for Absent {
    fn name(&self, index: usize) -> String {
        format!("training image {index}")
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        Err(DataError::image(self.name(index), io::Error::from(io::ErrorKind::NotFound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_name_or_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        assert!(is_image(&file("torn.jpg", b"")), "a damaged image is reported as an image");
        assert!(is_image(&file("no-extension", b"\xff\xd8\xff\xe0 and more")));
        assert!(!is_image(&file("list.txt", b"a.jpg\n")));
    }

    #[test]
    fn a_run_remembers_how_many_images_each_class_had() {
        let split = Split::of_counts(&[2, 0, 1]);
        assert_eq!(split.labels(), [0, 0, 2]);
        assert!(split.read(0).is_err_and(|error| error.is_image_failure()));
    }
}

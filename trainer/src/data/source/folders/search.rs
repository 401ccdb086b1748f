//! Finds the images in class folders: files with an image extension, and other files that contain an image.

use super::left_out::{LeftOut, LeftOutReason};
use crate::data::decode::DecodeError;
use crate::data::error::{DataError, ImageFault};
use crate::data::source::files::probe;
use std::ffi::OsString;
use std::fs::FileType;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

/// Extensions of image files, in lower case. Files with another extension are opened and inspected.
const ENDINGS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "jfi", "pjpeg", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff",
    "ppm", "pgm",
];

/// Folders that operating systems and programs create, in lower case.
const LITTER: [&str; 9] = [
    "@eadir",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__macosx",
    "__pycache__",
    "thumbs.db",
];

/// Number of folders that are read at a time, because each takes long on a network file system.
const THREADS: usize = 8;

/// The names of the class folders in a folder, in byte order.
pub(super) fn class_folders(root: &Path, left_out: &mut LeftOut) -> Result<Vec<String>, DataError> {
    let mut folders = Vec::new();
    for FolderEntry { name, kind } in entries(root)? {
        match kind {
            _ if name.starts_with('.') => left_out.add(None, LeftOutReason::Hidden, &name),
            EntryKind::Folder if is_litter(&name) => left_out.add(None, LeftOutReason::Litter, &name),
            EntryKind::Folder => folders.push(name),
            kind => {
                let reason = if kind == EntryKind::File {
                    examined(root, &name)
                } else {
                    Some(LeftOutReason::NotAFile)
                };
                left_out.add(None, reason.unwrap_or(LeftOutReason::NoClass), &name);
            }
        }
    }
    folders.sort_unstable();
    if folders.is_empty() {
        return Err(DataError::content("class folder", root, "it contains no class folder"));
    }
    Ok(folders)
}

/// The images of each class folder and the folders in it, in byte order of their paths.
pub(super) fn search(
    root: &Path,
    classes: &[String],
    left_out: &mut LeftOut,
) -> Result<Vec<Vec<String>>, DataError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let label = next.fetch_add(1, Ordering::Relaxed);
            let Some(class) = classes.get(label) else { return done };
            let mut search = Search { label, images: Vec::new(), left_out: LeftOut::default() };
            let folder = root.join(class);
            let result = if folder.is_dir() { search.folder(&folder, "", &mut Vec::new()) } else { Ok(()) };
            done.push((label, result.map(|()| search)));
        }
    };
    let mut found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(classes.len())).map(|_| scope.spawn(work)).collect();
        let join =
            |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        threads.into_iter().flat_map(join).collect()
    });
    found.sort_unstable_by_key(|&(label, _)| label);
    let mut images = Vec::with_capacity(classes.len());
    for (_, search) in found {
        let Search { images: mut files, left_out: own, .. } = search?;
        files.sort_unstable();
        left_out.merge(own);
        images.push(files);
    }
    Ok(images)
}

/// The search through one class.
struct Search {
    label: usize,
    images: Vec<String>,
    left_out: LeftOut,
}

impl Search {
    /// Searches a folder; `inner` is its path within the class folder, with a trailing slash. `above` contains its parent
    /// folders, because a link may lead back to one of them.
    fn folder(&mut self, folder: &Path, inner: &str, above: &mut Vec<(u64, u64)>) -> Result<(), DataError> {
        let metadata = folder.metadata().map_err(|error| DataError::open("class folder", folder, error))?;
        let own = (metadata.dev(), metadata.ino());
        if above.contains(&own) {
            self.left_out.add(Some(self.label), LeftOutReason::Loop, inner);
            return Ok(());
        }
        above.push(own);
        for FolderEntry { name, kind } in entries(folder)? {
            let path = format!("{inner}{name}");
            let reason = match kind {
                _ if name.starts_with('.') => Some(LeftOutReason::Hidden),
                EntryKind::Folder if is_litter(&name) => Some(LeftOutReason::Litter),
                EntryKind::Folder => {
                    self.folder(&folder.join(&name), &format!("{path}/"), above)?;
                    continue;
                }
                EntryKind::File => examined(folder, &name),
                EntryKind::Other => Some(LeftOutReason::NotAFile),
            };
            if let Some(reason) = reason {
                self.left_out.add(Some(self.label), reason, &path);
                continue;
            }
            if !inner.is_empty() {
                self.left_out.add(Some(self.label), LeftOutReason::Subfolder, &path);
            }
            self.images.push(path);
        }
        above.pop();
        Ok(())
    }
}

/// Whether a name has the extension of an image.
pub(super) fn has_image_ending(name: &str) -> bool {
    let is_known = |(_, ending): (&str, &str)| ENDINGS.contains(&ending.to_ascii_lowercase().as_str());
    name.rsplit_once('.').is_some_and(is_known)
}

/// The reason why a file is not an image, if it is not.
fn examined(folder: &Path, name: &str) -> Option<LeftOutReason> {
    if has_image_ending(name) {
        return None;
    }
    Some(match probe(&folder.join(name)).err()? {
        ImageFault::Decode(DecodeError::OtherImage(format)) => LeftOutReason::OtherFormat(format),
        ImageFault::Decode(_) => LeftOutReason::NoImage,
        _ => LeftOutReason::Unreadable,
    })
}

fn is_litter(name: &str) -> bool {
    LITTER.contains(&name.to_lowercase().as_str())
}

struct FolderEntry {
    name: String,
    kind: EntryKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Folder,
    File,
    Other,
}

/// The contents of a folder, with links followed. A dangling link is a file that cannot be read.
fn entries(folder: &Path) -> Result<Vec<FolderEntry>, DataError> {
    let failed = |error| DataError::open("class folder", folder, error);
    let kind = |kind: FileType| match kind {
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_file() => EntryKind::File,
        _ => EntryKind::Other,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let own = entry.file_type().map_err(failed)?;
        let kind = if own.is_symlink() {
            std::fs::metadata(entry.path()).map_or(EntryKind::File, |metadata| kind(metadata.file_type()))
        } else {
            kind(own)
        };
        let name = entry.file_name().into_string().map_err(|name: OsString| {
            DataError::content("class folder", folder, format!("the name {} is not UTF-8", name.display()))
        })?;
        entries.push(FolderEntry { name, kind });
    }
    Ok(entries)
}

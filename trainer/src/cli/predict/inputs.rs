//! The images that the user names: files, folders, lists, and the JSON files of iNaturalist.

use crate::data::source::{Severity, images_below, is_image};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use serde::Deserialize;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An image, and its identifier for a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputImage {
    pub(super) path: PathBuf,
    pub(super) id: String,
}

/// Refused inputs.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// A file or folder that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A folder that cannot be searched.
    #[error(transparent)]
    Search(#[from] crate::data::error::DataError),
    /// A folder without images.
    #[error(
        "`{}` contains no image; expected JPEG, PNG, WebP, GIF, BMP, TIFF or PNM files, at any depth",
        .0.display()
    )]
    NoImage(PathBuf),
    /// A list without paths.
    #[error("`{}` names no image; expected the path of an image in each line", .0.display())]
    EmptyList(PathBuf),
    /// A file that is neither.
    #[error(
        "`{}` is neither an image nor a list of images; expected an image, a folder, a text file with the path of an image in each line, or a JSON file of iNaturalist",
        .0.display()
    )]
    Neither(PathBuf),
    /// A JSON file of another form.
    #[error(
        "`{}` is not a JSON file of iNaturalist ({reason}); expected `{{\"images\": [{{\"id\": 1, \"file_name\": \"a.jpg\"}}, ...]}}`",
        path.display()
    )]
    Json { path: PathBuf, reason: String },
}

/// The images, found by rank 0 and sent to all ranks: only rank 0 has standard input.
pub(super) fn of_all_ranks(
    inputs: &[PathBuf],
    root: Option<&Path>,
    rank: &Rank,
) -> Result<Vec<InputImage>, Failure> {
    let found = agreed(&rank.control, || {
        if rank.leads() { all(inputs, root).map_err(Failure::input) } else { Ok(Vec::new()) }
    })?;
    let fields = found.iter().flat_map(|image| [image.path.as_os_str().as_bytes(), image.id.as_bytes()]);
    // No path and no identifier contains a zero byte.
    let sent = rank.control.broadcast(fields.collect::<Vec<_>>().join(&0), 0)?;
    let fields: Vec<&[u8]> = sent.split(|&byte| byte == 0).collect();
    let (pairs, _) = fields.as_chunks::<2>();
    Ok(pairs
        .iter()
        .map(|&[path, id]| InputImage {
            path: PathBuf::from(OsStr::from_bytes(path)),
            id: String::from_utf8_lossy(id).into_owned(),
        })
        .collect())
}

fn all(inputs: &[PathBuf], root: Option<&Path>) -> Result<Vec<InputImage>, InputError> {
    let mut images = Vec::new();
    for input in inputs {
        images.extend(of_input(input, root)?);
    }
    Ok(images)
}

fn of_input(input: &Path, root: Option<&Path>) -> Result<Vec<InputImage>, InputError> {
    let failed = |source| InputError::Read { path: input.to_owned(), source };
    if input == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        let name = Path::new("standard input");
        return in_list(name, &bytes, root.unwrap_or(Path::new("")));
    }
    if std::fs::metadata(input).map_err(failed)?.is_dir() {
        return in_folder(input);
    }
    if is_image(input) {
        return Ok(vec![image(input.to_owned())]);
    }
    let folder = root.or(input.parent()).unwrap_or(Path::new(""));
    let bytes = std::fs::read(input).map_err(failed)?;
    if input.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        return in_json(input, &bytes, folder);
    }
    in_list(input, &bytes, folder)
}

fn in_folder(folder: &Path) -> Result<Vec<InputImage>, InputError> {
    let (images, findings) = images_below(folder)?;
    for finding in findings.iter().filter(|finding| finding.weight == Severity::Warning) {
        tracing::warn!("{}", finding.text);
    }
    if images.is_empty() {
        return Err(InputError::NoImage(folder.to_owned()));
    }
    Ok(images.into_iter().map(image).collect())
}

/// One path per line. A line that is not text is the path of a file all the same.
fn in_list(list: &Path, bytes: &[u8], folder: &Path) -> Result<Vec<InputImage>, InputError> {
    if bytes.contains(&0) {
        return Err(InputError::Neither(list.to_owned()));
    }
    let lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let paths = lines.filter(|line| !line.trim_ascii().is_empty());
    let images: Vec<_> = paths.map(|line| image(folder.join(OsStr::from_bytes(line)))).collect();
    if images.is_empty() { Err(InputError::EmptyList(list.to_owned())) } else { Ok(images) }
}

#[derive(Deserialize)]
struct Listing {
    images: Vec<ListedImage>,
}

#[derive(Deserialize)]
struct ListedImage {
    id: serde_json::Number,
    file_name: String,
}

fn in_json(file: &Path, bytes: &[u8], folder: &Path) -> Result<Vec<InputImage>, InputError> {
    let wrong = |reason: String| InputError::Json { path: file.to_owned(), reason };
    let listing: Listing = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    if let Some(image) = listing.images.iter().find(|image| image.file_name.contains('\0')) {
        return Err(wrong(format!("the name of image {} contains a zero byte", image.id)));
    }
    if listing.images.is_empty() {
        return Err(InputError::EmptyList(file.to_owned()));
    }
    let image =
        |image: ListedImage| InputImage { path: folder.join(image.file_name), id: image.id.to_string() };
    Ok(listing.images.into_iter().map(image).collect())
}

/// An image without an identifier has its name without the extension.
fn image(path: PathBuf) -> InputImage {
    let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    InputImage { path, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(images: &[InputImage]) -> Vec<(&str, &str)> {
        images.iter().map(|image| (image.path.to_str().unwrap(), image.id.as_str())).collect()
    }

    #[test]
    fn lists_are_relative_to_their_folder_or_to_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.txt");
        std::fs::write(&list, "b/1.jpg\r\n\n/abs/two words.png\n").unwrap();
        let images = of_input(&list, Some(Path::new("/data"))).unwrap();
        assert_eq!(found(&images), [("/data/b/1.jpg", "1"), ("/abs/two words.png", "two words")]);
        let images = of_input(&list, None).unwrap();
        assert_eq!(images[0].path, folder.path().join("b/1.jpg"));
    }

    #[test]
    fn a_json_file_gives_identifiers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.json");
        std::fs::write(&file, r#"{"info": {}, "images": [{"id": 42, "file_name": "x/y.jpg", "w": 1}]}"#)
            .unwrap();
        assert_eq!(found(&of_input(&file, Some(Path::new("r"))).unwrap()), [("r/x/y.jpg", "42")]);
        std::fs::write(&file, "[]").unwrap();
        let error = of_input(&file, None).unwrap_err().to_string();
        assert!(error.contains("is not a JSON file of iNaturalist"), "{error}");
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = of_input(folder.path(), None).unwrap_err().to_string();
        let expected = format!(
            "`{}` contains no image; expected JPEG, PNG, WebP, GIF, BMP, TIFF or PNM files, at any depth",
            folder.path().display()
        );
        assert_eq!(error, expected);
        for (bytes, expected) in
            [(&b"\n \n"[..], "names no image"), (b"\0\x01", "neither an image nor a list")]
        {
            let file = folder.path().join("file");
            std::fs::write(&file, bytes).unwrap();
            let error = of_input(&file, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = of_input(Path::new("/absent.jpg"), None).unwrap_err().to_string();
        assert_eq!(error, "cannot read `/absent.jpg`: No such file or directory (os error 2)");
    }
}

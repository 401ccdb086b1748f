//! Where the images of a table lie, and the endings of names without one.

use super::super::finding::{Finding, counted};
use super::super::lists::{ImageLocation, ListFile};
use super::super::names::StringTable;
use super::super::{DataSpec, below};
use crate::data::error::DataError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Endings of image files.
const ENDINGS: [&str; 12] =
    ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];

/// Joins a table with the place of its images. Without `data.images`, that is the folder of the table or one below it
/// with a usual name, whichever has the first image.
pub(super) fn locate(
    list: ListFile,
    spec: &DataSpec,
) -> Result<(ListFile, ImageLocation, Option<Finding>), DataError> {
    if let Some(images) = &spec.images {
        let place = below(&spec.root, images);
        if !place.is_dir() {
            return Ok((list, ImageLocation::open(place)?, None));
        }
        let (list, finding) = with_endings(list, &place)?;
        return Ok((list, ImageLocation::Folder(place), finding));
    }
    let home = list.path.parent().unwrap_or(Path::new(".")).to_owned();
    let places = usual_places(&list.path, &home);
    let first = list.names.get(0).to_owned();
    let Some(place) = places.iter().find(|place| has(place, &first)).cloned() else {
        let looked: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        let reason = format!(
            "the image `{first}` is in none of {}\nhint: name the folder or tar file of the images with `--set data.images=PATH`",
            looked.join(", ")
        );
        return Err(DataError::line(&list.path, list.lines.first().map_or(0, |&line| line as usize), reason));
    };
    let (list, endings) = with_endings(list, &place)?;
    let elsewhere = (place != home).then(|| format!("its images lie in `{}`", place.display()));
    let words: Vec<String> = elsewhere.into_iter().chain(endings.map(|found| found.text)).collect();
    let finding = (!words.is_empty()).then(|| {
        let text = format!("`{}`: {}", list.path.display(), words.join("; "));
        Finding::note(text)
    });
    Ok((list, ImageLocation::Folder(place), finding))
}

/// The folders in which the images of a table usually lie.
fn usual_places(table: &Path, home: &Path) -> Vec<PathBuf> {
    let stem = table.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let names = [
        stem.clone(),
        format!("{stem}_images"),
        "images".into(),
        "train_images".into(),
        "train".into(),
        "img".into(),
    ];
    let mut places = vec![home.to_owned()];
    for place in names.iter().map(|name| home.join(name)) {
        if place.is_dir() && !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn has(place: &Path, name: &str) -> bool {
    let path = place.join(name);
    path.is_file() || (!has_ending(name) && ENDINGS.iter().any(|ending| with_ending(&path, ending).is_file()))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

fn has_ending(name: &str) -> bool {
    let ending = name.rsplit('/').next().unwrap_or(name).rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(image_ending)
}

/// Whether files with this ending are images.
pub(in crate::data::source) fn image_ending(ending: &str) -> bool {
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

/// Completes names without an ending by the files that are there. Each folder is listed once.
fn with_endings(list: ListFile, place: &Path) -> Result<(ListFile, Option<Finding>), DataError> {
    let count = list.names.len();
    if (0..count).all(|index| has_ending(list.names.get(index))) {
        return Ok((list, None));
    }
    let mut folders: HashMap<PathBuf, HashMap<String, Option<String>>> = HashMap::new();
    let mut names = StringTable::default();
    let mut completed = 0;
    for index in 0..count {
        let name = list.names.get(index);
        let path = place.join(name);
        let (false, Some(folder), Some(stem)) = (has_ending(name), path.parent(), path.file_name()) else {
            names.push(name);
            continue;
        };
        let files = folders.entry(folder.to_owned()).or_insert_with(|| stems(folder));
        match files.get(&*stem.to_string_lossy()) {
            Some(Some(ending)) => {
                names.push(&format!("{name}.{ending}"));
                completed += 1;
            }
            Some(None) => {
                let reason = format!(
                    "`{name}` may be several files of `{}` that differ in their ending",
                    folder.display()
                );
                return Err(DataError::line(
                    &list.path,
                    list.lines.get(index).map_or(0, |&line| line as usize),
                    reason,
                ));
            }
            // Reported with all missing images.
            None => names.push(name),
        }
    }
    names.shrink();
    let text =
        format!("{} without an ending completed by the files that are there", counted(completed, "name"));
    Ok((ListFile { names, ..list }, (completed > 0).then(|| Finding::note(text))))
}

/// The image files of a folder by their names without ending; none for a name with several endings.
fn stems(folder: &Path) -> HashMap<String, Option<String>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let (true, Some((stem, ending))) = (has_ending(&name), name.rsplit_once('.')) {
            let ending = Some(ending.to_owned());
            files.entry(stem.to_owned()).and_modify(|known| *known = None).or_insert(ending);
        }
    }
    files
}

//! iNaturalist's JSON files, which are COCO's without boxes: images, annotations that give each image a category, and
//! categories.

use super::class_names::Folders;
use super::finding::Finding;
use super::lists::{ImageLocation, ListFile};
use super::names::StringTable;
use super::standard::{self, Wanted};
use super::{DataSet, DataSpec, Split, below, read_text};
use crate::data::error::DataError;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The parts of the file that are read.
#[derive(Deserialize)]
struct AnnotationFile {
    images: Vec<ImageRow>,
    annotations: Option<Vec<Annotation>>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct ImageRow {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// The images of one file with the ids of their categories.
struct Annotated {
    path: PathBuf,
    names: StringTable,
    categories_of: Vec<u64>,
    categories: BTreeMap<u64, String>,
}

/// Opens a data set of annotations. Classes are the categories of the training file in the order of their ids.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let train = read(&standard::train(spec, &Wanted::ANNOTATIONS)?)?;
    let test = if spec.has_test() { Some(read(&standard::test(spec, &Wanted::ANNOTATIONS)?)?) } else { None };
    let classes: HashMap<u64, u32> = train.categories.keys().copied().zip(0..).collect();
    let mut findings = Vec::new();
    let gaps = train.categories.keys().copied().zip(0..).any(|(id, class): (u64, u64)| id != class);
    if gaps {
        let first = train.categories.keys().next().copied().unwrap_or(0);
        findings.push(Finding::note(format!(
            "the {} categories of `{}` are not numbered from 0 without gaps; they are classes in the order of their ids: \
             id {first} is class 0",
            classes.len(),
            train.path.display()
        )));
    }
    let class_names = match &spec.class_names {
        Some(path) => {
            super::class_names::read_class_names(&below(&spec.root, path), &Folders::default())?.names
        }
        None => train.categories.values().cloned().collect(),
    };
    if class_names.len() < classes.len() {
        let reason = format!("{} names for {} categories", class_names.len(), classes.len());
        return Err(DataError::content("class names", spec.class_names.clone().unwrap_or_default(), reason));
    }
    let train = train.into_split(&classes, spec)?;
    let test = test.map_or_else(|| Ok(Split::empty()), |test| test.into_split(&classes, spec))?;
    Ok(DataSet { class_names, train, test, findings })
}

fn read(path: &Path) -> Result<Annotated, DataError> {
    let text = read_text("annotations", path)?;
    let file: AnnotationFile =
        serde_json::from_str(&text).map_err(|error| DataError::line(path, error.line(), said(&error)))?;
    drop(text);
    let wrong = |reason: String| DataError::content("annotations", path, reason);
    let Some(annotations) = file.annotations else {
        return Err(wrong("it has no `annotations`, so its images have no label\nhint: take a file with labels, such as `val2018.json`".into()));
    };
    let categories: BTreeMap<u64, String> =
        file.categories.iter().map(|row| (row.id, row.name.clone())).collect();
    if categories.is_empty() {
        return Err(wrong("it has no `categories`, so its classes have no name".into()));
    }
    if categories.len() != file.categories.len() {
        return Err(wrong("two of its `categories` have the same id".into()));
    }
    let mut category_of = HashMap::with_capacity(annotations.len());
    for (row, Annotation { image_id, category_id }) in annotations.into_iter().enumerate() {
        if !categories.contains_key(&category_id) {
            return Err(wrong(format!(
                "annotation {row}: category {category_id} is not among its `categories`"
            )));
        }
        if category_of.insert(image_id, category_id).is_some_and(|other| other != category_id) {
            return Err(wrong(format!(
                "image {image_id} has annotations of several categories, as in a file for detection; expected one category an image"
            )));
        }
    }
    let (mut names, mut categories_of) = (StringTable::default(), Vec::with_capacity(file.images.len()));
    for ImageRow { id, file_name } in file.images {
        let category = category_of.get(&id).copied();
        let none = || wrong(format!("image {id} (`{file_name}`) has no annotation"));
        categories_of.push(category.ok_or_else(none)?);
        names.push(&file_name);
    }
    if categories_of.is_empty() {
        return Err(wrong("it has no image".into()));
    }
    names.shrink();
    Ok(Annotated { path: path.into(), names, categories_of, categories })
}

/// The message of the parser without its place.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    format!(
        "expected annotations as iNaturalist writes them (`images`, `annotations`, `categories`): {reason}"
    )
}

impl Annotated {
    fn into_split(self, classes: &HashMap<u64, u32>, spec: &DataSpec) -> Result<Split, DataError> {
        let Self { path, names, categories_of, categories } = self;
        let class = |id: &u64| {
            classes.get(id).copied().ok_or_else(|| {
                let name = categories.get(id).map_or("", String::as_str);
                let reason =
                    format!("category {id} (`{name}`) is not among the categories of the training file");
                DataError::content("annotations", &path, reason)
            })
        };
        let labels = categories_of.iter().map(class).collect::<Result<_, _>>()?;
        let root = spec.images.as_ref().map_or_else(|| spec.root.clone(), |images| below(&spec.root, images));
        let list = ListFile { path, names, labels, lines: Vec::new() };
        list.into_split(&ImageLocation::open(root)?)
    }
}

#[cfg(test)]
mod tests;

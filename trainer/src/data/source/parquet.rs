//! Parquet files with the bytes of the images, as Hugging Face writes them: a column that is a struct of `bytes` and
//! `path`, or a plain binary column. Pages are found once; an image is read with the page it is in, and the last pages
//! are kept for whoever reads in order.

mod file;
mod page_cache;
mod pages;
mod thrift;

use super::finding::Finding;
use super::labels::{LabelColumn, classes};
use super::standard::{self, Wanted};
use super::stored::{Stored, decoded};
use super::table::{given_names, label_column};
use super::{DataSet, DataSpec, ImageReader, Split};
use crate::data::decode::RgbImage;
use crate::data::error::DataError;
use ::parquet::basic::{LogicalType, Type};
use ::parquet::file::metadata::{FileMetaData, RowGroupMetaData};
use file::PositionedFile;
use page_cache::PageCache;
use pages::Chunk;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows in all, which fit the numbers of samples.
const MAX_ROWS: usize = u32::MAX as usize;

/// Images of a page above which a shuffled order is slow.
const MANY_ROWS: usize = 16;

/// The files of a split.
#[derive(Default)]
struct Rows {
    reader: ParquetReader,
    labels: LabelColumn,
    /// Names of the classes, if the files state them.
    names: Option<Vec<String>>,
    /// The columns that were read.
    columns: Option<(String, String)>,
}

/// Opens a data set of Parquet files.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let train = read_all(&standard::all_train(spec, &Wanted::PARQUET)?, spec)?;
    let test = if spec.has_test() {
        read_all(&standard::all_test(spec, &Wanted::PARQUET)?, spec)?
    } else {
        Rows::default()
    };
    let given = given_names(spec)?.or_else(|| train.names.clone());
    let mut found = classes(&train.labels, &test.labels, given, spec.first_label).map_err(|fault| {
        let rows = if fault.in_test { &test } else { &train };
        let (path, row) = rows.reader.place_of(fault.row);
        DataError::content("Parquet file", path, format!("row {row}: {}", fault.reason))
    })?;
    if let Some((image, label)) = &train.columns {
        let text = format!(
            "the Parquet files have the images in column `{image}` and the labels in column `{label}`"
        );
        found.findings.insert(0, Finding::note(text));
    }
    found.findings.extend(train.reader.large_pages());
    let train = Split::from_parts(found.train, Box::new(train.reader));
    let test = Split::from_parts(found.test, Box::new(test.reader));
    Ok(DataSet { class_names: found.names, train, test, findings: found.findings })
}

fn read_all(paths: &[PathBuf], spec: &DataSpec) -> Result<Rows, DataError> {
    let mut rows = Rows::default();
    for path in paths {
        rows.add(path, spec)?;
    }
    if rows.labels.len() == 0 {
        let path = paths.first().cloned().unwrap_or_default();
        return Err(DataError::content("Parquet file", path, "it has no row; expected one for each image"));
    }
    Ok(rows)
}

impl Rows {
    /// Adds the row groups of a file.
    fn add(&mut self, path: &Path, spec: &DataSpec) -> Result<(), DataError> {
        let wrong = |reason: String| DataError::content("Parquet file", path, reason);
        let file = Arc::new(PositionedFile::open(path)?);
        let metadata = file.metadata(path)?;
        let columns = FileColumns::choose(path, metadata.file_metadata(), spec)?;
        if let Some((image, label)) =
            self.columns.as_ref().filter(|known| **known != (columns.image.clone(), columns.label.clone()))
        {
            let (found_image, found_label) = (&columns.image, &columns.label);
            return Err(wrong(format!(
                "expected the columns `{image}` and `{label}` as in the first file, found `{found_image}` and `{found_label}`"
            )));
        }
        if self.names.is_none() {
            self.names = class_label_names(metadata.file_metadata(), &columns.label);
        }
        let number = self.reader.paths.len() as u32;
        let mut row = 0;
        for group in metadata.row_groups() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
            if rows > MAX_ROWS.saturating_sub(self.labels.len()) {
                return Err(wrong(format!("a row group claims {rows} rows; it is damaged")));
            }
            let damaged = |reason: String| wrong(format!("from row {row}: {reason}\nhint: copy it again"));
            let chunk = |column| Chunk::open(&file, group.column(column), rows).map_err(damaged);
            check_images(group, columns.image_leaf, rows).map_err(wrong)?;
            self.labels_of(&chunk(columns.label_leaf)?, path, row)?;
            let images = chunk(columns.image_leaf)?;
            self.reader.groups.push(Group {
                file: number,
                first: self.reader.len,
                first_in_file: row,
                images,
            });
            self.reader.len += rows;
            row += rows;
        }
        self.reader.paths.push(path.into());
        self.columns.get_or_insert((columns.image, columns.label));
        Ok(())
    }

    fn labels_of(&mut self, chunk: &Chunk, path: &Path, first: usize) -> Result<(), DataError> {
        let (mut row, mut gap) = (first, None);
        let labels = &mut self.labels;
        let read = chunk.texts(&mut |text| {
            match text {
                Some(text) if !text.trim().is_empty() => labels.push(&text),
                _ => drop(gap.get_or_insert(row)),
            }
            row += 1;
        });
        let wrong = |reason: String| DataError::content("Parquet file", path, reason);
        read.map_err(|reason| wrong(format!("its labels from row {first}: {reason}")))?;
        gap.map_or(Ok(()), |row| Err(wrong(format!("row {row} has no label"))))
    }
}

/// Every image takes some bytes, so a claim of more rows than bytes is damage.
fn check_images(group: &RowGroupMetaData, leaf: usize, rows: usize) -> Result<(), String> {
    let bytes = usize::try_from(group.column(leaf).uncompressed_size()).unwrap_or(0);
    if rows > bytes {
        return Err(format!(
            "a row group claims {rows} images in {bytes} bytes; it is damaged\nhint: copy it again"
        ));
    }
    Ok(())
}

/// The columns of a file that are read, and the places of their values.
struct FileColumns {
    image: String,
    image_leaf: usize,
    label: String,
    label_leaf: usize,
}

impl FileColumns {
    fn choose(path: &Path, file: &FileMetaData, spec: &DataSpec) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::content("Parquet file", path, reason);
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (leaf, column) in file.schema_descr().columns().iter().enumerate() {
            let parts = column.path().parts();
            let is_bytes = column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0;
            let is_text = column.logical_type_ref() == Some(&LogicalType::String)
                || column.converted_type() == ::parquet::basic::ConvertedType::UTF8;
            let is_number = matches!(column.physical_type(), Type::INT32 | Type::INT64);
            match parts {
                [name, inner] if is_bytes && inner == "bytes" => images.push((name.clone(), leaf)),
                [name] if is_bytes && !is_text => images.push((name.clone(), leaf)),
                _ => {}
            }
            if let ([name], true) = (parts, column.max_rep_level() == 0 && (is_number || is_bytes && is_text))
            {
                labels.push((name.clone(), leaf));
            }
        }
        let listed = |columns: &[(String, usize)]| {
            let names: Vec<String> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let (image, image_leaf) = match (&spec.image_column, &images[..]) {
            (Some(wanted), _) => {
                images.iter().find(|(name, _)| name == wanted).cloned().ok_or_else(|| {
                    wrong(format!(
                        "it has no column `{wanted}` of image bytes (`data.image_column`); found {}",
                        listed(&images)
                    ))
                })?
            }
            (None, [one]) => one.clone(),
            (None, []) => {
                let all: Vec<String> =
                    file.schema().get_fields().iter().map(|field| format!("`{}`", field.name())).collect();
                return Err(wrong(format!(
                    "no column has bytes (binary, or a struct with `bytes`); its columns are {}",
                    all.join(", ")
                )));
            }
            (None, several) => {
                return Err(wrong(format!(
                    "several columns may hold the images: {}\nhint: name one with `--set data.image_column=NAME`",
                    listed(several)
                )));
            }
        };
        let names: Vec<String> = labels.iter().map(|(name, _)| name.clone()).collect();
        let label = label_column(path, &names, spec.label_column.as_deref())?;
        let label_leaf = labels.iter().find(|(name, _)| *name == label).map_or(0, |&(_, leaf)| leaf);
        Ok(Self { image, image_leaf, label, label_leaf })
    }
}

/// Class names as Hugging Face's `datasets` states them in the footer.
fn class_label_names(file: &FileMetaData, label: &str) -> Option<Vec<String>> {
    let value = file.key_value_metadata()?.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
    let value: serde_json::Value = serde_json::from_str(value).ok()?;
    let names = value.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The images of one row group.
struct Group {
    file: u32,
    /// Index of its first image in the split.
    first: usize,
    /// Row of its first image in its file.
    first_in_file: usize,
    images: Chunk,
}

/// Images within Parquet files.
#[derive(Default)]
struct ParquetReader {
    paths: Vec<PathBuf>,
    groups: Vec<Group>,
    len: usize,
    pages: PageCache,
}

impl ParquetReader {
    /// In a shuffled order, every image costs a whole page.
    fn large_pages(&self) -> Option<Finding> {
        let most = self.groups.iter().map(|group| group.images.most_rows()).max()?;
        (most > MANY_ROWS).then(|| {
            Finding::note(format!(
                "the Parquet files have up to {most} images in a page, and all of a page are read for one of them: training in \
                 a shuffled order is faster from a packed copy (`lift-trainer pack`)"
            ))
        })
    }

    /// The row group of an image, and its row there.
    fn find(&self, index: usize) -> Option<(&Group, usize)> {
        let after = self.groups.partition_point(|group| group.first <= index);
        let group = self.groups.get(after.checked_sub(1)?)?;
        Some((group, index - group.first))
    }

    /// The file of an image and its row there.
    fn place_of(&self, index: usize) -> (&Path, usize) {
        let place = self.find(index).map(|(group, row)| {
            let path = self.paths.get(group.file as usize).map_or(Path::new(""), PathBuf::as_path);
            (path, group.first_in_file + row)
        });
        place.unwrap_or((Path::new(""), index))
    }

    /// Passes the bytes of an image to `take`.
    fn with_bytes(&self, index: usize, take: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
        let nothing = |reason: &str| std::io::Error::other(reason.to_owned());
        let (group, row) = self.find(index).ok_or_else(|| nothing("there is no such row"))?;
        let (page, row) = group.images.page_of(row).ok_or_else(|| nothing("there is no such page"))?;
        let bytes = group.images.page_bytes(page);
        let values = self.pages.get((group.first, page), bytes, || group.images.page(page));
        match values.get() {
            Some(Ok(values)) => {
                let value = values.get(row).and_then(Option::as_ref);
                take(value.ok_or_else(|| nothing("its row has no bytes"))?.data());
                Ok(())
            }
            Some(Err(reason)) => Err(nothing(reason)),
            None => Err(nothing("its page was not read")),
        }
    }
}

impl ImageReader for ParquetReader {
    fn name(&self, index: usize) -> String {
        let (path, row) = self.place_of(index);
        format!("{}/{row}", path.file_name().unwrap_or_default().to_string_lossy())
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let read = self.with_bytes(index, &mut |bytes| take(Stored::Encoded(bytes)));
        read.map_err(|error| DataError::image(self.name(index), error))
    }
}

#[cfg(test)]
mod tests;

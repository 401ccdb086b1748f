//! Tables of images: CSV, TSV or JSON lines with a column of image names and a column of labels, over a folder or a tar
//! file of images, as Hugging Face (`train/metadata.csv`) and Kaggle (`train.csv`, names without endings) write them.

mod columns;
mod csv;
mod images;
mod json_lines;
#[cfg(test)]
mod tests;

pub(super) use columns::{Columns, WantedColumns, label_column};
pub(super) use images::image_ending;
pub(super) use json_lines::text_of;

use super::class_names::{Folders, read_class_names};
use super::finding::Finding;
use super::labels::{Classes, LabelColumn, classes};
use super::lists::ListFile;
use super::names::StringTable;
use super::standard::{self, Wanted};
use super::{DataSet, DataSpec, Split, below};
use crate::data::error::DataError;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The rows of a table.
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) names: StringTable,
    pub(super) labels: LabelColumn,
    /// Line of each row, counted from 1.
    pub(super) lines: Vec<u32>,
    /// The columns that were read.
    pub(super) columns: Columns,
}

impl Table {
    fn new(path: &Path, columns: Columns) -> Self {
        let (names, labels, lines) = (StringTable::default(), LabelColumn::default(), Vec::new());
        Self { path: path.into(), names, labels, lines, columns }
    }

    fn push(&mut self, name: &str, label: &str, line: u64) -> Result<(), DataError> {
        let wrong = |what: &str, column: &str, reason: &str| {
            let reason = format!("the {what} in column `{column}` {reason}");
            DataError::line(&self.path, line as usize, reason)
        };
        for (text, what, column) in
            [(name, "image", &self.columns.image), (label, "label", &self.columns.label)]
        {
            if text.trim().is_empty() {
                return Err(wrong(what, column, "is empty"));
            }
            if text.contains(['\n', '\r', '\0']) {
                return Err(wrong(
                    what,
                    column,
                    "goes over several lines\nhint: close the quotation mark before it",
                ));
            }
        }
        self.names.push(name.trim());
        self.labels.push(label);
        self.lines.push(line as u32);
        Ok(())
    }
}

/// Opens a data set of tables.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let train = read(&standard::train(spec, &Wanted::TABLES)?, spec)?;
    let test =
        if spec.has_test() { Some(read(&standard::test(spec, &Wanted::TABLES)?, spec)?) } else { None };
    let found = find_classes(&train, test.as_ref(), spec)?;
    let mut findings: Vec<Finding> = [&train].into_iter().chain(&test).map(described).collect();
    findings.extend(found.findings);
    let mut split = |table: Table, labels: Vec<u32>| {
        let Table { path, names, lines, .. } = table;
        let list = ListFile { path, names, labels, lines };
        let (list, images, finding) = images::locate(list, spec)?;
        findings.extend(finding);
        list.into_split(&images)
    };
    let train = split(train, found.train)?;
    let test = test.map_or_else(|| Ok(Split::empty()), |test| split(test, found.test))?;
    Ok(DataSet { class_names: found.names, train, test, findings })
}

fn find_classes(train: &Table, test: Option<&Table>, spec: &DataSpec) -> Result<Classes, DataError> {
    let (given, none) = (given_names(spec)?, LabelColumn::default());
    classes(&train.labels, test.map_or(&none, |test| &test.labels), given, spec.first_label).map_err(
        |fault| {
            let table = test.filter(|_| fault.in_test).unwrap_or(train);
            let line = table.lines.get(fault.row).map_or(0, |&line| line as usize);
            DataError::line(&table.path, line, fault.reason)
        },
    )
}

/// The names in `data.class_names`, if it is set.
pub(super) fn given_names(spec: &DataSpec) -> Result<Option<Vec<String>>, DataError> {
    let read = |path: &PathBuf| read_class_names(&below(&spec.root, path), &Folders::default());
    spec.class_names.as_ref().map(read).transpose().map(|read| read.map(|read| read.names))
}

fn described(table: &Table) -> Finding {
    let Columns { image, label } = &table.columns;
    Finding::note(format!(
        "`{}`: {} images, their names in column `{image}`, their labels in column `{label}`",
        table.path.display(),
        table.labels.len()
    ))
}

/// Reads a table in the form that its ending states.
pub(super) fn read(path: &Path, spec: &DataSpec) -> Result<Table, DataError> {
    let wanted = WantedColumns { image: spec.image_column.as_deref(), label: spec.label_column.as_deref() };
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    let table = match ending.as_str() {
        "csv" | "tsv" | "tab" => csv::read(path, &ending, wanted)?,
        "jsonl" | "ndjson" => json_lines::read(path, wanted)?,
        _ => {
            let reason = "expected a table that ends in `.csv`, `.tsv` or `.jsonl`";
            return Err(DataError::content("table", path, reason));
        }
    };
    if table.labels.len() == 0 {
        return Err(DataError::content("table", path, "it has no row; expected one for each image"));
    }
    Ok(table)
}

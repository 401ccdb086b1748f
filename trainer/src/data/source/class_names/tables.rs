//! Class names in JSON and CSV.

use super::{FORMS, NameTable, RowOrder, TableForm};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Names of fields that hold the name of a class, the best first.
const NAME: [&str; 10] = [
    "name",
    "class_name",
    "classname",
    "label_name",
    "category_name",
    "class",
    "category",
    "species",
    "title",
    "label",
];

/// Names of fields that hold its label.
const NUMBER: [&str; 11] = [
    "id",
    "label",
    "label_id",
    "class_id",
    "category_id",
    "index",
    "idx",
    "class_index",
    "target",
    "number",
    "class",
];

/// Names of fields that hold its folder.
const FOLDER: [&str; 8] = ["wnid", "synset", "folder", "dir", "directory", "dir_name", "code", "path"];

/// Names of fields that hold all classes.
const LIST: [&str; 5] = ["categories", "classes", "names", "class_names", "labels"];

/// A list of names or of objects with `id` and `name`, or a table from label or folder to name, or from name to label.
pub(super) fn json(text: &str) -> Result<TableForm, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it begins like JSON, but is not: {error}"))?;
    match &value {
        Value::Array(rows) => list(rows),
        Value::Object(fields) => match LIST.iter().find_map(|key| fields.get(*key)) {
            Some(Value::Array(rows)) => list(rows),
            Some(Value::Object(fields)) => object(fields),
            _ => object(fields),
        },
        _ => Err(format!("expected {FORMS}")),
    }
}

fn list(rows: &[Value]) -> Result<TableForm, String> {
    let named = |row: &Value| {
        name_of(row).ok_or_else(|| format!("expected a name or an object with `name`, found {row}"))
    };
    let names: Vec<String> = rows.iter().map(named).collect::<Result<_, _>>()?;
    let number = |row: &Value| NUMBER.iter().find_map(|key| row.get(key)?.as_u64());
    let numbers: Vec<u64> = rows.iter().filter_map(number).collect();
    if numbers.len() == rows.len() {
        let rows = numbers.into_iter().zip(names).collect();
        return Ok(TableForm::of(NameTable::Numbered(rows), "a JSON list of numbered classes"));
    }
    if !numbers.is_empty() {
        return Err("some classes of its list have a number, and some do not".to_owned());
    }
    Ok(TableForm::of(NameTable::Ordered(names), "a JSON list of names"))
}

fn object(fields: &Map<String, Value>) -> Result<TableForm, String> {
    let number = |text: &str| text.parse::<u64>().ok();
    if fields.is_empty() {
        return Err(format!("it contains no class; expected {FORMS}"));
    }
    if let Some(rows) = fields.iter().map(|(name, label)| Some((label.as_u64()?, name.clone()))).collect() {
        return Ok(TableForm::of(NameTable::Numbered(rows), "a JSON table from names to labels"));
    }
    let named = |(key, value): (&String, &Value)| {
        name_of(value)
            .map(|name| (key.clone(), name))
            .ok_or_else(|| format!("expected a name for `{key}`, found {value}"))
    };
    let rows: Vec<(String, String)> = fields.iter().map(named).collect::<Result<_, _>>()?;
    if let Some(rows) = rows.iter().map(|(key, name)| Some((number(key)?, name.clone()))).collect() {
        return Ok(TableForm::of(NameTable::Numbered(rows), "a JSON table from labels to names"));
    }
    Ok(TableForm::of(NameTable::Keyed(rows, RowOrder::Unknown), "a JSON table from folders to names"))
}

/// A name as text, as the last of several texts (`["n01440764", "tench"]`), or as a field of an object.
fn name_of(value: &Value) -> Option<String> {
    let name = match value {
        Value::String(name) => name,
        Value::Array(values) if values.iter().all(Value::is_string) => values.last()?.as_str()?,
        Value::Object(fields) => NAME.iter().find_map(|key| fields.get(*key)?.as_str())?,
        _ => return None,
    };
    Some(name.trim().to_owned())
}

/// Reads fields with a header, or two fields of which one is the label. `None` if the text is not CSV.
pub(super) fn csv(text: &str, ending: &str) -> Result<Option<TableForm>, String> {
    let is_csv = matches!(ending, "csv" | "tsv");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let Some(mark) = mark(&lines, is_csv) else { return Ok(None) };
    let rows: Vec<Vec<String>> = lines.iter().map(|line| fields(line, mark)).collect();
    let header: Vec<String> = rows[0].iter().map(|field| field.to_lowercase().replace(' ', "_")).collect();
    let known =
        |field: &&String| [&NAME[..], &NUMBER, &FOLDER].iter().any(|names| names.contains(&field.as_str()));
    // Without the ending of CSV, one known word may be a name.
    let has_header = header.iter().filter(known).count() > usize::from(!is_csv);
    let columns = header.len();
    if let Some(line) = rows.iter().position(|row| row.len() != columns) {
        let found = rows[line].len();
        let reason = format!(
            "expected {columns} fields in each row as in its first, found {found} in row {}",
            line + 1
        );
        return if has_header || is_csv { Err(reason) } else { Ok(None) };
    }
    let body = if has_header { &rows[1..] } else { &rows[..] };
    if body.is_empty() {
        return Err(format!("it contains a header but no class; expected {FORMS}"));
    }
    let columns = if has_header { by_header(&header, body) } else { by_content(body) };
    match columns {
        Some(columns) => Ok(Some(columns.table(body))),
        None if has_header || is_csv => Err(format!(
            "expected CSV with a header that names a column `name`, and `id` or `folder` beside it, or two fields of which \
             one is the label; found `{}`",
            lines[0]
        )),
        None => Ok(None),
    }
}

/// The separator: a character that occurs in every line. Because names contain commas too, this alone is not enough.
fn mark(lines: &[&str], is_csv: bool) -> Option<char> {
    let in_all = |mark: &char| lines.iter().all(|line| line.contains(*mark));
    ['\t', ',', ';'].into_iter().find(in_all).or(is_csv.then_some(','))
}

/// The roles of the columns.
struct TableColumns {
    name: usize,
    number: Option<usize>,
    folder: Option<usize>,
}

impl TableColumns {
    fn table(&self, rows: &[Vec<String>]) -> TableForm {
        let cell = |row: &Vec<String>, column: usize| row[column].clone();
        let names = rows.iter().map(|row| cell(row, self.name));
        match (self.number, self.folder) {
            (Some(number), _) => {
                let numbers = rows.iter().map(|row| row[number].parse().unwrap_or(u64::MAX));
                TableForm::of(NameTable::Numbered(numbers.zip(names).collect()), "CSV with labels")
            }
            (None, Some(folder)) => {
                let folders = rows.iter().map(|row| cell(row, folder));
                TableForm::of(
                    NameTable::Keyed(folders.zip(names).collect(), RowOrder::OfLabels),
                    "CSV with folders",
                )
            }
            (None, None) => TableForm::of(NameTable::Ordered(names.collect()), "CSV"),
        }
    }
}

fn by_header(header: &[String], rows: &[Vec<String>]) -> Option<TableColumns> {
    let column = |names: &[&str], test: &dyn Fn(usize) -> bool| {
        names
            .iter()
            .find_map(|name| header.iter().position(|field| field == name).filter(|&column| test(column)))
    };
    let number = column(&NUMBER, &|column| is_numbers(rows, column));
    let name = column(&NAME, &|column| !is_numbers(rows, column))?;
    Some(TableColumns { name, number, folder: column(&FOLDER, &|column| column != name) })
}

/// One field, or two of which one holds the labels 0, 1, 2, ... or 1, 2, 3, ...
fn by_content(rows: &[Vec<String>]) -> Option<TableColumns> {
    let columns = rows[0].len();
    if columns == 1 {
        return Some(TableColumns { name: 0, number: None, folder: None });
    }
    let labels = |column: usize| {
        let numbers: HashSet<u64> = rows.iter().filter_map(|row| row[column].parse().ok()).collect();
        [0, 1].iter().any(|first| (0..rows.len() as u64).all(|index| numbers.contains(&(first + index))))
    };
    let number = (0..columns).find(|&column| labels(column)).filter(|_| columns == 2)?;
    Some(TableColumns { name: 1 - number, number: Some(number), folder: None })
}

fn is_numbers(rows: &[Vec<String>], column: usize) -> bool {
    rows.iter().all(|row| row[column].parse::<u64>().is_ok())
}

/// The fields of a line; a field in quotes may hold the mark, and `""` for one quote.
fn fields(line: &str, mark: char) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields[last].push('"');
            }
            '"' if quoted || fields[last].trim().is_empty() => quoted = !quoted,
            letter if letter == mark && !quoted => fields.push(String::new()),
            letter => fields[last].push(letter),
        }
    }
    fields.into_iter().map(|field| field.trim().to_owned()).collect()
}

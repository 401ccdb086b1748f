//! JSON lines: one object a line.

use super::{Columns, Table, WantedColumns};
use crate::data::error::DataError;
use crate::data::source::labels::short;
use crate::data::source::read_text;
use serde_json::{Map, Value};
use std::path::Path;

/// Reads a table whose first object names the columns.
pub(super) fn read(path: &Path, wanted: WantedColumns<'_>) -> Result<Table, DataError> {
    let text = read_text("table", path)?;
    let mut table: Option<Table> = None;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: String| DataError::line(path, index + 1, reason);
        let row: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
            wrong(format!("expected a JSON object, found `{}` ({})", short(line), without_line(&error)))
        })?;
        if table.is_none() {
            let there: Vec<String> = row.keys().cloned().collect();
            table = Some(Table::new(path, Columns::choose(path, &there, wanted)?));
        }
        let Some(table) = &mut table else { continue };
        let field = |column: &str| match row.get(column) {
            Some(value) => text_of(value).ok_or_else(|| {
                wrong(format!(
                    "expected a text or a whole number in `{column}`, found {}",
                    short(&value.to_string())
                ))
            }),
            None => Err(wrong(format!("the object has no `{column}`, which the first one has"))),
        };
        let (name, label) = (field(&table.columns.image)?, field(&table.columns.label)?);
        table.push(&name, &label, index as u64 + 1)?;
    }
    table.ok_or_else(|| DataError::content("table", path, "the file is empty; expected a JSON object a line"))
}

/// A text or a whole number as text.
pub(in crate::data::source) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number)
            if number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0) =>
        {
            Some(number.to_string())
        }
        _ => None,
    }
}

/// The message of a parser without its line, which counts from the start of this line.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ")
        .map_or(text.clone(), |(reason, _)| format!("{reason} at column {}", error.column()))
}

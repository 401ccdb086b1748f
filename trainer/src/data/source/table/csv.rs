//! CSV and TSV with a header.

use super::{Columns, Table, WantedColumns};
use crate::data::error::DataError;
use crate::data::source::read_text;
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use std::path::Path;

/// Separators of columns other than the tab.
const SEPARATORS: [u8; 3] = [b',', b';', b'|'];

/// Reads a table whose first row names the columns.
pub(super) fn read(path: &Path, ending: &str, wanted: WantedColumns<'_>) -> Result<Table, DataError> {
    let text = read_text("table", path)?;
    let header = text.lines().next().unwrap_or_default();
    let delimiter = if ending == "csv" { separator(header) } else { b'\t' };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let failed = |error: csv::Error| broken(path, &error);
    let there: Vec<String> = reader.headers().map_err(failed)?.iter().map(str::to_owned).collect();
    let columns = Columns::choose(path, &there, wanted)?;
    let place = |wanted: &str| there.iter().position(|name| name == wanted).unwrap_or(0);
    let (image, label) = (place(&columns.image), place(&columns.label));
    let mut table = Table::new(path, columns);
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(failed)? {
        let line = record.position().map_or(0, csv::Position::line);
        table.push(record.get(image).unwrap_or_default(), record.get(label).unwrap_or_default(), line)?;
    }
    Ok(table)
}

/// The separator that the header has most of; a comma if it has none.
fn separator(header: &str) -> u8 {
    let count = |mark: u8| header.bytes().filter(|&byte| byte == mark).count();
    let commas = count(b',');
    SEPARATORS.into_iter().chain([b'\t']).find(|&mark| mark != b',' && count(mark) > commas).unwrap_or(b',')
}

fn broken(path: &Path, error: &csv::Error) -> DataError {
    let line = error.position().map_or(0, csv::Position::line) as usize;
    let reason = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "expected {expected_len} fields as in the header, found {len}\nhint: put fields that contain the separator into \
             quotation marks, and close each of these"
        ),
        _ => error.to_string(),
    };
    DataError::line(path, line, reason)
}

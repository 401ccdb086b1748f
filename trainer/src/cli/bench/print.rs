//! Prints reports to standard output.

use crate::engine::failure::Failure;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use protocol::terminal;
use serde::Serialize;
use std::path::Path;

/// Prints the report as JSON or with `text`, and also writes it to `save` as JSON.
pub(super) fn report<T: Serialize>(
    report: &T,
    json: bool,
    save: Option<&Path>,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let as_json = serde_json::to_string_pretty(report).map_err(Failure::run)? + "\n";
    if let Some(path) = save {
        let written = protocol::write_atomically(path, as_json.as_bytes());
        written.map_err(|error| {
            Failure::run(format!("cannot write the report `{}`: {error}", path.display()))
        })?;
    }
    let printed = if json { terminal::print_json(&as_json) } else { terminal::print(&text(report)) };
    printed.map(drop).map_err(Failure::run)
}

/// A table without rules; the first column is left-aligned, the others right-aligned.
pub(super) fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.force_no_tty();
    table.set_header(headers);
    for row in rows {
        table.add_row(row);
    }
    table.discover_columns();
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if at == 0 { CellAlignment::Left } else { CellAlignment::Right });
        column.set_padding((if at == 0 { 0 } else { 2 }, 0));
    }
    table.trim_fmt() + "\n"
}

/// Formats seconds with a suitable unit.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "-".to_owned(),
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Formats bytes with a suitable decimal unit.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.2} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// The formatted value, or a dash for none.
pub(super) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_suitable_unit() {
        assert_eq!([1.5e-6, 2e-3, 3.0, f64::NAN].map(time), ["1.5 us", "2.00 ms", "3.00 s", "-"]);
        assert_eq!([4.0, 4096.0, 6.7e7, 1e9].map(bytes), ["4 B", "4.1 kB", "67.00 MB", "1.00 GB"]);
    }

    #[test]
    fn a_table_is_plain_text() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "10".to_owned()]];
        assert_eq!(table(&["name", "n"], rows), "name   n\na      1\nbcd   10\n");
    }
}

//! Tables of comma-separated values.

use super::{LogExportError, TimedLine, new_folder, write_new};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Kind of a line, and the file of its lines.
const FILES: [(&str, &str); 3] =
    [("step", "steps.csv"), ("epoch", "epochs.csv"), ("eval", "evaluations.csv")];
/// The first columns; the others follow by name.
const FIRST: [&str; 2] = ["step", "epoch"];

/// Writes a file for each kind of line that the run has, into a new folder, which it returns.
pub fn write(lines: &[TimedLine], folder: &Path) -> Result<PathBuf, LogExportError> {
    new_folder(folder)?;
    for (kind, name) in FILES {
        let of_kind = |line: &&TimedLine| line.fields.get("kind").and_then(Value::as_str) == Some(kind);
        let lines: Vec<&TimedLine> = lines.iter().filter(of_kind).collect();
        if !lines.is_empty() {
            write_new(&folder.join(name), table(&lines))?;
        }
    }
    Ok(folder.to_owned())
}

/// Lines end as RFC 4180 says.
fn table(lines: &[&TimedLine]) -> String {
    let fields = lines.iter().filter_map(|line| line.fields.as_object()).flat_map(|fields| fields.keys());
    let others: BTreeSet<&str> =
        fields.map(String::as_str).filter(|name| !FIRST.contains(name) && *name != "kind").collect();
    let columns: Vec<&str> = FIRST.into_iter().chain(others).collect();
    let mut text =
        columns.iter().map(|name| cell(&Value::from(*name))).collect::<Vec<_>>().join(",") + ",time\r\n";
    for line in lines {
        for name in &columns {
            text.push_str(&line.fields.get(*name).map_or_else(String::new, cell));
            text.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{:.3}\r\n", line.time);
    }
    text
}

/// A value; null is empty, and text is quoted where it must be.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains(['"', ',', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_column_for_each_field() {
        let lines = [
            TimedLine {
                fields: json!({"kind": "eval", "epoch": 1, "step": 5, "few": null, "split": "a,\"b\""}),
                time: 1.5,
            },
            TimedLine { fields: json!({"kind": "eval", "epoch": 2, "step": 9, "ece": 0.1}), time: 2.0 },
        ];
        let text = table(&lines.iter().collect::<Vec<_>>());
        assert_eq!(
            text,
            "step,epoch,ece,few,split,time\r\n5,1,,,\"a,\"\"b\"\"\",1.500\r\n9,2,0.1,,,2.000\r\n"
        );
    }
}

//! Formatter of `result.json`: one line per field, and within lists of records one line per record.
//!
//! Standard indentation would use one line for each of a hundred thousand predictions.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// `value` as JSON with a line per field of the outermost object, ended by a newline.
pub(super) fn to_lines(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, LinePerRecord::default()))?;
    text.push(b'\n');
    Ok(text)
}

/// `values` as a JSON list with a line per value, ended by a newline.
pub(super) fn list(values: &[impl Serialize]) -> io::Result<Vec<u8>> {
    let mut text = b"[".to_vec();
    for (at, value) in values.iter().enumerate() {
        text.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut text, value)?;
    }
    text.extend_from_slice(b"\n]\n");
    Ok(text)
}

#[derive(Default)]
struct LinePerRecord {
    /// Depth of open objects and arrays.
    depth: usize,
    /// Whether the next value is an element of an array in the outermost object.
    element: bool,
    /// Whether the last value was an object.
    object_ended: bool,
}

impl Formatter for LinePerRecord {
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.element {
            out.write_all(b"\n    ")?;
        }
        self.element = false;
        self.object_ended = false;
        self.depth += 1;
        out.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match (self.depth, first) {
            (1, true) => out.write_all(b"\n  "),
            (1, false) => out.write_all(b",\n  "),
            (_, true) => Ok(()),
            (_, false) => out.write_all(b", "),
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.object_ended = false;
        out.write_all(b": ")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.object_ended = true;
        out.write_all(if self.depth == 0 { b"\n}" } else { b"}" })
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.object_ended = false;
        out.write_all(b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element = self.depth == 2;
        if first { Ok(()) } else { out.write_all(b",") }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.element = false;
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        let records = self.object_ended && self.depth == 1;
        self.object_ended = false;
        out.write_all(if records { b"\n  ]" } else { b"]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_a_line_per_value() {
        let text = String::from_utf8(list(&[json!({"a": 1}), json!({"a": 2})]).unwrap()).unwrap();
        assert_eq!(text, "[\n{\"a\":1},\n{\"a\":2}\n]\n");
        assert_eq!(list(&[] as &[u8]).unwrap(), b"[\n]\n");
    }

    #[test]
    fn a_line_per_field_and_per_record() {
        let value = json!({
            "a": 1.5, "b": null, "c": [1, 2, 3], "d": [{"x": 1, "y": "{["}, {"x": 2, "y": [3, {"z": 4}]}], "e": [], "f": {},
            "g": {"h": [{"i": 1}]}, "j": [[1, 2], [3]],
        });
        let text = String::from_utf8(to_lines(&value).unwrap()).unwrap();
        let expected = r#"{
  "a": 1.5,
  "b": null,
  "c": [1,2,3],
  "d": [
    {"x": 1, "y": "{["},
    {"x": 2, "y": [3,{"z": 4}]}
  ],
  "e": [],
  "f": {},
  "g": {"h": [{"i": 1}]},
  "j": [[1,2],[3]]
}
"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}

//! Values as text: in messages, and as TOML.

use std::fmt::Write;
use toml::Value;

/// A value in words, as a phrase after "found".
pub fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {}", render(value)),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(date) => format!("the date {date}"),
        Value::Array(_) => format!("the list {}", render(value)),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// A value as TOML on one line.
pub fn render(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Float(number) => render_float(*number),
        Value::Array(values) => format!("[{}]", values.iter().map(render).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| format!("{} = {}", quote(key), render(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Integer(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}

/// TOML writes `nan` and `inf` in small letters.
fn render_float(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { format!("{number:?}") }
}

/// A basic string; every control character is escaped, so it never breaks the line.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

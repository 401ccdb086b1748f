//! The part of Python's pickle format that CIFAR-100's files use: plain values in lists and tables, and a
//! `NumPy` array.
//!
//! A pickle is a program; this reader knows the instructions that build values and refuses every other.
//! Nothing is called: the names of `NumPy`'s constructors are recognised as names. Large byte strings (the
//! pixels) are not read but noted by their place in the file.

use crate::data::error::DataError;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Byte strings longer than this are left in the file.
const MAX_STRING: u64 = 1 << 16;

/// Constructors that may be named.
const KNOWN: [&str; 6] = [
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
    "builtins bytes",
];

type Id = usize;

/// A value that a pickle builds; parts are numbers into the table of all values.
#[derive(Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A string, and its place in the file.
    Text(Vec<u8>, u64),
    /// A long string, left in the file.
    Blob {
        offset: u64,
        len: u64,
    },
    Sequence(Vec<Id>),
    Table(Vec<(Id, Id)>),
    Name(String),
    /// What a constructor would make: its name, its arguments and the state set afterwards.
    Made {
        name: Id,
        arguments: Id,
        state: Option<Id>,
    },
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

/// Rows of bytes within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteRows {
    pub(super) offset: u64,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Pickle {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|error| DataError::open("pickle", path, error))?;
        let len = file.metadata().map_err(|error| DataError::open("pickle", path, error))?.len();
        let input = Input { file: BufReader::new(file), at: 0, len };
        let mut machine =
            Machine { input, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run().map_err(|reason| {
            DataError::content("pickle", path, format!("at byte {}: {reason}", machine.input.at))
        })?;
        Ok(Self { values: machine.values, root })
    }

    /// The value of a key of the outermost table.
    fn entry(&self, key: &str) -> Option<Id> {
        let Value::Table(entries) = &self.values[self.root] else { return None };
        let is_key = |id: Id| matches!(&self.values[id], Value::Text(text, _) if text == key.as_bytes());
        entries.iter().find(|(id, _)| is_key(*id)).map(|(_, value)| *value)
    }

    fn sequence(&self, id: Id) -> Option<&[Id]> {
        match &self.values[id] {
            Value::Sequence(parts) => Some(parts),
            _ => None,
        }
    }

    /// A list of labels.
    pub(super) fn labels(&self, key: &str) -> Option<Vec<u32>> {
        let label = |id: &Id| match self.values[*id] {
            Value::Int(number) => u32::try_from(number).ok(),
            _ => None,
        };
        self.sequence(self.entry(key)?)?.iter().map(label).collect()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let text = |id: &Id| match &self.values[*id] {
            Value::Text(text, _) => String::from_utf8(text.clone()).ok(),
            _ => None,
        };
        self.sequence(self.entry(key)?)?.iter().map(text).collect()
    }

    /// A two-dimensional array of bytes in row order.
    pub(super) fn byte_rows(&self, key: &str) -> Option<ByteRows> {
        let Value::Made { name, state: Some(state), .. } = &self.values[self.entry(key)?] else {
            return None;
        };
        let Value::Name(name) = &self.values[*name] else { return None };
        // State of an array: version, shape, type, whether columns come first, bytes.
        let [_, shape, kind, columns_first, bytes] = self.sequence(*state)? else { return None };
        let Value::Made { arguments, .. } = &self.values[*kind] else { return None };
        let is_byte = matches!(&self.values[*self.sequence(*arguments)?.first()?], Value::Text(text, _) if text == b"u1");
        let by_rows = matches!(self.values[*columns_first], Value::Bool(false) | Value::Int(0));
        let (offset, len) = match &self.values[*bytes] {
            Value::Blob { offset, len } => (*offset, *len),
            Value::Text(text, offset) => (*offset, text.len() as u64),
            _ => return None,
        };
        let [rows, columns] = self.sequence(*shape)? else { return None };
        let (Value::Int(rows), Value::Int(columns)) = (&self.values[*rows], &self.values[*columns]) else {
            return None;
        };
        let (rows, columns) = (usize::try_from(*rows).ok()?, usize::try_from(*columns).ok()?);
        let right = offset != u64::MAX && name.ends_with(" _reconstruct") && is_byte && by_rows;
        (right && rows.checked_mul(columns)? as u64 == len).then_some(ByteRows { offset, rows, columns })
    }
}

/// The file, with the place in it.
struct Input {
    file: BufReader<File>,
    at: u64,
    len: u64,
}

type Outcome<T> = Result<T, String>;

impl Input {
    fn bytes<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|_| "the file ends early; copy it anew".to_owned())?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// A string of a known length; a long one is passed over.
    fn string(&mut self, len: u64) -> Outcome<Value> {
        if self.at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(format!("a string of {len} bytes goes beyond the end of the file; copy it anew"));
        }
        if len > MAX_STRING {
            let blob = Value::Blob { offset: self.at, len };
            self.file.seek_relative(len as i64).map_err(|error| error.to_string())?;
            self.at += len;
            return Ok(blob);
        }
        let mut text = vec![0; len as usize];
        self.file.read_exact(&mut text).map_err(|error| error.to_string())?;
        let offset = self.at;
        self.at += len;
        Ok(Value::Text(text, offset))
    }

    /// A line without its end.
    fn line(&mut self) -> Outcome<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes::<1>()?[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
                byte if line.len() < 256 => line.push(byte),
                _ => return Err("a name is longer than 256 bytes".into()),
            }
        }
    }
}

/// The stack machine of the format.
struct Machine {
    input: Input,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine {
    fn run(&mut self) -> Outcome<Id> {
        loop {
            let [code] = self.input.bytes()?;
            if code == b'.' {
                return self.pop();
            }
            let done = self.push_value(code)? || self.build(code)? || self.remember(code)?;
            if !done {
                return Err(format!(
                    "instruction 0x{code:02x} is not one of plain data; the file is refused"
                ));
            }
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Outcome<Id> {
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    /// What was pushed since the last mark.
    fn since_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// Instructions that push a value of their own.
    fn push_value(&mut self, code: u8) -> Outcome<bool> {
        let value = match code {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(code == 0x88),
            b'K' => Value::Int(self.input.bytes::<1>()?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.input.bytes()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.input.bytes()?).into()),
            b'I' => match self.input.line()?.trim() {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => Value::Int(digits.parse().map_err(|_| format!("`{digits}` is not a number"))?),
            },
            b'U' | b'C' | 0x8c => {
                let len = self.input.bytes::<1>()?[0].into();
                self.input.string(len)?
            }
            b'T' | b'B' | b'X' => {
                let len = u32::from_le_bytes(self.input.bytes()?).into();
                self.input.string(len)?
            }
            0x8d | 0x8e => {
                let len = u64::from_le_bytes(self.input.bytes()?);
                self.input.string(len)?
            }
            b']' | b')' => Value::Sequence(Vec::new()),
            b'}' => Value::Table(Vec::new()),
            b'c' => {
                let name = format!("{} {}", self.input.line()?, self.input.line()?);
                known(name)?
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Text(module, _), Value::Text(name, _)) => known(format!(
                        "{} {}",
                        String::from_utf8_lossy(module),
                        String::from_utf8_lossy(name)
                    ))?,
                    _ => return Err("a name is not a text".into()),
                }
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Instructions that join values.
    fn build(&mut self, code: u8) -> Outcome<bool> {
        match code {
            b'(' => self.marks.push(self.stack.len()),
            b't' | b'l' => {
                let parts = self.since_mark()?;
                self.push(Value::Sequence(parts));
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or("the stack is empty")?;
                let parts = self.stack.split_off(start);
                self.push(Value::Sequence(parts));
            }
            b'a' | b'e' => {
                let parts = if code == b'a' { vec![self.pop()?] } else { self.since_mark()? };
                let list = self.top()?;
                let Value::Sequence(all) = &mut self.values[list] else { return Err("not a list".into()) };
                all.extend(parts);
            }
            b's' | b'u' => {
                let parts = if code == b's' {
                    let value = self.pop()?;
                    vec![self.pop()?, value]
                } else {
                    self.since_mark()?
                };
                let table = self.top()?;
                let Value::Table(all) = &mut self.values[table] else { return Err("not a table".into()) };
                all.extend(parts.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
            }
            b'R' => {
                let (arguments, name) = (self.pop()?, self.pop()?);
                let made = self.make(name, arguments)?;
                self.push(made);
            }
            b'b' => {
                let (new, made) = (self.pop()?, self.top()?);
                let Value::Made { state, .. } = &mut self.values[made] else {
                    return Err("not an object".into());
                };
                *state = Some(new);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn make(&self, name: Id, arguments: Id) -> Outcome<Value> {
        let Value::Name(text) = &self.values[name] else { return Err("not a constructor".into()) };
        let Value::Sequence(parts) = &self.values[arguments] else { return Err("no arguments".into()) };
        // Python 3 writes bytes in old protocols as encoded text.
        if text == "_codecs encode"
            && let Some(Value::Text(bytes, _)) = parts.first().map(|&id| &self.values[id])
        {
            let latin = String::from_utf8_lossy(bytes);
            // No place: these bytes do not stand in the file as they are.
            return Ok(Value::Text(latin.chars().map(|c| c as u8).collect(), u64::MAX));
        }
        Ok(Value::Made { name, arguments, state: None })
    }

    /// Instructions that keep and recall values, or say something about the file.
    fn remember(&mut self, code: u8) -> Outcome<bool> {
        match code {
            0x80 => drop(self.input.bytes::<1>()?),
            0x95 => drop(self.input.bytes::<8>()?),
            b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'q' => self.input.bytes::<1>()?[0].into(),
                    b'r' => u32::from_le_bytes(self.input.bytes()?),
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = if code == b'h' {
                    self.input.bytes::<1>()?[0].into()
                } else {
                    u32::from_le_bytes(self.input.bytes()?)
                };
                self.stack.push(*self.memo.get(&key).ok_or_else(|| format!("nothing is kept as {key}"))?);
            }
            b'0' => drop(self.pop()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn known(name: String) -> Outcome<Value> {
    if KNOWN.contains(&name.as_str()) {
        return Ok(Value::Name(name));
    }
    Err(format!("it names `{name}`; only plain data and a NumPy array are read, so the file is refused"))
}

//! The pickles of CIFAR-100's Python files: tables of plain values, and a `NumPy` array of bytes.

use crate::data::error::DataError;
use crate::pickle::{AllowList, ObjectId, Objects, Pickle, Value};
use std::fs;
use std::io;
use std::path::Path;

/// Longest file read; the published ones have up to 155 MB. It is in memory only until its labels are known.
const MAX_BYTES: usize = 1 << 30;
/// Most values of a file; an image has five, the numbers of its two labels and the name of its file among them.
const MAX_OBJECTS: usize = 5_000_000;
/// Limit on the length of decoded bytes; keys and types are far shorter.
const MAX_ENCODED: usize = 256;

/// The objects in the files that are not plain data.
enum NumPy {
    /// The name of a constructor, which is never called.
    Constructor(Constructor),
    /// The result of a constructor: its first argument, and the state set afterwards.
    Made { constructor: Constructor, argument: Option<ObjectId>, state: Option<ObjectId> },
    /// Bytes that Python 3 wrote as encoded text, as in old protocols.
    Encoded(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Constructor {
    Reconstruct,
    Encode,
    Other,
}

/// The globals and instructions of such files.
struct PlainData;

type CifarValue<'a> = Value<'a, NumPy>;

impl<'a> AllowList<'a> for PlainData {
    type Special = NumPy;
    const FILE: &'static str = "a file of CIFAR-100";
    const WRITTEN_BY: &'static str =
        "the published `cifar-100-python` holds plain data and a NumPy array alone";
    const MAX_BYTES: usize = MAX_BYTES;
    const MAX_OBJECTS: usize = MAX_OBJECTS;

    /// Strings and numbers as Python 2 wrote them, and bytes.
    fn allows_opcode(&self, code: u8) -> bool {
        matches!(code, b'0' | b'B' | b'C' | b'I' | b'T' | b'U' | b'l' | 0x8d | 0x8e)
    }

    fn find_class(&self, module: &str, name: &str) -> Option<NumPy> {
        Some(NumPy::Constructor(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Constructor::Reconstruct,
            ("_codecs", "encode") => Constructor::Encode,
            ("numpy", "ndarray" | "dtype") | ("builtins", "bytes") => Constructor::Other,
            _ => return None,
        }))
    }

    fn reduce(
        &self,
        objects: &Objects<'a, NumPy>,
        callable: &NumPy,
        arguments: &[ObjectId],
    ) -> Result<CifarValue<'a>, &'static str> {
        let NumPy::Constructor(constructor) = *callable else {
            return Err("something is called that is not an allowed function");
        };
        let argument = arguments.first().copied();
        Ok(Value::Special(match (constructor, argument.map(|text| objects.value(text))) {
            (Constructor::Encode, Some(Value::Text(text))) if text.len() <= MAX_ENCODED => {
                NumPy::Encoded(text.chars().map(|character| character as u8).collect())
            }
            _ => NumPy::Made { constructor, argument, state: None },
        }))
    }

    fn build(
        &self,
        _objects: &Objects<'a, NumPy>,
        object: &NumPy,
        state: ObjectId,
    ) -> Result<NumPy, &'static str> {
        match *object {
            NumPy::Made { constructor, argument, state: None } => {
                Ok(NumPy::Made { constructor, argument, state: Some(state) })
            }
            _ => Err("BUILD is used on something that is not a new object"),
        }
    }
}

/// Rows of bytes within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteRows {
    pub(super) offset: u64,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The outermost dictionary of a file.
pub(super) struct CifarFile<'a> {
    bytes: &'a [u8],
    pickle: Pickle<'a, NumPy>,
}

/// All bytes of a file, up to a size limit.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let failed = |error: io::Error| DataError::open("pickle", path, error);
    let found = fs::metadata(path).map_err(failed)?.len();
    if found > MAX_BYTES as u64 {
        let reason =
            format!("it has {found} bytes, expected at most {MAX_BYTES}\nhint: take the published file");
        return Err(DataError::content("pickle", path, reason));
    }
    fs::read(path).map_err(failed)
}

impl<'a> CifarFile<'a> {
    /// Parses the outermost dictionary of a file.
    pub(super) fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        match Pickle::parse(bytes, PlainData) {
            Ok(pickle) => Ok(Self { bytes, pickle }),
            Err(error) => {
                let reason = format!("{error}; no code in it was run\nhint: copy the published file again");
                Err(DataError::content("pickle", path, reason))
            }
        }
    }

    fn value(&self, id: ObjectId) -> &CifarValue<'a> {
        self.pickle.value(id)
    }

    /// The bytes of a string that Python 2 or 3 wrote.
    fn string(&self, id: ObjectId) -> Option<&[u8]> {
        match self.value(id) {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            Value::Special(NumPy::Encoded(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn items(&self, id: ObjectId) -> Option<&[ObjectId]> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn size(&self, id: ObjectId) -> Option<usize> {
        match self.value(id) {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        }
    }

    /// The value of a key of the outermost dictionary.
    fn entry(&self, key: &str) -> Option<ObjectId> {
        let Value::Dict(entries) = self.value(self.pickle.root()) else { return None };
        let is_key = |id: ObjectId| self.string(id) == Some(key.as_bytes());
        entries.iter().find(|(id, _)| is_key(*id)).map(|&(_, value)| value)
    }

    /// A list of labels.
    pub(super) fn labels(&self, key: &str) -> Option<Vec<u32>> {
        let label = |&id: &ObjectId| u32::try_from(self.size(id)?).ok();
        self.items(self.entry(key)?)?.iter().map(label).collect()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let text = |&id: &ObjectId| String::from_utf8(self.string(id)?.to_vec()).ok();
        self.items(self.entry(key)?)?.iter().map(text).collect()
    }

    /// A two-dimensional array of bytes in row order.
    pub(super) fn byte_rows(&self, key: &str) -> Option<ByteRows> {
        let Value::Special(NumPy::Made { constructor: Constructor::Reconstruct, state: Some(state), .. }) =
            self.value(self.entry(key)?)
        else {
            return None;
        };
        // State of an array: version, shape, type, whether columns come first, bytes.
        let &[_, shape, kind, columns_first, bytes] = self.items(*state)? else { return None };
        let Value::Special(NumPy::Made { argument, .. }) = self.value(kind) else { return None };
        let is_byte = self.string((*argument)?)? == b"u1";
        let by_rows = matches!(self.value(columns_first), Value::Bool(false) | Value::Int(0));
        // Only bytes that are stored unencoded can be read from the file later.
        let Value::Bytes(bytes) = self.value(bytes) else { return None };
        let offset = bytes.as_ptr().addr() - self.bytes.as_ptr().addr();
        let &[rows, columns] = self.items(shape)? else { return None };
        let (rows, columns) = (self.size(rows)?, self.size(columns)?);
        (is_byte && by_rows && rows.checked_mul(columns)? == bytes.len()).then_some(ByteRows {
            offset: offset as u64,
            rows,
            columns,
        })
    }
}

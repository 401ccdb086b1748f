//! Refusals of pickles, and the names they use.

/// The reason for refusing a pickle. Offsets are byte positions in the pickle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The pickle exceeds the length limit.
    #[error("the pickle has {found} bytes, more than the limit of {limit}")]
    TooLong {
        /// Its length.
        found: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// The pickle exceeds the limit on objects.
    #[error("the pickle makes more than {limit} objects")]
    TooManyObjects {
        /// The most that are made.
        limit: usize,
    },
    /// The program is cut short.
    #[error("the pickle ends early: byte {offset} needs {needed} more bytes, {left} are left")]
    EndsEarly {
        /// Where.
        offset: usize,
        /// How many bytes the instruction asks for.
        needed: u64,
        /// The number found.
        left: usize,
    },
    /// An instruction that is not allowed in files of this kind.
    #[error("opcode `{name}` ({code:#04x}) at byte {offset} is not allowed in {file}")]
    Opcode {
        /// Where.
        offset: usize,
        /// Its byte.
        code: u8,
        /// Its name in `pickletools`.
        name: &'static str,
        /// The kind of file.
        file: &'static str,
    },
    /// A function or class that is not allowed in files of this kind.
    #[error("global `{name}` at byte {offset} is not allowed in {file} ({written_by})")]
    Global {
        /// Where.
        offset: usize,
        /// `module.name`, shortened and with unprintable characters escaped.
        name: String,
        /// The kind of file.
        file: &'static str,
        /// How files without other globals are written.
        written_by: &'static str,
    },
    /// Allowed instructions, used in a way that Python never uses them.
    #[error("the pickle is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where.
        offset: usize,
        /// The problem at this place.
        problem: &'static str,
    },
}

/// A name from a file, fit for a message: at most 80 characters, the unprintable ones escaped.
pub(crate) fn printable(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push_str("...");
    }
    text
}

/// Names of the instructions that are refused.
pub(super) fn opcode_name(code: u8) -> &'static str {
    match code {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'B' => "BINBYTES",
        b'C' => "SHORT_BINBYTES",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8d => "BINUNICODE8",
        0x8e => "BINBYTES8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "unknown",
    }
}

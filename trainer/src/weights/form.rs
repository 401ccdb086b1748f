//! Detects the form of a file from its first bytes, and names common files that are not weights.

use crate::pickle::printable;
use std::fmt;

/// Number of bytes that [`FileForm::of`] reads.
pub const FIRST_BYTES: usize = 512;

/// The start of a file of `torch.save` before `PyTorch` 1.6: its magic number, pickled.
const OLD_TORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// How to convert a file that Python can load to safetensors.
const IN_PYTHON: &str = "load it in Python and write its state dict with \
     `safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")`";

/// Forms of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileForm {
    /// A safetensors file, or an unknown form.
    Safetensors,
    /// A zip archive: of `torch.save`, `TorchScript`, or of something else.
    Zip,
    /// `torch.save` before `PyTorch` 1.6.
    OldTorch,
    /// JSON: an index of shards, or something else.
    Json,
    /// No weights.
    Foreign(Foreign),
}

/// Files that are not weights, or weights in an unsupported form. Displayed as a description and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// The text that Git LFS stores in place of a large file.
    LfsPointer,
    /// HTML.
    WebPage,
    /// XML, such as a storage server's error.
    Xml,
    /// Text, with its beginning.
    Text(String),
    /// JSON that lists no shards.
    Json,
    /// Arrays of `NumPy`.
    NumPy,
    /// A zip archive that `torch.save` did not write.
    OtherZip,
    /// A tar archive.
    Tar,
    /// A compressed file, with the name of the format.
    Compressed(&'static str),
    /// A pickle that is not one of `torch.save`.
    Pickle,
    /// HDF5, as Keras and `TensorFlow` write it.
    Hdf5,
    /// GGUF, of llama.cpp.
    Gguf,
    /// Zeros: an incomplete download that was preallocated.
    Zeros,
}

impl FileForm {
    /// The form of a file that begins with `start`, of which more than [`FIRST_BYTES`] are not looked at.
    pub fn of(start: &[u8]) -> Self {
        let start = &start[..start.len().min(FIRST_BYTES)];
        let begins = |with: &[u8]| start.starts_with(with);
        match start {
            _ if begins(b"PK\x03\x04") => Self::Zip,
            _ if begins(OLD_TORCH) => Self::OldTorch,
            // The length of a header, and its opening brace.
            [_, _, _, _, _, _, 0, 0, b'{', ..] => Self::Safetensors,
            _ => match Foreign::binary(start).or_else(|| Foreign::text(start)) {
                Some(Foreign::Json) => Self::Json,
                Some(foreign) => Self::Foreign(foreign),
                None => Self::Safetensors,
            },
        }
    }
}

impl Foreign {
    fn binary(start: &[u8]) -> Option<Self> {
        const SIGNS: [(&[u8], Foreign); 9] = [
            (b"PK\x05\x06", Foreign::OtherZip),
            (b"\x1f\x8b", Foreign::Compressed("gzip")),
            (b"BZh", Foreign::Compressed("bzip2")),
            (b"\xfd7zXZ\0", Foreign::Compressed("xz")),
            (b"\x28\xb5\x2f\xfd", Foreign::Compressed("zstd")),
            (b"7z\xbc\xaf\x27\x1c", Foreign::Compressed("7z")),
            (b"\x93NUMPY", Foreign::NumPy),
            (b"\x89HDF\r\n\x1a\n", Foreign::Hdf5),
            (b"GGUF", Foreign::Gguf),
        ];
        if let Some((_, foreign)) = SIGNS.iter().find(|(sign, _)| start.starts_with(sign)) {
            return Some(foreign.clone());
        }
        match start {
            [0x80, 2..=5, ..] => Some(Self::Pickle),
            _ if start.get(257..262) == Some(b"ustar") => Some(Self::Tar),
            _ if start.len() >= 64 && start.iter().all(|&byte| byte == 0) => Some(Self::Zeros),
            _ => None,
        }
    }

    fn text(start: &[u8]) -> Option<Self> {
        let text = match std::str::from_utf8(start) {
            Ok(text) => text,
            // A character may be cut at the end.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return None;
        }
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let lower = text.to_ascii_lowercase();
        Some(match () {
            () if text.starts_with("version https://git-lfs") => Self::LfsPointer,
            () if lower.starts_with("<!doctype html") || lower.starts_with("<html") => Self::WebPage,
            () if text.starts_with('<') => Self::Xml,
            () if text.starts_with('{') => Self::Json,
            () => Self::Text(printable(text.lines().next().unwrap_or_default())),
        })
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LfsPointer => f.write_str(
                "a Git LFS pointer, a few lines of text in place of the file\nhint: \
                 fetch the file itself with `git lfs pull`, or download it",
            ),
            Self::WebPage => f.write_str(
                "a web page (HTML) in place of the file\nhint: download the file itself \
                 (on the Hugging Face hub its address has `/resolve/`, not `/blob/`), logged in where that is needed",
            ),
            Self::Xml => f.write_str(
                "an XML document, such as the error message of a storage server\nhint: download it again",
            ),
            Self::Text(line) => {
                write!(f, "a text file that begins with `{line}`\nhint: download the weights again")
            }
            Self::Json => f.write_str(
                "a JSON file that lists no shards (it has no `weight_map`)\nhint: give the weights, or the folder they are in",
            ),
            Self::NumPy => write!(
                f,
                "a file of NumPy arrays (`.npz` or `.npy`, as JAX's checkpoints come), which is not read\nhint: \
                 use the safetensors file of the same model (timm publishes those of Google's ViTs), or {IN_PYTHON}"
            ),
            Self::OtherZip => {
                f.write_str("a zip archive that `torch.save` did not write\nhint: unpack it and give the weights in it")
            }
            Self::Tar => f.write_str("a tar archive\nhint: unpack it and give the weights in it"),
            Self::Compressed(format) => {
                write!(f, "a file compressed with {format}\nhint: unpack it and give the weights in it")
            }
            Self::Pickle => write!(
                f,
                "a bare pickle, which may contain code and is not read; \
                 with a source that you trust, {IN_PYTHON}"
            ),
            Self::Hdf5 => f.write_str(
                "an HDF5 file (as Keras writes `tf_model.h5`), which is not read\nhint: use the model's safetensors file",
            ),
            Self::Gguf => f.write_str("a GGUF file, which is not read\nhint: use the model's safetensors file"),
            Self::Zeros => {
                f.write_str("a file that begins with zeros, such as an incomplete download\nhint: download it again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let tar = [vec![b'a'; 257], b"ustar\0".to_vec()].concat();
        let cases: [(&[u8], FileForm); 14] = [
            (b"PK\x03\x04rest", FileForm::Zip),
            (&[OLD_TORCH, b"\x80\x02M\xe9\x03."].concat(), FileForm::OldTorch),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", FileForm::Safetensors),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
                FileForm::Foreign(Foreign::LfsPointer),
            ),
            (b"\n<!DOCTYPE HTML><title>", FileForm::Foreign(Foreign::WebPage)),
            (b"<html lang=\"en\">", FileForm::Foreign(Foreign::WebPage)),
            (b"<?xml version=\"1.0\"?><Error>", FileForm::Foreign(Foreign::Xml)),
            (b"{\n  \"weight_map\": {", FileForm::Json),
            (b"Entry not found", FileForm::Foreign(Foreign::Text("Entry not found".to_owned()))),
            (b"\x1f\x8b\x08\0", FileForm::Foreign(Foreign::Compressed("gzip"))),
            (&tar, FileForm::Foreign(Foreign::Tar)),
            (b"\x80\x04\x95\x10", FileForm::Foreign(Foreign::Pickle)),
            (&[0; 100], FileForm::Foreign(Foreign::Zeros)),
            (b"\xff\xfe\x00\x01binary", FileForm::Safetensors),
        ];
        for (start, expected) in cases {
            assert_eq!(FileForm::of(start), expected, "{start:?}");
        }
    }

    #[test]
    fn a_character_cut_at_the_end_is_still_text() {
        let start = [vec![b'a'; FIRST_BYTES - 1], "é".as_bytes().to_vec()].concat();
        assert!(matches!(FileForm::of(&start), FileForm::Foreign(Foreign::Text(_))));
    }
}

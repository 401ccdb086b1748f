//! Selects the file of a folder that contains the weights.

use super::{Path, PathBuf, WeightsError};

/// Names under which libraries save weights, in order of preference. The files of one folder are the same weights in
/// several forms; those of `torch.save` come last.
const NAMES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];

/// A single file and its shards: two saves, of which one may be older.
const RIVALS: [(&str, &str); 2] = [(NAMES[0], NAMES[1]), (NAMES[3], NAMES[4])];

/// Endings of weights under names of their own.
const ENDINGS: [&str; 4] = ["safetensors", "pt", "pth", "bin"];

/// A file of a folder, and the reason for the choice.
pub(super) struct ChosenFile {
    pub(super) file: PathBuf,
    pub(super) note: String,
}

/// The file that `folder` is read from; an error if several are possible.
pub(super) fn choose(folder: &Path) -> Result<ChosenFile, WeightsError> {
    let refuse = |problem: String| WeightsError::Choice { path: folder.to_owned(), problem };
    let there: Vec<&str> = NAMES.into_iter().filter(|name| folder.join(name).is_file()).collect();
    if let Some((whole, index)) =
        RIVALS.iter().find(|(whole, index)| there.contains(whole) && there.contains(index))
    {
        return Err(refuse(format!(
            "this folder contains both `{whole}` and `{index}`\nhint: set `model.weights` to one of them"
        )));
    }
    if let [name, others @ ..] = &there[..] {
        let not = if others.is_empty() { String::new() } else { format!(", not {}", quoted(others)) };
        return Ok(ChosenFile {
            file: folder.join(name),
            note: format!("`{name}` of the folder is read{not}"),
        });
    }
    let files = by_ending(folder).map_err(|error| refuse(format!("this folder cannot be read ({error})")))?;
    match &files[..] {
        [name] => {
            Ok(ChosenFile { file: folder.join(name), note: format!("`{name}` of the folder is read") })
        }
        [] if folder.join("snapshots").is_dir() => Err(refuse(
            "this folder is the cache of a Hugging Face repository\nhint: give model.weights a folder in its `snapshots/`"
                .to_owned(),
        )),
        [] => Err(refuse(format!(
            "this folder holds no weights; expected {}, or one file that ends in .safetensors, .pt, .pth or .bin",
            quoted(&NAMES)
        ))),
        [..] => Err(refuse(format!(
            "this folder holds {} files that may be weights, such as {}\nhint: give model.weights the one that is meant",
            files.len(),
            quoted(&files[..files.len().min(3)])
        ))),
    }
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Names of files that may be weights by their ending, in order.
fn by_ending(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending))
            && path.is_file()
            && let Some(name) = path.file_name()
        {
            files.push(name.to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}

//! What a folder holds: the layout, and whether it has test images of its own.

use super::InitDataArguments;
use crate::data::source::{DataLayout, DataSpec, Halves, standard_layout};
use crate::engine::failure::Failure;
use std::path::Path;
use toml::{Table, Value};

/// The data set of a folder.
pub(super) struct FoundData {
    pub(super) spec: DataSpec,
    /// The options of `[data]` for it.
    pub(super) options: Table,
    /// The layout in words.
    pub(super) what: &'static str,
}

/// Recognises the layout of a folder.
pub(super) fn recognise(arguments: &InitDataArguments) -> Result<FoundData, Failure> {
    let folder = &arguments.folder;
    let root = folder
        .canonicalize()
        .map_err(|error| Failure::input(format!("cannot read the folder `{}`: {error}", folder.display())))?;
    if !root.is_dir() {
        return Err(Failure::input(format!(
            "`{}` is a file; expected the folder of the pictures",
            folder.display()
        )));
    }
    let standard = standard_layout(&root);
    let layout = standard.as_ref().map_or(DataLayout::Folders, |standard| standard.layout);
    let has_test = match &standard {
        Some(standard) => standard.has_test,
        None => has_both_folders(&root),
    };
    let (word, what) = match layout {
        DataLayout::Table => ("table", "a table"),
        DataLayout::Parquet => ("parquet", "Parquet files"),
        DataLayout::Shards => ("shards", "tar shards"),
        DataLayout::Annotations => ("annotations", "annotations"),
        DataLayout::Packed => ("packed", "a packed set"),
        _ => ("folders", "class folders"),
    };
    // Class folders may lie in `train`, without test images beside it.
    let images =
        (layout == DataLayout::Folders && !has_test && only_train(&root)).then(|| "train".to_owned());
    let train_list = standard.and_then(|standard| standard.train).filter(|_| !has_test);
    let columns = matches!(layout, DataLayout::Table | DataLayout::Parquet);
    let mut options = Table::new();
    let mut set = |key: &str, value: String| drop(options.insert(key.to_owned(), Value::String(value)));
    set("layout", word.to_owned());
    set(
        "root",
        root.join(images.as_deref().unwrap_or("")).to_string_lossy().trim_end_matches('/').to_owned(),
    );
    if let Some(path) = &train_list {
        set("train_list", path.to_string_lossy().into_owned());
    }
    for (key, column) in
        [("image_column", &arguments.image_column), ("label_column", &arguments.label_column)]
    {
        if let Some(column) = column {
            if !columns {
                return Err(Failure::input(format!(
                    "`--{}` has no effect with {what}",
                    key.replace('_', "-")
                )));
            }
            set(key, column.clone());
        }
    }
    if arguments.first_label > 0 {
        if !columns && layout != DataLayout::Shards {
            return Err(Failure::input(format!("`--first-label` has no effect with {what}")));
        }
        options.insert("first_label".to_owned(), Value::Integer(arguments.first_label.into()));
    }
    let halves = if has_test { Halves::OfSource } else { Halves::Whole };
    let spec = DataSpec {
        root: images.map_or(root.clone(), |images| root.join(images)),
        layout,
        train_list,
        image_column: arguments.image_column.clone(),
        label_column: arguments.label_column.clone(),
        first_label: arguments.first_label,
        halves,
        ..DataSpec::default()
    };
    Ok(FoundData { spec, options, what })
}

fn has_both_folders(root: &Path) -> bool {
    let is_there = |name: &str| root.join(name).is_dir();
    is_there("train") && (is_there("test") || is_there("val"))
}

/// Whether `train` is the only folder that is not hidden, with folders in it.
fn only_train(root: &Path) -> bool {
    let folders = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    };
    folders(root) == ["train"] && !folders(&root.join("train")).is_empty()
}

//! Tar shards as `WebDataset` writes them: the members of a sample share their name up to the first dot, one of them is
//! the image, and `.cls` or `.json` is its label.

use super::files::FileSample;
use super::labels::{LabelColumn, classes};
use super::names::StringTable;
use super::parallel::in_parallel;
use super::standard::{self, Wanted};
use super::stored::{Stored, decoded};
use super::table::{WantedColumns, given_names, image_ending, label_column, text_of};
use super::tar::{TarFile, TarMember, members};
use super::{DataSet, DataSpec, ImageReader, Split};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Limit on the bytes of a label.
const MAX_LABEL: u64 = 1 << 20;

/// The samples of one shard.
struct Shard {
    path: PathBuf,
    file: TarFile,
    samples: Vec<Sample>,
}

struct Sample {
    key: Box<str>,
    image: TarMember,
    ending: Box<str>,
    label: String,
}

/// Opens a data set of tar shards, each of which is indexed once.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let wanted = WantedColumns { image: None, label: spec.label_column.as_deref() };
    let train = in_parallel(&standard::all_train(spec, &Wanted::SHARDS)?, |path| index(path, wanted))?;
    let tests = if spec.has_test() { standard::all_test(spec, &Wanted::SHARDS)? } else { Vec::new() };
    let test = in_parallel(&tests, |path| index(path, wanted))?;
    let labels = |shards: &[Shard]| {
        let mut column = LabelColumn::default();
        shards.iter().flat_map(|shard| &shard.samples).for_each(|sample| column.push(&sample.label));
        column
    };
    let found =
        classes(&labels(&train), &labels(&test), given_names(spec)?, spec.first_label).map_err(|fault| {
            let mut row = fault.row;
            let shards = if fault.in_test { &test } else { &train };
            let shard = shards.iter().find(|shard| {
                let here = row < shard.samples.len();
                row -= if here { 0 } else { shard.samples.len() };
                here
            });
            match shard {
                Some(shard) => {
                    wrong(&shard.path, &format!("sample `{}`: {}", shard.samples[row].key, fault.reason))
                }
                None => DataError::Setting(fault.reason),
            }
        })?;
    let (train, test) = (into_split(train, found.train), into_split(test, found.test));
    Ok(DataSet { class_names: found.names, train, test, findings: found.findings })
}

fn wrong(path: &Path, reason: &str) -> DataError {
    DataError::content("tar shard", path, reason)
}

/// The members of one sample.
#[derive(Default)]
struct Parts {
    image: Option<(TarMember, Box<str>)>,
    label: Option<TarMember>,
    json: Option<TarMember>,
}

fn index(path: &Path, wanted: WantedColumns<'_>) -> Result<Shard, DataError> {
    let (file, members) = members(path)?;
    let mut order: Vec<Box<str>> = Vec::new();
    let mut samples: HashMap<Box<str>, Parts> = HashMap::new();
    for (name, member) in members {
        let Some((key, ending)) = key_and_ending(&name) else { continue };
        if !samples.contains_key(key) {
            order.push(key.into());
        }
        let parts = samples.entry(key.into()).or_default();
        let before = match ending.to_ascii_lowercase().as_str() {
            "cls" => parts.label.replace(member).map(drop),
            "json" => parts.json.replace(member).map(drop),
            ending if image_ending(ending) => parts.image.replace((member, ending.into())).map(drop),
            _ => None,
        };
        if before.is_some() {
            let reason = format!(
                "sample `{key}` has two members of one kind, the second is `{name}`\nhint: give each sample its own name up to the first dot"
            );
            return Err(wrong(path, &reason));
        }
    }
    let mut shard = Shard { path: path.into(), file, samples: Vec::with_capacity(order.len()) };
    for key in order {
        let parts = samples.remove(&key).unwrap_or_default();
        let missing = |what: &str| wrong(path, &format!("sample `{key}` has no {what}"));
        let (image, ending) = parts.image.ok_or_else(|| missing("image (`.jpg`, `.png`, ...)"))?;
        let label = match (parts.label, parts.json) {
            (Some(label), _) => shard.text(label, &key)?.trim().to_owned(),
            (None, Some(json)) => json_label(&shard.text(json, &key)?, &shard.path, &key, wanted)?,
            (None, None) => return Err(missing("label (`.cls` or `.json`)")),
        };
        if label.is_empty() {
            return Err(missing("text in its label"));
        }
        shard.samples.push(Sample { key, image, ending, label });
    }
    Ok(shard)
}

/// The name up to the first dot of its last part, and the rest.
fn key_and_ending(name: &str) -> Option<(&str, &str)> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = file + name[file..].find('.')?;
    let hidden = dot == file;
    (!hidden).then(|| (&name[..dot], &name[dot + 1..]))
}

fn json_label(text: &str, path: &Path, key: &str, wanted: WantedColumns<'_>) -> Result<String, DataError> {
    let row: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| wrong(path, &format!("sample `{key}`: its `.json` is no object: {error}")))?;
    let there: Vec<String> = row.keys().cloned().collect();
    let column = label_column(path, &there, wanted.label)?;
    row.get(&column).and_then(text_of).ok_or_else(|| {
        wrong(path, &format!("sample `{key}`: expected a text or a whole number in `{column}`"))
    })
}

impl Shard {
    fn text(&self, member: TarMember, key: &str) -> Result<String, DataError> {
        if member.len() > MAX_LABEL {
            return Err(wrong(
                &self.path,
                &format!(
                    "sample `{key}`: its label has {} bytes; at most {MAX_LABEL} are read",
                    member.len()
                ),
            ));
        }
        let read = self.file.with_bytes(member, |bytes| String::from_utf8(bytes.to_vec()));
        let text = read.map_err(|fault| wrong(&self.path, &format!("sample `{key}`: its label {fault}")))?;
        text.map_err(|_| wrong(&self.path, &format!("sample `{key}`: its label is no UTF-8 text")))
    }
}

fn into_split(shards: Vec<Shard>, labels: Vec<u32>) -> Split {
    let mut reader = ShardReader::default();
    for (number, shard) in shards.into_iter().enumerate() {
        let name = shard.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for Sample { key, image, ending, .. } in shard.samples {
            reader.names.push(&format!("{name}/{key}.{ending}"));
            reader.places.push((number as u32, image));
        }
        reader.files.push(shard.file);
    }
    reader.names.shrink();
    Split::from_parts(labels, Box::new(reader))
}

/// Images within tar shards.
#[derive(Default)]
pub(super) struct ShardReader {
    pub(super) files: Vec<TarFile>,
    pub(super) names: StringTable,
    /// The shard and the place of each image.
    pub(super) places: Vec<(u32, TarMember)>,
}

impl ImageReader for ShardReader {
    fn name(&self, index: usize) -> String {
        self.names.get(index).to_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let (shard, member) = self.places[index];
        let passed = self.files[shard as usize].with_bytes(member, |bytes| take(Stored::Encoded(bytes)));
        passed.map_err(|fault| DataError::image(self.name(index), fault))
    }

    fn place(&self, index: usize) -> Option<String> {
        Some(self.name(index))
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        let (shard, member) = self.places[index];
        Ok(self.files[shard as usize].sample(member)?)
    }
}

#[cfg(test)]
mod tests;

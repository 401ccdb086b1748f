//! A packed set: tar shards with an index of every image, as `lift-trainer pack` writes them.

use super::files::FileSample;
use super::names::StringTable;
use super::parallel::in_parallel;
use super::stored::{Stored, decoded};
use super::tar::{TarFile, TarMember};
use super::{DataSet, DataSpec, ImageReader, Split};
use crate::data::decode::RgbImage;
use crate::data::error::{DataError, ImageFault};
use crate::data::pack::index::{MANIFEST, Manifest, PackedImage, ShardIndex, VERSION};
use crate::data::pack::pixels;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Opens a packed set.
pub(super) fn open(spec: &DataSpec) -> Result<DataSet, DataError> {
    let path = spec.root.join(MANIFEST);
    let manifest: Manifest = read_json(&path)?;
    let wrong = |reason: String| DataError::content("packed set", &path, reason);
    if manifest.version != VERSION {
        return Err(wrong(format!(
            "expected version {VERSION}, found {}\nhint: pack the data again",
            manifest.version
        )));
    }
    if !manifest.complete {
        return Err(wrong("it is not complete\nhint: run the same `lift-trainer pack` command again".into()));
    }
    let classes = manifest.class_names.len();
    let train = open_split(&spec.root, &manifest.train, classes)?;
    let test = open_split(&spec.root, &manifest.test, classes)?;
    Ok(DataSet { class_names: manifest.class_names, train, test, findings: Vec::new() })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::open("index", path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!(
            "it is damaged: {error}\nhint: remove it and run the same `lift-trainer pack` command again"
        );
        DataError::content("index", path, reason)
    })
}

fn open_split(root: &Path, shards: &[String], classes: usize) -> Result<Split, DataError> {
    let opened = in_parallel(shards, |name| open_shard(root, name, classes))?;
    let (mut reader, mut labels) = (PackedReader::default(), Vec::new());
    for (number, (file, index)) in opened.into_iter().enumerate() {
        for image in &index.images {
            labels.push(image.label);
            reader.names.push(&image.name);
            let (member, checksum) = (TarMember::new(image.offset, image.bytes), image.checksum);
            reader.places.push(Place { shard: number as u32, member, checksum });
            if let Some(fault) = &image.fault {
                reader.faults.push((reader.places.len() - 1, fault.clone()));
            }
        }
        reader.files.push(file);
    }
    reader.names.shrink();
    Ok(Split::from_parts(labels, Box::new(reader)))
}

fn open_shard(root: &Path, name: &str, classes: usize) -> Result<(TarFile, ShardIndex), DataError> {
    let index_path = root.join(name).with_extension("json");
    let wrong = |reason: String| DataError::content("index", &index_path, reason);
    if Path::new(name).components().count() != 1 || name.starts_with('.') {
        return Err(DataError::content(
            "packed set",
            root.join(MANIFEST),
            format!("`{name}` is not the name of a shard"),
        ));
    }
    let index: ShardIndex = read_json(&index_path)?;
    let path = root.join(name);
    let file = TarFile::open(&path)?;
    let size = file.size().map_err(|error| DataError::open("tar shard", &path, error))?;
    if size != index.bytes {
        let reason =
            format!("expected {} bytes as in its index, found {size}\nhint: copy it again", index.bytes);
        return Err(DataError::content("tar shard", path, reason));
    }
    let within = |image: &PackedImage| image.offset.checked_add(image.bytes).is_some_and(|end| end <= size);
    if let Some(image) = index.images.iter().find(|image| image.label as usize >= classes || !within(image)) {
        return Err(wrong(format!(
            "`{}` has label {} of {classes} classes and lies at {}; it is damaged",
            image.name, image.label, image.offset
        )));
    }
    Ok((file, index))
}

#[derive(Clone, Copy)]
struct Place {
    shard: u32,
    member: TarMember,
    checksum: u64,
}

/// Images within packed shards.
#[derive(Default)]
struct PackedReader {
    files: Vec<TarFile>,
    names: StringTable,
    places: Vec<Place>,
    /// Images that could not be packed, by index, with the reason.
    faults: Vec<(usize, String)>,
}

impl PackedReader {
    fn fault(&self, index: usize) -> Option<ImageFault> {
        let at = self.faults.binary_search_by_key(&index, |&(index, _)| index).ok()?;
        Some(ImageFault::Recorded(self.faults[at].1.as_str().into()))
    }
}

impl ImageReader for PackedReader {
    fn name(&self, index: usize) -> String {
        self.names.get(index).to_owned()
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        decoded(self, index)
    }

    fn stored(&self, index: usize, take: &mut dyn FnMut(Stored<'_>)) -> Result<(), DataError> {
        let Place { shard, member, checksum } = self.places[index];
        let failed = |fault| DataError::image(self.name(index), fault);
        if let Some(fault) = self.fault(index) {
            return Err(failed(fault));
        }
        let read = self.files[shard as usize].with_bytes(member, |bytes| {
            if crate::data::pack::index::checksum(bytes) != checksum {
                return false;
            }
            take(pixels::of_packed(bytes).unwrap_or(Stored::Encoded(bytes)));
            true
        });
        if read.map_err(failed)? {
            Ok(())
        } else {
            Err(failed(std::io::Error::other("its bytes contradict the checksum in the index").into()))
        }
    }

    fn place(&self, index: usize) -> Option<String> {
        Some(self.name(index))
    }

    fn sample(&self, index: usize) -> Result<FileSample, ImageFault> {
        if let Some(fault) = self.fault(index) {
            return Err(fault);
        }
        let Place { shard, member, .. } = self.places[index];
        Ok(self.files[shard as usize].sample(member)?)
    }
}

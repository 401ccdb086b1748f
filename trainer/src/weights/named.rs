//! Tensors by name, as in a weight file, with errors that name the file and the tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

use super::dtype::DType;
use super::file_map::{FileMap, MapError};
use super::naming::Naming;
use super::safetensors_map::Fingerprint;
use super::torch_archive::TorchFileError;

/// A weight file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or is not a safetensors file.
    #[error(transparent)]
    Open(#[from] MapError),
    /// A file of `torch.save` that cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] TorchFileError),
    /// A folder or an index that does not determine which files to read, or names missing files.
    #[error("{}: {problem}", path.display())]
    Choice {
        /// The folder or file that was given.
        path: PathBuf,
        /// The problem and the remedy.
        problem: String,
    },
    /// A weight file without tensors.
    #[error(
        "{file}: contains no tensors; expected those of a model, as `safetensors.torch.save_file(model.state_dict(), FILE)` \
         or `torch.save(model.state_dict(), FILE)` writes them"
    )]
    NoTensors {
        /// The file.
        file: String,
    },
    /// An unknown layout.
    #[error(
        "{file}: contains neither a CLIP with a vision transformer (OpenAI's, open_clip's, Hugging Face's or timm's), \
         nor a plain ViT (timm's or Hugging Face's){named}; found tensors such as {found}"
    )]
    Layout {
        /// The file.
        file: String,
        /// What the configuration beside it calls it, or empty.
        named: String,
        /// A few names.
        found: String,
    },
    /// An unsupported model.
    #[error("{file}: contains {architecture}, which is not supported{named}\nhint: {remedy}")]
    Architecture {
        /// The file.
        file: String,
        /// What the names of its tensors show.
        architecture: &'static str,
        /// What the configuration beside it calls it, or empty.
        named: String,
        /// The replacement to suggest.
        remedy: &'static str,
    },
    /// A name that two tensors have after a prefix is removed.
    #[error(
        "{file}: tensor `{tensor}` occurs twice, with the prefix `{prefix}` and without it\nhint: \
         write one of them to a separate file"
    )]
    Twice {
        /// The file.
        file: String,
        /// The name without the prefix.
        tensor: String,
        /// The prefix.
        prefix: String,
    },
    /// Several models in one file.
    #[error(
        "{file}: contains several models, with names that begin with {prefixes}\nhint: write the intended one to a separate file"
    )]
    Several {
        /// The file.
        file: String,
        /// The prefixes of their names.
        prefixes: String,
    },
    /// The file inside the program is damaged.
    #[error("{origin} cannot be read ({reason})\nhint: rebuild the program")]
    Embedded {
        /// Which file.
        origin: String,
        /// The problem.
        reason: String,
    },
    /// A required tensor is missing.
    #[error("{file}: tensor `{tensor}` is missing")]
    Missing {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
    },
    /// A tensor of another shape.
    #[error("{file}: tensor `{tensor}` should have shape {expected:?}, found {found:?}{why}")]
    Shape {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// Shape that follows from the other tensors.
        expected: Vec<i64>,
        /// Shape in the file.
        found: Vec<i64>,
        /// Where the expected shape comes from, or empty.
        why: String,
    },
    /// A tensor of an unsupported element type.
    #[error("{file}: tensor `{tensor}` has the element type {found}; weights are F16, BF16, F32 or F64")]
    Kind {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// Element type in the file.
        found: String,
    },
    /// A value that is not finite: the file is damaged, or was saved by a run that diverged.
    #[error(
        "{file}: tensor `{tensor}` contains a value that is not finite (NaN or infinity), so every result would be wrong\nhint: get the file again, or choose another one"
    )]
    NotFinite {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
    },
    /// Tensors that the model does not use: the file contains another model.
    #[error("{file}: {count} tensors are not part of the model, among them {names}")]
    LeftOver {
        /// The file.
        file: String,
        /// How many.
        count: usize,
        /// The first few.
        names: String,
    },
}

/// Tensors by name. Those of mapped files are views of the mappings, which live as long as this.
#[derive(Debug)]
pub struct NamedTensors {
    file: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    /// The same tensors, under the names of the file.
    stored: BTreeMap<String, Tensor>,
    maps: Vec<Arc<FileMap>>,
    notes: Vec<String>,
    naming: Option<Naming>,
}

impl NamedTensors {
    /// The tensors of mapped files; `file` is the given path, `notes` are those of [`Self::notes`].
    pub(super) fn from_files(
        file: &Path,
        tensors: BTreeMap<String, Tensor>,
        maps: Vec<Arc<FileMap>>,
        notes: Vec<String>,
    ) -> Self {
        Self { file: file.to_owned(), stored: copies(&tensors), tensors, maps, notes, naming: None }
    }

    /// A safetensors file that is part of the program; its tensors are copied out.
    pub fn from_bytes(origin: &str, bytes: &[u8]) -> Result<Self, WeightsError> {
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Embedded {
            origin: origin.to_owned(),
            reason: error.to_string(),
        })?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let kind = known_kind(origin, name, DType::from(view.dtype()))?;
            tensors.insert(name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind));
        }
        Ok(Self::from_tensors(origin, tensors))
    }

    /// Tensors that are in memory; `origin` names them in messages.
    pub fn from_tensors(origin: &str, tensors: BTreeMap<String, Tensor>) -> Self {
        Self::from_files(Path::new(origin), tensors, Vec::new(), Vec::new())
    }

    /// The file, for messages.
    pub fn file(&self) -> String {
        self.file.display().to_string()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor as it is in the file.
    pub fn get(&self, name: &str) -> Result<&Tensor, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { file: self.file(), tensor: name.to_owned() })
    }

    /// The mappings of the files; none for tensors in memory.
    #[cfg(test)]
    pub(super) fn maps(&self) -> &[Arc<FileMap>] {
        &self.maps
    }

    /// Notes on how the file was read, for example about a prefix that was removed from the names.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The naming of the file, after [`super::normalise`] has detected it.
    pub fn naming(&self) -> Option<Naming> {
        self.naming
    }

    pub(super) fn read_as(&mut self, naming: Naming, notes: Vec<String>) {
        self.naming = Some(naming);
        self.notes.extend(notes);
    }

    /// The first file of that name beside the weights: in the folder of the given path, then in the folder of
    /// the file that it links to. `None` for tensors in memory.
    pub fn beside(&self, name: &str) -> Option<PathBuf> {
        if self.maps.is_empty() {
            return None;
        }
        let linked = self.file.canonicalize().ok();
        let folders =
            [Some(&self.file), linked.as_ref()].into_iter().flatten().filter_map(|file| file.parent());
        folders.map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// SHA-256 over names, element types, shapes and values of all tensors, as they are stored: independent of the
    /// layout they are converted to.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.stored.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }

    /// Applies `rename` to every tensor, keeping the mappings.
    pub(super) fn map(
        self,
        rename: impl FnOnce(BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, WeightsError>,
    ) -> Result<Self, WeightsError> {
        Ok(Self { tensors: rename(self.tensors)?, ..self })
    }
}

/// Reads tensors of known shape and records which were read.
pub struct TensorReader<'a> {
    tensors: &'a NamedTensors,
    device: Device,
    read: BTreeSet<String>,
    all_zero: Vec<String>,
}

impl<'a> TensorReader<'a> {
    /// A reader that copies tensors to `device`.
    pub fn new(tensors: &'a NamedTensors, device: Device) -> Self {
        Self { tensors, device, read: BTreeSet::new(), all_zero: Vec::new() }
    }

    /// A tensor as it lies in memory or in its mapping, of a name that was read before.
    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains(name)
    }

    /// The tensor of that name and shape, in place in memory or in its mapping: only for copying a part of it.
    pub fn view(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        let tensor = self.shaped(name, shape, "")?;
        self.check_values(name, &tensor)?;
        Ok(tensor)
    }

    /// A copy of the tensor of that name and shape, in `kind` on the reader's device: later changes of the file do not
    /// affect it.
    pub fn take(&mut self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, WeightsError> {
        self.take_because(name, shape, kind, "")
    }

    /// [`take`](Self::take), with the origin of the expected shape in the error.
    pub fn take_because(
        &mut self,
        name: &str,
        shape: &[i64],
        kind: Kind,
        why: &str,
    ) -> Result<Tensor, WeightsError> {
        let tensor = self.shaped(name, shape, why)?;
        let taken = uploaded(&tensor, kind, self.device).to_kind(kind).to_device(self.device);
        let taken = if taken.data_ptr() == tensor.data_ptr() { taken.copy() } else { taken };
        self.check_values(name, &taken)?;
        Ok(taken)
    }

    /// Refuses values that are not finite, and records tensors of all zeros.
    fn check_values(&mut self, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
        if tensor.numel() == 0 {
            return Ok(());
        }
        // One pass: a NaN propagates to minimum and maximum.
        let (least, greatest) = tensor.detach().aminmax(None, false);
        let (least, greatest) = (least.double_value(&[]), greatest.double_value(&[]));
        if !least.is_finite() || !greatest.is_finite() {
            return Err(WeightsError::NotFinite { file: self.tensors.file(), tensor: name.to_owned() });
        }
        if least == 0.0 && greatest == 0.0 {
            self.all_zero.push(name.to_owned());
        }
        Ok(())
    }

    fn shaped(&mut self, name: &str, shape: &[i64], why: &str) -> Result<Tensor, WeightsError> {
        let tensor = self.tensors.get(name)?;
        if tensor.size() != shape {
            return Err(WeightsError::Shape {
                file: self.tensors.file(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.size(),
                why: if why.is_empty() { String::new() } else { format!(" ({why})") },
            });
        }
        self.read.insert(name.to_owned());
        Ok(tensor.shallow_clone())
    }

    /// The tensor in the kind of the file.
    pub fn take_as_is(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        let kind = self.tensors.get(name)?.kind();
        self.take(name, shape, kind)
    }

    /// Refuses tensors that were not read, except those that `expected` accepts; returns the names of tensors of all
    /// zeros.
    pub fn finish(self, expected: impl Fn(&str) -> bool) -> Result<Vec<String>, WeightsError> {
        let left: Vec<&str> =
            self.tensors.names().filter(|name| !self.read.contains(*name) && !expected(name)).collect();
        if left.is_empty() {
            return Ok(self.all_zero);
        }
        let names = left.iter().take(4).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        Err(WeightsError::LeftOver { file: self.tensors.file(), count: left.len(), names })
    }
}

/// A tensor of the host that is wanted in `kind` on a device: as it is stored on the device, where fewer bytes are sent so.
/// The conversion rounds alike on either side.
pub(crate) fn uploaded(tensor: &Tensor, kind: Kind, device: Device) -> Tensor {
    let smaller = tensor.kind().elt_size_in_bytes() < kind.elt_size_in_bytes();
    if smaller { tensor.to_device(device) } else { tensor.shallow_clone() }
}

pub(super) fn known_kind(file: &str, tensor: &str, dtype: DType) -> Result<Kind, WeightsError> {
    kind_of(dtype).ok_or_else(|| WeightsError::Kind {
        file: file.to_owned(),
        tensor: tensor.to_owned(),
        found: dtype.to_string(),
    })
}

/// libtorch's kind for an element type of a file.
pub fn kind_of(dtype: DType) -> Option<Kind> {
    match dtype {
        DType::F16 => Some(Kind::Half),
        DType::Bf16 => Some(Kind::BFloat16),
        DType::F32 => Some(Kind::Float),
        DType::F64 => Some(Kind::Double),
        DType::I64 => Some(Kind::Int64),
        DType::I32 => Some(Kind::Int),
        DType::I16 => Some(Kind::Int16),
        DType::I8 => Some(Kind::Int8),
        DType::U8 => Some(Kind::Uint8),
        DType::Bool => Some(Kind::Bool),
        DType::Other(_) => None,
    }
}

/// SHA-256 over named tensors, in the order in which they come.
fn fingerprint<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> String {
    let mut all = TensorsFingerprint::default();
    tensors.for_each(|(name, tensor)| all.add(name, tensor));
    all.finish()
}

/// SHA-256 over named tensors that are added one after the other.
#[derive(Default)]
pub struct TensorsFingerprint(Fingerprint);

impl TensorsFingerprint {
    /// Adds a tensor: its name, element type, shape and numbers.
    pub fn add(&mut self, name: &str, tensor: &Tensor) {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let host = tensor.detach().to_device(Device::Cpu).contiguous();
        let length = host.numel() * host.kind().elt_size_in_bytes();
        let numbers = host.data_ptr().cast::<u8>();
        let bytes = if length == 0 {
            &[][..]
        } else {
            // SAFETY: `host` is contiguous host memory of that many bytes, and lives until this function ends.
            unsafe { std::slice::from_raw_parts(numbers, length) }
        };
        self.0.add(name, dtype_of(tensor.kind()), &shape, bytes);
    }

    /// The hash of all that was added.
    pub fn finish(self) -> String {
        self.0.finish()
    }
}

/// Copies the bytes of a tensor's numbers, in order, into `bytes`, whose memory is used again.
pub fn copy_bytes(tensor: &Tensor, bytes: &mut Vec<u8>) {
    let host = tensor.detach().to_device(Device::Cpu).contiguous();
    bytes.resize(host.numel() * host.kind().elt_size_in_bytes(), 0);
    host.copy_data_u8(bytes, host.numel());
}

fn dtype_of(kind: Kind) -> DType {
    match kind {
        Kind::Half => DType::F16,
        Kind::BFloat16 => DType::Bf16,
        Kind::Double => DType::F64,
        Kind::Int64 => DType::I64,
        Kind::Int => DType::I32,
        Kind::Int16 => DType::I16,
        Kind::Int8 => DType::I8,
        Kind::Uint8 => DType::U8,
        Kind::Bool => DType::Bool,
        _ => DType::F32,
    }
}

fn copies(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

//! Tensors by name, as a weight file holds them, with errors that name the file and the tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

use super::dtype::DType;
use super::safetensors_map::{Fingerprint, MapError, MappedWeights};

/// A weight file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or is not a safetensors file.
    #[error(transparent)]
    Open(#[from] MapError),
    /// Not a layout that we know.
    #[error(
        "{file}: holds neither OpenAI's, nor Hugging Face's CLIP, nor a timm ViT; found tensors such as {found}"
    )]
    Layout {
        /// The file.
        file: String,
        /// A few names.
        found: String,
    },
    /// The file inside the program is damaged.
    #[error("{origin} cannot be read ({reason}); build the program again")]
    Embedded {
        /// Which file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that has to be there is not.
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
        /// Shape that the other tensors ask for.
        expected: Vec<i64>,
        /// Shape in the file.
        found: Vec<i64>,
        /// Where the expected shape comes from, or empty.
        why: String,
    },
    /// A tensor of a kind that weights do not have.
    #[error("{file}: tensor `{tensor}` has the element type {found}; weights are F16, BF16, F32 or F64")]
    Kind {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// Element type in the file.
        found: String,
    },
    /// A number that no training produces: the file is damaged, or was saved by a run that diverged.
    #[error(
        "{file}: tensor `{tensor}` holds a value that is not finite (NaN or infinity); every result would be wrong. Get the file again, or choose another one"
    )]
    NotFinite {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
    },
    /// Tensors that nothing reads: the file is not what it was taken for.
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

/// Tensors by name. Those of a mapped file are views of the mapping, which lives as long as this.
#[derive(Debug)]
pub struct NamedTensors {
    file: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    mapping: Option<Arc<MappedWeights>>,
}

impl NamedTensors {
    /// Maps a safetensors file; nothing is read until it is used.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mapping = Arc::new(MappedWeights::open(path)?);
        let mut tensors = BTreeMap::new();
        for name in mapping.names() {
            let Some(raw) = mapping.view(name) else { continue };
            let shape: Vec<i64> = raw.shape.iter().map(|&n| n as i64).collect();
            let kind = known_kind(&path.display().to_string(), name, raw.dtype)?;
            tensors.insert(name.to_owned(), view_of(raw.bytes, &shape, kind));
        }
        Ok(Self { file: path.to_owned(), tensors, mapping: Some(mapping) })
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
        Self { file: PathBuf::from(origin), tensors, mapping: None }
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

    /// The file's mapping, for those who keep tensors that view it; nothing for tensors in memory.
    pub fn mapping(&self) -> Option<Arc<MappedWeights>> {
        self.mapping.clone()
    }

    /// SHA-256 over names, element types, shapes and numbers of all tensors.
    pub fn fingerprint(&self) -> String {
        if let Some(mapping) = &self.mapping {
            return mapping.fingerprint();
        }
        fingerprint(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }

    /// Applies `rename` to every tensor, keeping the mapping.
    pub(super) fn map(
        self,
        rename: impl FnOnce(BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, WeightsError>,
    ) -> Result<Self, WeightsError> {
        Ok(Self { tensors: rename(self.tensors)?, ..self })
    }
}

/// Reads tensors of known shape and remembers which were read.
pub struct Reader<'a> {
    tensors: &'a NamedTensors,
    device: Device,
    read: BTreeSet<String>,
    all_zero: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader that brings tensors to `device`.
    pub fn new(tensors: &'a NamedTensors, device: Device) -> Self {
        Self { tensors, device, read: BTreeSet::new(), all_zero: Vec::new() }
    }

    /// The tensor of that name and shape, as it lies in memory or in its mapping: only for copying a part of it.
    pub fn view(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        let tensor = self.shaped(name, shape, "")?;
        self.check_values(name, &tensor)?;
        Ok(tensor)
    }

    /// The tensor of that name and shape, in `kind` on the reader's device, as a copy: what happens to the file later
    /// does not reach it.
    pub fn take(&mut self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, WeightsError> {
        self.take_because(name, shape, kind, "")
    }

    /// [`take`](Self::take), saying in the error where the shape comes from.
    pub fn take_because(
        &mut self,
        name: &str,
        shape: &[i64],
        kind: Kind,
        why: &str,
    ) -> Result<Tensor, WeightsError> {
        let tensor = self.shaped(name, shape, why)?;
        let taken = tensor.to_kind(kind).to_device(self.device);
        let taken = if taken.data_ptr() == tensor.data_ptr() { taken.copy() } else { taken };
        self.check_values(name, &taken)?;
        Ok(taken)
    }

    /// Refuses values that are not finite, and remembers tensors of nothing but zeros.
    fn check_values(&mut self, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
        if tensor.numel() == 0 {
            return Ok(());
        }
        // One pass, which carries a NaN into both ends.
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

    /// Refuses tensors that nobody read, except those that `expected` knows; gives the names of tensors that hold nothing
    /// but zeros.
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

fn known_kind(file: &str, tensor: &str, dtype: DType) -> Result<Kind, WeightsError> {
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
        let mut bytes = Vec::new();
        copy_bytes(tensor, &mut bytes);
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        self.0.add(name, dtype_of(tensor.kind()), &shape, &bytes);
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
        Kind::Uint8 => DType::U8,
        _ => DType::F32,
    }
}

/// A tensor over bytes of a mapping that outlives it, or a copy where their alignment forbids a view.
fn view_of(bytes: &[u8], shape: &[i64], kind: Kind) -> Tensor {
    if !(bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes().max(1)) || bytes.is_empty() {
        return Tensor::from_data_size(bytes, shape, kind);
    }
    let strides = contiguous_strides(shape);
    // SAFETY: the bytes hold `shape` elements of `kind` (the map checked it), aligned; the mapping is
    // private (copy on write) and kept by `NamedTensors`, which hands out copies or borrowed tensors.
    unsafe { Tensor::from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu) }
}

fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

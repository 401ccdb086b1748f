//! Trainable tensors in files: read from our own or from official checkpoints, written as safetensors.

use super::dtype::DType;
use super::host_tensor::{HostTensor, MismatchError, match_exact};
use super::named::{copy_bytes, kind_of};
use super::safetensors_map::{MapError, MappedWeights};
use super::torch_archive::{CheckpointError, read_checkpoint};
use crate::model::trainables::Trainables;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Key of the metadata that tells which backbone the tensors belong to.
pub const FINGERPRINT_KEY: &str = "backbone_fingerprint";
/// Key of the metadata that tells on which data the tensors were trained.
pub const DATA_FINGERPRINT_KEY: &str = "data_fingerprint";
/// Key of the metadata that says how the backbone was computed, which its tensors do not tell.
pub const BACKBONE_CONFIG_KEY: &str = "backbone_config";

/// Trained tensors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    /// Not a safetensors file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Not a checkpoint of the official code.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Other names or shapes than the model's.
    #[error("{file}: {mismatch}\nThe file belongs to another --method, --model or --data, or is damaged")]
    Mismatch {
        /// The file.
        file: String,
        /// The differences.
        mismatch: Box<MismatchError>,
    },
    /// Trained on another backbone.
    #[error(
        "{file}: was trained on a backbone with fingerprint {expected}, but model.weights has {found}; use the weights it was trained on"
    )]
    Backbone {
        /// The file.
        file: String,
        /// Fingerprint in the file.
        expected: String,
        /// Fingerprint of the weights in use.
        found: String,
    },
    /// A tensor whose element type has no numbers in it.
    #[error("{file}: tensor `{tensor}` has the element type {found:?}; trained tensors are floating-point")]
    Kind {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// Its element type.
        found: DType,
    },
    /// The file cannot be written.
    #[error("cannot write {file}: {reason}")]
    Write {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Tensors of a file, not yet compared with a model.
#[derive(Debug)]
pub struct TrainedFile {
    file: String,
    tensors: BTreeMap<String, HostTensor>,
    metadata: BTreeMap<String, String>,
}

impl TrainedFile {
    /// Reads a safetensors file, or the zip archive that `torch.save` writes; which of them, the first
    /// bytes tell.
    pub fn read(path: &Path) -> Result<Self, TrainedError> {
        let file = path.display().to_string();
        if !looks_like_safetensors(path) {
            let checkpoint = read_checkpoint(path)?;
            return Ok(Self { file, tensors: checkpoint.tensors, metadata: BTreeMap::new() });
        }
        let mapped = MappedWeights::open(path)?;
        let host = |(name, raw): (&str, super::safetensors_map::RawTensor<'_>)| {
            let tensor =
                HostTensor { dtype: raw.dtype, shape: raw.shape.to_vec(), bytes: raw.bytes.to_vec() };
            (name.to_owned(), tensor)
        };
        let tensors = mapped.tensors().map(host).collect();
        Ok(Self { file, tensors, metadata: mapped.metadata().clone() })
    }

    /// What the file says under a key such as [`FINGERPRINT_KEY`].
    pub fn says(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether this program wrote the file, rather than another one or the official code.
    pub fn is_of_a_run(&self) -> bool {
        self.metadata.contains_key(FINGERPRINT_KEY)
    }

    /// Puts the values into `trainables`, all or none: every name and every shape has to match.
    pub fn load_into(&self, trainables: &Trainables, fingerprint: Option<&str>) -> Result<(), TrainedError> {
        let shapes = trainables
            .shapes()
            .map(|(name, shape)| (name.to_owned(), shape.iter().map(|&n| n as usize).collect::<Vec<_>>()));
        let mismatch =
            |mismatch| TrainedError::Mismatch { file: self.file.clone(), mismatch: Box::new(mismatch) };
        match_exact(&shapes.collect(), &self.tensors).map_err(mismatch)?;
        if let (Some(expected), Some(found)) = (self.says(FINGERPRINT_KEY), fingerprint)
            && expected != found
        {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            return Err(TrainedError::Backbone { file: self.file.clone(), expected, found });
        }
        let values: Vec<Tensor> =
            self.tensors.iter().map(|(name, host)| self.tensor(name, host)).collect::<Result<_, _>>()?;
        for (name, value) in self.tensors.keys().zip(&values) {
            // The names were just compared.
            let _ = trainables.set(name, value);
        }
        Ok(())
    }

    /// The tensor of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<Result<Tensor, TrainedError>> {
        self.tensors.get(name).map(|host| self.tensor(name, host))
    }

    fn tensor(&self, name: &str, host: &HostTensor) -> Result<Tensor, TrainedError> {
        let shape: Vec<i64> = host.shape.iter().map(|&n| n as i64).collect();
        match kind_of(host.dtype)
            .filter(|kind| matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double))
        {
            Some(kind) => Ok(Tensor::from_data_size(&host.bytes, &shape, kind)),
            None => Err(TrainedError::Kind {
                file: self.file.clone(),
                tensor: name.to_owned(),
                found: host.dtype,
            }),
        }
    }
}

/// A safetensors file starts with the length of its header and an opening brace.
fn looks_like_safetensors(path: &Path) -> bool {
    let mut start = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start[8] == b'{'
}

/// Writes tensors under their names, in `kind`, beside and then in place.
pub fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    kind: Kind,
    metadata: BTreeMap<String, String>,
) -> Result<(), TrainedError> {
    let failed = |reason: String| TrainedError::Write { file: path.display().to_string(), reason };
    let dtype = dtype_of(kind).ok_or_else(|| failed(format!("tensors of kind {kind:?} are not written")))?;
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let mut bytes = Vec::new();
            copy_bytes(&tensor.to_kind(kind), &mut bytes);
            (name.as_str(), tensor.size().iter().map(|&n| n as usize).collect(), bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(dtype, shape.clone(), bytes).map(|view| (*name, view)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.to_string()))?;
    let mut bytes = safetensors::serialize(views, Some(metadata.into_iter().collect()))
        .map_err(|e| failed(e.to_string()))?;
    sort_header(&mut bytes).ok_or_else(|| failed("its header is not JSON".to_owned()))?;
    launcher::protocol::write_atomically(path, &bytes).map_err(|e| failed(e.to_string()))
}

/// Puts the keys of a file's header in order: the same tensors and metadata give the same bytes.
fn sort_header(file: &mut [u8]) -> Option<()> {
    let (length, rest) = file.split_first_chunk_mut::<8>()?;
    let header = rest.get_mut(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let text = serde_json::to_vec(&sorted).ok()?;
    header.get_mut(..text.len())?.copy_from_slice(&text);
    header[text.len()..].fill(b' ');
    Some(())
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Half => Some(Dtype::F16),
        Kind::Float => Some(Dtype::F32),
        Kind::Double => Some(Dtype::F64),
        _ => None,
    }
}

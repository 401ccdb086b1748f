//! Trainable tensors in files: read from our own or from official checkpoints, written as safetensors.

use super::dtype::DType;
use super::host_tensor::{HostTensor, MismatchError, match_exact};
use super::named::{copy_bytes, kind_of};
use super::official::{Contents, OfficialOptions, UnequalError, aliases, merge_aliases};
use super::safetensors_map::{MapError, MappedWeights, RawTensor};
use super::torch_archive::{TorchFileError, read_checkpoint};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Metadata key of the fingerprint of the backbone that the tensors belong to.
pub const FINGERPRINT_KEY: &str = "backbone_fingerprint";
/// Metadata key of the fingerprint of the data that the tensors were trained on.
pub const DATA_FINGERPRINT_KEY: &str = "data_fingerprint";
/// Metadata key of the backbone's configuration, which its tensors do not determine.
pub const BACKBONE_CONFIG_KEY: &str = "backbone_config";
/// Prefix of the names of masks.
pub const MASK_PREFIX: &str = "mask.";

/// Trained tensors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    /// Not a safetensors file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Not a checkpoint of the official code.
    #[error(transparent)]
    Checkpoint(#[from] TorchFileError),
    /// Names or shapes that differ from the model's.
    #[error(
        "{file}: {mismatch}\nThe file belongs to another --method, --model or --data, or is damaged: {contents}"
    )]
    Mismatch {
        /// The file.
        file: String,
        /// The differences.
        mismatch: Box<MismatchError>,
        /// The contents of the file.
        contents: Box<Contents>,
    },
    /// Trained with other tuners or another kind of head than the configuration's.
    #[error("{file}: does not fit {options}: {contents}")]
    Options {
        /// The file.
        file: String,
        /// The options of the configuration.
        options: Box<OfficialOptions>,
        /// The contents of the file.
        contents: Box<Contents>,
    },
    /// A tensor with several names has different values.
    #[error("{file}: {unequal}")]
    Unequal {
        /// The file.
        file: String,
        /// Which.
        unequal: UnequalError,
    },
    /// One name with and without the mark of a model wrapped for several GPUs.
    #[error(
        "{file}: tensor `{tensor}` occurs twice, with `module.` in its name and without; the file is damaged"
    )]
    Twice {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
    },
    /// Tensors of the other official code.
    #[error(
        "{file}: this is a checkpoint of LIFT+ (tensor `{tensor}`), which is not read\nhint: give one of LIFT, or a final.safetensors"
    )]
    LiftPlus {
        /// The file.
        file: String,
        /// One of them.
        tensor: String,
    },
    /// Trained with another mask.
    #[error(
        "{file}: was trained at other elements of the layers than this configuration chooses (`{mask}`)\nhint: set tuner.mask_seed and tuner.mask_ratio as they were"
    )]
    Mask {
        /// The file.
        file: String,
        /// The first mask that differs.
        mask: String,
    },
    /// Trained on another backbone.
    #[error(
        "{file}: was trained on a backbone with fingerprint {expected}, but model.weights has {found}\nhint: use the weights it was trained on"
    )]
    Backbone {
        /// The file.
        file: String,
        /// Fingerprint in the file.
        expected: String,
        /// Fingerprint of the weights in use.
        found: String,
    },
    /// A tensor whose element type is not floating-point.
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
        /// The reason.
        reason: String,
    },
}

/// Tensors of a file, not yet compared with a model.
#[derive(Debug)]
pub struct TrainedFile {
    file: String,
    tensors: BTreeMap<String, HostTensor>,
    /// Untrained tensors that belong to them: the elements that a mask selected.
    masks: BTreeMap<String, HostTensor>,
    metadata: BTreeMap<String, String>,
}

impl TrainedFile {
    /// Reads a safetensors file or the zip archive that `torch.save` writes, detected by the first bytes. A tensor
    /// with several names keeps the first, and `module.` is removed from the names.
    pub fn read(path: &Path) -> Result<Self, TrainedError> {
        let file = path.display().to_string();
        let (mut tensors, metadata) = read_tensors(path)?;
        let masks = tensors.extract_if(.., |name, _| name.starts_with(MASK_PREFIX)).collect();
        if let Some(tensor) = tensors.keys().find(|name| is_of_lift_plus(name)) {
            return Err(TrainedError::LiftPlus { file, tensor: tensor.clone() });
        }
        let mut tensors =
            unwrapped(tensors).map_err(|tensor| TrainedError::Twice { file: file.clone(), tensor })?;
        let further = aliases(shapes(&tensors));
        merge_aliases(&mut tensors, further)
            .map_err(|unequal| TrainedError::Unequal { file: file.clone(), unequal })?;
        Ok(Self { file, tensors, masks, metadata })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, HostTensor> {
        &self.tensors
    }

    /// The training options as far as names and shapes determine them.
    pub fn contents(&self) -> Contents {
        Contents::of(shapes(&self.tensors))
    }

    /// Refuses tensors of other tuners or of another kind of head than in `options`, before there is a model to
    /// compare them with.
    pub fn check_options(&self, options: OfficialOptions) -> Result<(), TrainedError> {
        let contents = self.contents();
        if contents.fits(&options) {
            return Ok(());
        }
        let (options, contents) = (Box::new(options), Box::new(contents));
        Err(TrainedError::Options { file: self.file.clone(), options, contents })
    }

    /// The metadata of the file under a key such as [`FINGERPRINT_KEY`].
    pub fn says(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether this program wrote the file, rather than another one or the official code.
    pub fn is_of_a_run(&self) -> bool {
        self.metadata.contains_key(FINGERPRINT_KEY)
    }

    /// The values for tensors of these names and shapes. Every name and every shape must match; so must the masks and the
    /// fingerprint of the backbone, if the file contains them.
    pub fn values(
        &self,
        shapes: &BTreeMap<String, Vec<usize>>,
        masks: &[(String, Tensor)],
        fingerprint: Option<&str>,
    ) -> Result<Vec<(&str, Tensor)>, TrainedError> {
        let mismatch = |mismatch| TrainedError::Mismatch {
            file: self.file.clone(),
            mismatch: Box::new(mismatch),
            contents: Box::new(self.contents()),
        };
        match_exact(shapes, &self.tensors).map_err(mismatch)?;
        if let (Some(expected), Some(found)) = (self.says(FINGERPRINT_KEY), fingerprint)
            && expected != found
        {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            return Err(TrainedError::Backbone { file: self.file.clone(), expected, found });
        }
        self.compare_masks(masks)?;
        self.tensors.iter().map(|(name, host)| Ok((name.as_str(), self.tensor(name, host)?))).collect()
    }

    /// Refuses values that were trained with another mask. Official checkpoints do not record the mask.
    fn compare_masks(&self, masks: &[(String, Tensor)]) -> Result<(), TrainedError> {
        let differs = |(name, mask): &&(String, Tensor)| {
            let mut bytes = Vec::new();
            copy_bytes(mask, &mut bytes);
            self.masks.get(name).is_some_and(|theirs| theirs.bytes != bytes)
        };
        match masks.iter().find(differs) {
            Some((mask, _)) => Err(TrainedError::Mask { file: self.file.clone(), mask: mask.clone() }),
            None => Ok(()),
        }
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

type Tensors = BTreeMap<String, HostTensor>;

fn read_tensors(path: &Path) -> Result<(Tensors, BTreeMap<String, String>), TrainedError> {
    if !looks_like_safetensors(path) {
        return Ok((read_checkpoint(path)?.tensors, BTreeMap::new()));
    }
    let mapped = MappedWeights::open(path)?;
    let host = |(name, raw): (&str, RawTensor<'_>)| {
        let tensor = HostTensor { dtype: raw.dtype, shape: raw.shape.to_vec(), bytes: raw.bytes.to_vec() };
        (name.to_owned(), tensor)
    };
    Ok((mapped.tensors().map(host).collect(), mapped.metadata().clone()))
}

fn shapes(tensors: &Tensors) -> impl Iterator<Item = (&str, &[usize])> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
}

/// LIFT+ has the towers' names inside its tuner, and its classifier too.
fn is_of_lift_plus(name: &str) -> bool {
    let towers = ["tuner.image_encoder.", "tuner.text_encoder.", "tuner.classifier."];
    towers.iter().any(|tower| name.starts_with(tower))
}

/// The tensors without the `module.` of a model that was wrapped for several GPUs, which the official code removes
/// when it saves; or a name that then occurs twice.
fn unwrapped(tensors: Tensors) -> Result<Tensors, String> {
    let mut unwrapped = Tensors::new();
    for (name, tensor) in tensors {
        let own = ["tuner.", "head."].into_iter().find_map(|table| {
            name.strip_prefix(table)?.strip_prefix("module.").map(|key| format!("{table}{key}"))
        });
        let name = own.unwrap_or(name);
        if unwrapped.insert(name.clone(), tensor).is_some() {
            return Err(name);
        }
    }
    Ok(unwrapped)
}

/// A safetensors file starts with the length of its header and an opening brace.
fn looks_like_safetensors(path: &Path) -> bool {
    let mut start = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start[8] == b'{'
}

/// Writes tensors under their names, in `kind`, to a temporary file that is then renamed. Masks stay integers.
pub fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    kind: Kind,
    metadata: BTreeMap<String, String>,
) -> Result<(), TrainedError> {
    let failed = |reason: String| TrainedError::Write { file: path.display().to_string(), reason };
    let of_tensor = |(name, tensor): &(String, Tensor)| {
        let kind = if tensor.kind() == Kind::Int64 { Kind::Int64 } else { kind };
        let dtype =
            dtype_of(kind).ok_or_else(|| failed(format!("tensors of kind {kind:?} are not written")))?;
        let mut bytes = Vec::new();
        copy_bytes(&tensor.to_kind(kind), &mut bytes);
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        Ok((name.clone(), dtype, shape, bytes))
    };
    let tensors = tensors.iter().map(of_tensor).collect::<Result<Vec<_>, TrainedError>>()?;
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.to_string()))?;
    let mut bytes = safetensors::serialize(views, Some(metadata.into_iter().collect()))
        .map_err(|e| failed(e.to_string()))?;
    sort_header(&mut bytes).ok_or_else(|| failed("its header is not JSON".to_owned()))?;
    protocol::write_atomically(path, &bytes).map_err(|e| failed(e.to_string()))
}

/// Sorts the keys of a file's header, so that the same tensors and metadata give the same bytes.
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
        Kind::Int64 => Some(Dtype::I64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A file of tensors of one value each; `shape` is that of all of them.
    fn file(folder: &Path, tensors: &[(&str, f32)], shape: &[i64]) -> std::path::PathBuf {
        let path = folder.join("checkpoint.safetensors");
        let filled = |value| Tensor::full(shape, f64::from(value), (Kind::Float, Device::Cpu));
        let tensors: Vec<_> = tensors.iter().map(|&(name, value)| (name.to_owned(), filled(value))).collect();
        write(&path, &tensors, Kind::Float, BTreeMap::new()).unwrap();
        path
    }

    fn names(path: &Path) -> Result<Vec<String>, String> {
        let file = TrainedFile::read(path).map_err(|error| error.to_string())?;
        Ok(file.tensors().keys().cloned().collect())
    }

    #[test]
    fn the_mark_of_a_wrapped_model_is_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let wrapped =
            [("tuner.module.bias_tuned.0", 1.0), ("head.module.weight", 2.0), ("tuner.a.module.b", 3.0)];
        let path = file(folder.path(), &wrapped, &[2]);
        assert_eq!(names(&path).unwrap(), ["head.weight", "tuner.a.module.b", "tuner.bias_tuned.0"]);
        let path = file(folder.path(), &[("head.module.weight", 2.0), ("head.weight", 2.0)], &[2]);
        let error = names(&path).expect_err("one name twice");
        assert!(error.contains("`head.weight` occurs twice"), "{error}");
    }

    #[test]
    fn names_of_one_tensor_have_one_value() {
        let folder = tempfile::tempdir().unwrap();
        let both = |bias: f32| {
            let tensors =
                [("tuner.bias_tuned.0", 1.0), ("tuner.bias_tuned.1", 1.0), ("tuner.ln_tuned.0.weight", 5.0)];
            let tensors = [tensors.as_slice(), &[("tuner.ln_tuned.0.bias", bias)]].concat();
            names(&file(folder.path(), &tensors, &[2]))
        };
        let kept = ["tuner.bias_tuned.0", "tuner.bias_tuned.1", "tuner.ln_tuned.0.weight"];
        assert_eq!(both(1.0).unwrap(), kept);
        let error = both(2.0).expect_err("two values");
        assert!(error.contains("`tuner.ln_tuned.0.bias` and `tuner.bias_tuned.0` are one tensor"), "{error}");
        assert!(error.contains("checkpoint.safetensors"), "{error}");
    }

    #[test]
    fn lift_plus_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["tuner.image_encoder.blocks.0.prompt", "tuner.text_encoder.ctx", "tuner.classifier.weight"]
        {
            let error = names(&file(folder.path(), &[(name, 1.0)], &[2])).expect_err(name);
            assert!(error.contains("a checkpoint of LIFT+") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_width_that_differs_is_refused_with_the_option_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let lora = [("tuner.lora_list.0.q.lora_A", 1.0)];
        let path = file(folder.path(), &lora, &[128, 8]);
        let shapes = BTreeMap::from([(lora[0].0.to_owned(), vec![128, 4])]);
        let error = TrainedFile::read(&path).unwrap().values(&shapes, &[], None).unwrap_err().to_string();
        assert!(error.contains("is [128, 8], expected [128, 4]"), "{error}");
        assert!(error.contains("'tuner.kinds=[\"lora\"]' --set tuner.adapter_dim=8"), "{error}");
    }
}

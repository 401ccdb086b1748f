//! A golden case, and the comparison of outputs with its references.

use crate::coverage::covered;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use trainer::model::precision::Precision;
use trainer::weights::NamedTensors;

/// Precisions of every numerical comparison, with the name of the tolerance.
pub const PRECISIONS: [(Precision, &str); 2] = [(Precision::FP64, "fp64"), (Precision::FP32, "fp32")];

/// A golden case: manifest and tensors.
pub struct Case {
    pub name: String,
    pub manifest: Value,
    root: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

/// The cases in the repository.
fn in_repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

/// The sets of cases on this machine: the two in the repository, and the complete set if it exists.
pub fn roots() -> Vec<PathBuf> {
    let sets = vec![in_repository(), in_repository().join("other-sizes")];
    let complete = std::env::var_os("LIFT_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    if complete.is_dir() {
        return [sets, vec![complete]].concat();
    }
    eprintln!(
        "skipped: the complete set of golden cases (LIFT_FIXTURES not found at {})",
        complete.display()
    );
    sets
}

/// The compared cases of a group, from every set. If the folder of a group exists, it must contain some.
pub fn cases(group: &str) -> Vec<Case> {
    // The tests already run in parallel, so libtorch uses one thread each.
    tch::set_num_threads(1);
    let mut found = Vec::new();
    for root in roots() {
        let folder = root.join(group);
        if !folder.is_dir() {
            continue;
        }
        let before = found.len();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.join("manifest.json").exists() && covered(group, &name) {
                found.push(Case::open(&root, &path, format!("{group}/{name}")));
            }
        }
        let count = found.len() - before;
        eprintln!("{group}: {count} cases in {}", root.display());
        assert!(count > 0, "{} contains no compared case", folder.display());
    }
    if found.is_empty() {
        eprintln!("skipped: golden {group} (no such folder in any set)");
    }
    found
}

/// The compared cases of a group that match the predicate; at least one must match.
pub fn cases_that(group: &str, matches: impl Fn(&Case) -> bool) -> Vec<Case> {
    let cases: Vec<Case> = cases(group).into_iter().filter(matches).collect();
    assert!(!cases.is_empty(), "no case of {group} matches");
    cases
}

impl Case {
    fn open(root: &Path, path: &Path, name: String) -> Self {
        let text = std::fs::read_to_string(path.join("manifest.json")).unwrap();
        let manifest = serde_json::from_str(&text).unwrap();
        let tensors = read(&path.join("tensors.safetensors"));
        Self { name, manifest, root: root.to_owned(), tensors }
    }

    /// The same case with another manifest.
    pub fn with_manifest(&self, manifest: Value) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let (name, root) = (self.name.clone(), self.root.clone());
        Self { name, manifest, root, tensors: tensors.collect() }
    }

    /// Root folder of the set that contains the case.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the case uses a CLIP model rather than an image tower alone.
    pub fn is_clip(&self) -> bool {
        self.manifest["weights"]["kind"] == "clip-vit"
    }

    /// Folder of the case.
    pub fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// An input, from the file of the case or from a shared file in the manifest.
    pub fn input(&self, name: &str) -> Tensor {
        let file = self.manifest["inputs"][name]["file"].as_str();
        let tensor = match file {
            Some(file) => read(&self.root.join(file)).remove(name),
            None => self.tensors.get(name).map(Tensor::shallow_clone),
        };
        tensor.unwrap_or_else(|| panic!("{}: no input {name}", self.name))
    }

    /// Trainable tensors of the case: `param.NAME` as NAME.
    pub fn parameters(&self) -> BTreeMap<String, Tensor> {
        let inputs = self.manifest["inputs"].as_object().unwrap();
        let names = inputs.keys().filter_map(|key| key.strip_prefix("param."));
        names.map(|name| (name.to_owned(), self.input(&format!("param.{name}")))).collect()
    }

    pub fn config(&self) -> &Value {
        &self.manifest["config"]
    }

    pub fn has_input(&self, name: &str) -> bool {
        self.manifest["inputs"].get(name).is_some()
    }

    pub fn has_output(&self, name: &str) -> bool {
        self.manifest["outputs"].get(name).is_some()
    }

    /// A reference output as stored.
    pub fn output(&self, name: &str) -> Tensor {
        self.tensors[name].shallow_clone()
    }

    /// Shape of a reference output before subsampling.
    pub fn shape(&self, output: &str) -> Vec<i64> {
        let shape = self.manifest["outputs"][output]["shape"].as_array().unwrap();
        shape.iter().map(|n| n.as_i64().unwrap()).collect()
    }

    /// Number of training images per class.
    pub fn class_counts(&self) -> Vec<f64> {
        let counts = self.manifest["cls_num_list"].as_array().unwrap();
        counts.iter().map(|n| n.as_f64().unwrap()).collect()
    }

    /// Number of classes of the head.
    pub fn classes(&self) -> i64 {
        self.class_counts().len() as i64
    }

    /// The weights of the backbone. The token embedding is stored sparsely and is expanded here.
    pub fn weights(&self) -> NamedTensors {
        let file = self.manifest["weights"]["file"].as_str().unwrap();
        let mut tensors = read(&self.root.join(file));
        for name in ["token_embedding.weight", "text_model.embeddings.token_embedding.weight"] {
            let Some(rows) = tensors.remove(&format!("{name}.rows")) else { continue };
            let values = tensors.remove(&format!("{name}.values")).unwrap();
            let size = tensors.remove(&format!("{name}.size")).unwrap().int64_value(&[]);
            let table = Tensor::zeros([size, values.size()[1]], (values.kind(), tch::Device::Cpu));
            tensors.insert(name.to_owned(), table.index_copy(0, &rows, &values));
        }
        NamedTensors::from_tensors(file, tensors)
    }

    /// Compares an output with its reference, according to the README of the fixtures.
    pub fn compare(&self, output: &str, found: &Tensor, tolerance: &str) {
        let spec = &self.manifest["outputs"][output];
        let what = format!("{} {output} ({tolerance})", self.name);
        assert_eq!(found.size(), self.shape(output), "{what}: shape");
        let limits = &self.manifest["tolerance"][tolerance];
        let (atol, rtol) = (limits["atol"].as_f64().unwrap(), limits["rtol"].as_f64().unwrap());
        let floor = spec["floor"].as_f64().unwrap_or(0.0);
        let reference = self.tensors[output].to_kind(Kind::Double).flatten(0, -1);
        let whole = found.detach().to_kind(Kind::Double).flatten(0, -1);
        let slice = match spec["stride"].as_i64() {
            Some(stride) => whole.slice(0, 0, None, stride),
            None => whole.shallow_clone(),
        };
        // NaN must match NaN. `nan_to_num` below then treats equal infinities, whose difference is NaN, as equal.
        assert!(
            slice.isnan().equal(&reference.isnan()),
            "{what}: NaN at other positions than in the reference"
        );
        let limit = atol + rtol * max_abs(&reference).max(floor);
        let error = max_abs(&(slice - &reference).nan_to_num(0.0, None, None));
        assert!(error <= limit, "{what}: differs by {error:e}, allowed {limit:e}");
        self.record(tolerance, error, max_abs(&reference).max(floor));
        if let Some(stats) = spec["stats"].as_array() {
            let stats: Vec<f64> = stats.iter().map(|n| n.as_f64().unwrap()).collect();
            compare_stats(&what, &whole, &stats, atol, rtol, floor);
        }
    }
}

/// Compares sum, norm and cosine-weighted sum of the whole tensor.
fn compare_stats(what: &str, whole: &Tensor, stats: &[f64], atol: f64, rtol: f64, floor: f64) {
    let n = whole.numel() as f64;
    let waves = (Tensor::arange(whole.numel() as i64, (Kind::Double, tch::Device::Cpu)) * 0.1).cos();
    let norm = whole.norm().double_value(&[]);
    let sum = whole.sum(Kind::Double).double_value(&[]);
    let wave = (whole * waves).sum(Kind::Double).double_value(&[]);
    let size = atol + rtol * stats[1].max(floor * n);
    assert!((norm - stats[1]).abs() <= size, "{what}: norm {norm}, expected {}", stats[1]);
    assert!((sum - stats[0]).abs() <= size * n.sqrt(), "{what}: sum {sum}, expected {}", stats[0]);
    assert!((wave - stats[2]).abs() <= size * n.sqrt(), "{what}: cosine sum {wave}, expected {}", stats[2]);
}

fn max_abs(x: &Tensor) -> f64 {
    if x.numel() == 0 { 0.0 } else { x.abs().max().double_value(&[]) }
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    if !path.exists() {
        return BTreeMap::new();
    }
    let tensors = Tensor::read_safetensors(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    tensors.into_iter().collect()
}

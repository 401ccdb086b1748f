//! The trainable tensors: views into one flat buffer, with a second one for their gradients.
//!
//! All-reduce, optimiser, checksum and checkpoint work on the two flat tensors. The order is the order
//! of the specs: by block, head last.

use crate::weights::file_map::in_memory;
use crate::weights::trained::{TrainedError, TrainedFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, Kind, Tensor, no_grad};

/// The initialisation of a trainable tensor (the rules of the official code).
#[derive(Debug)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Independent normal draws.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Independent uniform draws from `-bound..bound`.
    Uniform {
        /// Greatest magnitude.
        bound: f64,
    },
    /// The same, with separate draws for each row.
    NormalRows {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in `-1..1`, then every row scaled to unit length.
    UnitRows,
    /// The values of another tensor: a weight of the backbone.
    Value(Tensor),
}

/// The specification of a trainable tensor.
#[derive(Debug)]
pub struct ParameterSpec {
    /// Dotted name, as in the official checkpoint.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Initial values.
    pub init: Init,
    /// The block it belongs to; the head counts as the block after the last.
    pub unit: usize,
    /// The rows of a larger tensor that are on this process; `None` if the tensor is not sharded.
    pub rows: Option<RowRange>,
}

/// Some rows of a tensor whose other rows are on other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// The first one.
    pub first: i64,
    /// Rows of the unsharded tensor.
    pub total: i64,
}

impl ParameterSpec {
    /// A spec from its parts.
    pub fn new(name: String, shape: &[i64], init: Init) -> Self {
        Self { name, shape: shape.to_vec(), init, unit: 0, rows: None }
    }

    /// The same tensor, of block `unit`.
    #[must_use]
    pub fn in_unit(self, unit: usize) -> Self {
        Self { unit, ..self }
    }

    /// The same tensor, as some rows of a larger one.
    #[must_use]
    pub fn of_rows(self, rows: RowRange) -> Self {
        Self { rows: Some(rows), ..self }
    }

    /// The same tensor, with initial values that no longer need the file of the backbone.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        if let Init::Value(value) = self.init {
            self.init = Init::Value(in_memory(value));
        }
        self
    }

    fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// An unknown name of a trainable tensor.
#[derive(Debug, thiserror::Error)]
#[error("no trainable tensor is named `{0}`")]
pub struct UnknownParameter(String);

#[derive(Debug)]
struct Parameter {
    name: String,
    shape: Vec<i64>,
    unit: usize,
    rows: Option<RowRange>,
    tensor: Tensor,
}

/// All trainable tensors of a model.
#[derive(Debug)]
pub struct Trainables {
    flat: Tensor,
    gradient: Tensor,
    parameters: Vec<Parameter>,
}

impl Trainables {
    /// Lays out the tensors and initialises them. Draws are keyed by (seed, name), so the initial values of a
    /// tensor do not depend on which other tensors are trained.
    pub fn new(specs: Vec<ParameterSpec>, kind: Kind, device: Device, seed: u64) -> Self {
        let total: i64 = specs.iter().map(ParameterSpec::numel).sum();
        let flat = Tensor::zeros([total], (kind, device));
        let gradient = Tensor::zeros([total], (kind, device));
        let mut parameters = Vec::with_capacity(specs.len());
        let mut offset = 0;
        for spec in specs {
            let numel = spec.numel();
            let mut tensor = flat.narrow(0, offset, numel).view(spec.shape.as_slice()).detach();
            no_grad(|| initialise(&mut tensor, &spec, seed));
            let tensor = tensor.set_requires_grad(true);
            bind_gradient(&tensor, &gradient.narrow(0, offset, numel).view(spec.shape.as_slice()));
            let ParameterSpec { name, shape, unit, rows, .. } = spec;
            parameters.push(Parameter { name, shape, unit, rows, tensor });
            offset += numel;
        }
        Self { flat, gradient, parameters }
    }

    /// The tensor of that name; it shares the flat buffer's memory.
    pub fn get(&self, name: &str) -> Result<Tensor, UnknownParameter> {
        let found = self.parameters.iter().find(|p| p.name == name);
        found.map(|p| p.tensor.shallow_clone()).ok_or_else(|| UnknownParameter(name.to_owned()))
    }

    /// All values, `[count]`.
    pub fn flat(&self) -> Tensor {
        self.flat.shallow_clone()
    }

    /// All gradients, `[count]`; backward passes add to it.
    pub fn gradient(&self) -> Tensor {
        self.gradient.shallow_clone()
    }

    /// Number of trainable scalars.
    pub fn count(&self) -> i64 {
        self.flat.numel() as i64
    }

    /// Name and tensor, in the order of the flat buffer.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters.iter().map(|p| (p.name.as_str(), &p.tensor))
    }

    /// Name and shape, in the order of the flat buffer. For a sharded tensor, the shape is that of the unsharded
    /// tensor.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, Vec<i64>)> {
        self.parameters.iter().map(|p| (p.name.as_str(), p.whole_shape()))
    }

    /// Name, range in the flat buffer, local shape, and the local rows if the tensor is sharded.
    pub fn layout(&self) -> impl Iterator<Item = (&str, Range<i64>, &[i64], Option<RowRange>)> {
        let mut end = 0;
        self.parameters.iter().map(move |p| {
            let start = end;
            end += p.tensor.numel() as i64;
            (p.name.as_str(), start..end, p.shape.as_slice(), p.rows)
        })
    }

    /// The ranges of the flat buffer that belong to one block each, in the order of the flat buffer.
    pub fn units(&self) -> Vec<(usize, Range<i64>)> {
        let mut units: Vec<(usize, Range<i64>)> = Vec::new();
        let mut end = 0;
        for parameter in &self.parameters {
            let start = end;
            end += parameter.tensor.numel() as i64;
            match units.last_mut() {
                Some((unit, range)) if *unit == parameter.unit => range.end = end,
                _ => units.push((parameter.unit, start..end)),
            }
        }
        units
    }

    /// Takes the values of a file, all or none: every name and every shape must match, and so must the masks if the file
    /// contains them.
    pub fn load(
        &self,
        file: &TrainedFile,
        masks: &[(String, Tensor)],
        fingerprint: Option<&str>,
    ) -> Result<(), TrainedError> {
        let shape = |shape: Vec<i64>| shape.iter().map(|&length| length as usize).collect();
        let shapes: BTreeMap<String, Vec<usize>> =
            self.shapes().map(|(name, sizes)| (name.to_owned(), shape(sizes))).collect();
        for (name, value) in file.values(&shapes, masks, fingerprint)? {
            // The names were compared above.
            let _ = self.set(name, &value);
        }
        Ok(())
    }

    /// Overwrites one tensor with `values` of the same shape or, for a sharded tensor, of the unsharded tensor's
    /// shape.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<(), UnknownParameter> {
        self.set_in(&self.flat, name, values)
    }

    /// Overwrites part of `flat`, a tensor laid out as the flat buffer, like [`set`](Self::set).
    pub fn set_in(&self, flat: &Tensor, name: &str, values: &Tensor) -> Result<(), UnknownParameter> {
        let mut layout = self.layout().zip(&self.parameters);
        let found = layout.find(|((other, ..), _)| *other == name);
        let ((_, range, shape, _), parameter) = found.ok_or_else(|| UnknownParameter(name.to_owned()))?;
        let place = flat.narrow(0, range.start, range.end - range.start).view(shape);
        no_grad(|| place.shallow_clone().copy_(&parameter.own_rows(values)));
        Ok(())
    }
}

impl Parameter {
    fn whole_shape(&self) -> Vec<i64> {
        let mut shape = self.shape.clone();
        if let (Some(rows), Some(first)) = (self.rows, shape.first_mut()) {
            *first = rows.total;
        }
        shape
    }

    fn own_rows(&self, values: &Tensor) -> Tensor {
        match self.rows {
            Some(rows) if values.size() != self.shape => values.narrow(0, rows.first, self.shape[0]),
            _ => values.shallow_clone(),
        }
    }
}

/// Makes backward passes accumulate the gradient of `tensor` into `gradient`.
///
/// libtorch accumulates in place into an existing gradient, so a zero gradient is created first and its data is
/// replaced by the view.
fn bind_gradient(tensor: &Tensor, gradient: &Tensor) {
    if tensor.numel() == 0 {
        return;
    }
    (tensor.sum(tensor.kind()) * 0.0).backward();
    tensor.grad().set_data(gradient);
}

/// Words of the generator per uniform number in double precision.
const WORDS_OF_A_DRAW: u128 = 2;

fn initialise(tensor: &mut Tensor, spec: &ParameterSpec, seed: u64) {
    let _ = match &spec.init {
        Init::Zeros => tensor.zero_(),
        Init::Ones => tensor.fill_(1.0),
        Init::Value(value) => {
            tensor.copy_(value);
            tensor.shallow_clone()
        }
        Init::Normal { mean, std } => {
            let mut random = keyed(seed, &spec.name);
            let draws = StandardNormal.sample_iter(&mut random).map(|x: f64| x * std + mean);
            fill(tensor, draws)
        }
        Init::Uniform { bound } => {
            let mut random = keyed(seed, &spec.name);
            let draws = (&mut random).random_iter().map(|x: f64| (2.0 * x - 1.0) * bound);
            fill(tensor, draws)
        }
        Init::NormalRows { std } => {
            // A normal draw takes a varying number of words, so each row needs a separate stream.
            let first = spec.rows.map_or(0, |rows| rows.first);
            let count = spec.shape.first().copied().unwrap_or(1);
            let width = (spec.numel() / count.max(1)) as usize;
            let mut random = keyed(seed, &spec.name);
            let rows = (first..first + count).flat_map(|row| {
                random.set_stream(row as u64);
                random.set_word_pos(0);
                let draws = StandardNormal.sample_iter(&mut random).map(|x: f64| x * std);
                draws.take(width).collect::<Vec<_>>()
            });
            fill(tensor, rows)
        }
        Init::UnitRows => {
            let first = spec.rows.map_or(0, |rows| rows.first);
            let mut random = keyed(seed, &spec.name);
            let width = spec.numel() / spec.shape.first().copied().unwrap_or(1).max(1);
            random.set_word_pos((first * width) as u128 * WORDS_OF_A_DRAW);
            let values = Uniform::new(-1.0f64, 1.0)
                .map(|u| u.sample_iter(&mut random).take(spec.numel() as usize).collect::<Vec<_>>());
            let rows = Tensor::from_slice(&values.unwrap_or_default()).view(spec.shape.as_slice());
            let lengths = rows.norm_scalaropt_dim(2, [-1i64].as_slice(), true).clamp_min(f64::MIN_POSITIVE);
            tensor.copy_(&(rows / lengths));
            tensor.shallow_clone()
        }
    };
}

fn fill(tensor: &mut Tensor, draws: impl Iterator<Item = f64>) -> Tensor {
    let values: Vec<f64> = draws.take(tensor.numel()).collect();
    tensor.copy_(&Tensor::from_slice(&values).view(tensor.size().as_slice()));
    tensor.shallow_clone()
}

fn keyed(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"initialisation");
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<ParameterSpec> {
        vec![
            ParameterSpec::new("a.weight".into(), &[2, 3], Init::Normal { mean: 0.0, std: 0.5 }),
            ParameterSpec::new("head.weight".into(), &[4, 3], Init::UnitRows),
        ]
    }

    #[test]
    fn tensors_and_gradients_are_views_of_the_flat_buffers() {
        let trainables = Trainables::new(specs(), Kind::Double, Device::Cpu, 7);
        let (a, head) = (trainables.get("a.weight").unwrap(), trainables.get("head.weight").unwrap());
        (a.sum(Kind::Double) * 2.0 + head.sum(Kind::Double) * 3.0).backward();
        (a.sum(Kind::Double) * 1.0).backward();
        let expected = [vec![3.0; 6], vec![3.0; 12]].concat();
        assert_eq!(Vec::<f64>::try_from(trainables.gradient()).unwrap(), expected);
        let _ = trainables.flat().fill_(0.25);
        assert_eq!(head.double_value(&[3, 2]), 0.25);
        assert_eq!(trainables.count(), 18);
    }

    #[test]
    fn law_6_some_rows_start_as_they_do_in_the_whole() {
        let rows = |first, count, init| {
            let spec = ParameterSpec::new("head.weight".into(), &[count, 3], init).in_unit(4);
            let spec = spec.of_rows(RowRange { first, total: 5 });
            Trainables::new(vec![spec], Kind::Float, Device::Cpu, 7)
        };
        let (some, all) =
            (rows(2, 3, Init::NormalRows { std: 0.5 }), rows(0, 5, Init::NormalRows { std: 0.5 }));
        assert_eq!(some.flat().view([3, 3]), all.flat().view([5, 3]).narrow(0, 2, 3));
        let (some, all) = (rows(2, 3, Init::UnitRows), rows(0, 5, Init::UnitRows));
        assert_eq!(some.flat().view([3, 3]), all.flat().view([5, 3]).narrow(0, 2, 3));
        let values = Tensor::arange(15, (Kind::Float, Device::Cpu)).view([5, 3]);
        some.set("head.weight", &values).unwrap();
        assert_eq!(some.get("head.weight").unwrap(), values.narrow(0, 2, 3));
        assert_eq!(some.shapes().next(), Some(("head.weight", vec![5, 3])));
    }

    #[test]
    fn units_are_ranges_of_the_flat_buffer() {
        let mut specs = specs();
        specs.insert(1, ParameterSpec::new("a.bias".into(), &[2], Init::Zeros));
        specs[2].unit = 5;
        let trainables = Trainables::new(specs, Kind::Float, Device::Cpu, 7);
        assert_eq!(trainables.units(), [(0, 0..8), (5, 8..20)]);
        assert_eq!(trainables.layout().nth(2).unwrap().1, 8..20);
    }

    #[test]
    fn law_6_draws_are_keyed_by_seed_and_name() {
        let whole = Trainables::new(specs(), Kind::Float, Device::Cpu, 7);
        let head_only = Trainables::new(specs().split_off(1), Kind::Float, Device::Cpu, 7);
        let other_seed = Trainables::new(specs(), Kind::Float, Device::Cpu, 8);
        let head = whole.get("head.weight").unwrap();
        assert_eq!(head, head_only.get("head.weight").unwrap());
        assert_ne!(head, other_seed.get("head.weight").unwrap());
        let lengths = head.norm_scalaropt_dim(2, [-1i64].as_slice(), false);
        assert!((lengths - 1.0).abs().max().double_value(&[]) < 1e-6);
    }
}

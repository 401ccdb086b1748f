//! The trainable tensors: views into one flat buffer, and so are their gradients.
//!
//! All-reduce, optimiser, checksum and checkpoint work on the two flat tensors. The order is the order
//! of the specs: by block, head last.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, no_grad};

/// How a trainable tensor starts (the official code's rules).
#[derive(Debug)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Independent normal draws of mean zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in `-1..1`, then every row scaled to unit length.
    UnitRows,
    /// The values of another tensor: a weight of the backbone.
    Value(Tensor),
}

/// A trainable tensor to be.
#[derive(Debug)]
pub struct ParameterSpec {
    /// Dotted name, as in the official checkpoint.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// First values.
    pub init: Init,
}

impl ParameterSpec {
    /// A spec from its parts.
    pub fn new(name: String, shape: &[i64], init: Init) -> Self {
        Self { name, shape: shape.to_vec(), init }
    }

    fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// A name that no trainable tensor has.
#[derive(Debug, thiserror::Error)]
#[error("no trainable tensor is named `{0}`")]
pub struct UnknownParameter(String);

#[derive(Debug)]
struct Parameter {
    name: String,
    shape: Vec<i64>,
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
    /// Lays the tensors out and gives them their first values. Draws are keyed by (seed, name), so a
    /// tensor starts the same whatever else is trained.
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
            parameters.push(Parameter { name: spec.name, shape: spec.shape, tensor });
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

    /// Name and shape, in the order of the flat buffer.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice()))
    }

    /// Overwrites one tensor with `values` of the same shape.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<(), UnknownParameter> {
        let mut tensor = self.get(name)?;
        no_grad(|| tensor.copy_(values));
        Ok(())
    }
}

/// Makes `gradient` the place where backward passes add the gradient of `tensor`.
///
/// libtorch adds in place to a gradient that exists; so a first, zero gradient is made and its data
/// replaced by the view.
fn bind_gradient(tensor: &Tensor, gradient: &Tensor) {
    if tensor.numel() == 0 {
        return;
    }
    (tensor.sum(tensor.kind()) * 0.0).backward();
    tensor.grad().set_data(gradient);
}

fn initialise(tensor: &mut Tensor, spec: &ParameterSpec, seed: u64) {
    let _ = match &spec.init {
        Init::Zeros => tensor.zero_(),
        Init::Ones => tensor.fill_(1.0),
        Init::Value(value) => {
            tensor.copy_(value);
            tensor.shallow_clone()
        }
        Init::Normal { std } => {
            let mut random = keyed(seed, &spec.name);
            let draws = StandardNormal.sample_iter(&mut random).map(|x: f64| x * std);
            fill(tensor, draws)
        }
        Init::UnitRows => {
            let mut random = keyed(seed, &spec.name);
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
            ParameterSpec::new("a.weight".into(), &[2, 3], Init::Normal { std: 0.5 }),
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

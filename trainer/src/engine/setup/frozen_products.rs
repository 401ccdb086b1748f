//! `train.frozen_products`: whether the frozen layers of the blocks are multiplied in fp8, by name or by measurement.
//!
//! fp8 is never as fine as the type of the run. `auto` takes it where it is clearly faster and where its errors are those of the
//! format alone: rounding to e4m3 is coarser than rounding to the type of the run by the ratio of their units (32 for bf16), so an error
//! of features or gradients beyond that ratio comes from numbers that do not fit the scales. The gradient of the trained tensors must
//! also be right up to a tenth, which is well below its difference between two batches.

use crate::config::{Config, FrozenProductsName, PrecisionName};
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::refusal::reason;
use crate::engine::gpu::timing::seconds_of_pass;
use crate::engine::rank::Rank;
use crate::engine::setup::session::SessionPurpose;
use crate::engine::step::pass::Pass;
use crate::model::Model;
use crate::model::fp8::Fp8Matrix;
use crate::model::precision::FrozenProducts;
use collectives::ReduceOp;
use tch::{Device, Kind, Tensor, no_grad};

/// Share of the time that fp8 must save.
const GAIN: f64 = 0.05;
/// The greatest relative error of the gradient of the trained tensors.
const GRADIENT_ERROR: f64 = 0.1;
/// Half of the distance between 1 and the next number, in e4m3.
const UNIT: f64 = 1.0 / 16.0;
/// Images of the comparison.
const COMPARED: i64 = 8;
/// Measurements of which the fastest counts, after one that does not, and passes of each.
const TIMES: usize = 5;
const PASSES: usize = 4;
/// Numbers are exchanged in parts of a billion.
const PARTS: f64 = 1e9;

/// Products in fp8 that a run cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrozenProductsError {
    /// The other operations would be finer than the products by far.
    #[error(
        "`train.frozen_products = \"{way}\"` needs `train.precision` to be bf16 or fp16, found {precision}\nhint: set train.precision=bf16, or train.frozen_products=compute"
    )]
    Precision {
        /// The option.
        way: FrozenProductsName,
        /// The precision of the run.
        precision: PrecisionName,
    },
    /// The CPU has no fp8.
    #[error(
        "`train.frozen_products = \"fp8\"` needs a GPU of compute capability 8.9 or later, and this rank computes on the CPU\nhint: set train.frozen_products=compute; if the run resumes, allow it with --allow-changed train.frozen_products"
    )]
    OnCpu,
    /// libtorch refuses a product of this model on this device.
    #[error(
        "`train.frozen_products = \"fp8\"` needs a GPU of compute capability 8.9 or later and layers whose sizes are multiples of 16; libtorch refuses a product: {0}\nhint: set train.frozen_products=compute; if the run resumes, allow it with --allow-changed train.frozen_products"
    )]
    Refused(String),
    /// The weights of a block are there only while it is computed.
    #[error(
        "`train.frozen_products = \"fp8\"` needs whole blocks on every rank, and the backbone is sharded\nhint: set backbone.placement=replicated, or train.frozen_products=compute"
    )]
    Sharded,
    /// Every layer is trained.
    #[error(
        "`train.frozen_products = \"fp8\"` has no effect, because every layer of the blocks is trained\nhint: set train.frozen_products=compute"
    )]
    NothingFrozen,
}

/// Refuses what a run that trains cannot have, before anything is loaded. An evaluation does without.
pub fn check(config: &Config, device: Device, purpose: SessionPurpose) -> Result<(), FrozenProductsError> {
    let (way, precision) = (config.train.frozen_products, config.train.precision);
    if way == FrozenProductsName::Compute || !trains(purpose) {
        return Ok(());
    }
    if !matches!(precision, PrecisionName::Bf16 | PrecisionName::Fp16) {
        return Err(FrozenProductsError::Precision { way, precision });
    }
    if way == FrozenProductsName::Fp8 && !device.is_cuda() {
        return Err(FrozenProductsError::OnCpu);
    }
    Ok(())
}

fn trains(purpose: SessionPurpose) -> bool {
    matches!(purpose, SessionPurpose::Train | SessionPurpose::Resume)
}

/// What is measured with.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Images of a pass.
    pub images: i64,
    /// Side of an image.
    pub side: i64,
}

/// Sets how the frozen layers are computed, and replaces `auto` by what was found; says why. Collective.
pub fn settle(
    config: &mut Config,
    (rank, purpose): (&Rank, SessionPurpose),
    model: &mut Model,
    probe: Probe,
) -> Result<Option<String>, Failure> {
    let name = config.train.frozen_products;
    if name == FrozenProductsName::Compute {
        return Ok(None);
    }
    let usable = usable(model);
    // Ranks on different devices agree.
    let mut refusing = [i64::from(usable.is_err())];
    rank.control.all_reduce(&mut refusing, ReduceOp::Max)?;
    if refusing[0] != 0 {
        if name == FrozenProductsName::Fp8 && trains(purpose) {
            return agreed(&rank.control, || usable.map(|()| None).map_err(Failure::input));
        }
        if name == FrozenProductsName::Auto && !trains(purpose) {
            return Ok(None);
        }
        let why = usable.err().map_or_else(|| "another rank has no fp8".to_owned(), |error| sentence(&error));
        settled(config, purpose, FrozenProductsName::Compute);
        return Ok(Some(format!("note: train.frozen_products: compute, because {why}")));
    }
    if purpose != SessionPurpose::Train || config.train.epochs == 0 {
        let way = if name == FrozenProductsName::Fp8 { FrozenProducts::Fp8 } else { FrozenProducts::Compute };
        return set(model, way, rank).map(|()| None);
    }
    let found = Found::measured(model, rank, probe)?;
    let takes_fp8 = name == FrozenProductsName::Fp8 || found.is_fp8_better();
    let (way, word) = if takes_fp8 {
        (FrozenProducts::Fp8, FrozenProductsName::Fp8)
    } else {
        (FrozenProducts::Compute, FrozenProductsName::Compute)
    };
    set(model, way, rank)?;
    settled(config, purpose, word);
    // A run that did not ask whether fp8 is accurate is told how accurate it is, also with `--quiet`.
    let prefix = if name == FrozenProductsName::Fp8 { "warning" } else { "note" };
    Ok(Some(format!("{prefix}: train.frozen_products: {word}; {}", found.text())))
}

/// A run that trains records what `auto` is. An evaluation leaves the configuration of its run alone.
fn settled(config: &mut Config, purpose: SessionPurpose, way: FrozenProductsName) {
    if trains(purpose) {
        config.train.frozen_products = way;
    }
}

/// The sentence of an error without its hint.
fn sentence(error: &FrozenProductsError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn set(model: &mut Model, way: FrozenProducts, rank: &Rank) -> Result<(), Failure> {
    agreed(&rank.control, || no_grad(|| model.compute_frozen(way)).map_err(Failure::run))
}

/// Whether libtorch multiplies the frozen layers in fp8 on the device of the model.
fn usable(model: &Model) -> Result<(), FrozenProductsError> {
    if !model.device().is_cuda() {
        return Err(FrozenProductsError::OnCpu);
    }
    if model.slices().is_some() {
        return Err(FrozenProductsError::Sharded);
    }
    let tower = model.tower();
    let mut layers = (0..tower.shape().layers).flat_map(|block| tower.block_layers(block)).peekable();
    let mut frozen = layers.by_ref().filter(|layer| !layer.weight.requires_grad()).take(4).peekable();
    if frozen.peek().is_none() {
        return Err(FrozenProductsError::NothingFrozen);
    }
    let refused = |error: tch::TchError| FrozenProductsError::Refused(reason(error));
    no_grad(|| {
        frozen.try_for_each(|layer| {
            let x = layer.weight.f_narrow(0, 0, 16.min(layer.weight.size()[0])).map_err(refused)?;
            let bias = layer.bias.detach().to_kind(model.precision().compute);
            let product = Fp8Matrix::of(&layer.weight).and_then(|weight| weight.product(&x, &bias));
            product.map(drop).map_err(refused)
        })
    })
}

/// Times and errors of both ways: the type of the run, and fp8.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    /// Of the products of a block, forward and backward, on the slowest rank.
    seconds: [f64; 2],
    /// Relative, against products and attention in fp32, of the features of an image.
    features: [f64; 2],
    /// The same of the gradient of the trained tensors.
    gradient: [f64; 2],
    kind: Kind,
}

impl Found {
    /// Measures both ways. Collective.
    fn measured(model: &mut Model, rank: &Rank, probe: Probe) -> Result<Self, Failure> {
        let kind = model.precision().compute;
        set(model, FrozenProducts::Fp32, rank)?;
        let exact = agreed(&rank.control, || results(model, probe))?;
        let mut numbers = Vec::new();
        for way in [FrozenProducts::Compute, FrozenProducts::Fp8] {
            set(model, way, rank)?;
            let found = agreed(&rank.control, || results(model, probe))?;
            numbers.push(seconds(model, probe));
            numbers.extend(found.iter().zip(&exact).map(|(found, exact)| relative_error(found, exact)));
        }
        let mut parts: Vec<i64> = numbers.iter().map(|number| (number * PARTS) as i64).collect();
        rank.control.all_reduce(&mut parts, ReduceOp::Max)?;
        let both = |place: usize| [parts[place] as f64 / PARTS, parts[place + 3] as f64 / PARTS];
        Ok(Self { seconds: both(0), features: both(1), gradient: both(2), kind })
    }

    fn is_fp8_better(&self) -> bool {
        self.seconds[1] < (1.0 - GAIN) * self.seconds[0] && self.is_accurate()
    }

    /// Whether the errors are those of the format alone.
    fn is_accurate(&self) -> bool {
        let ratio = UNIT / unit(self.kind);
        let within = |[plain, fp8]: [f64; 2]| fp8 <= ratio * plain;
        within(self.features) && within(self.gradient) && self.gradient[1] <= GRADIENT_ERROR
    }

    fn text(&self) -> String {
        let Self { seconds, features, gradient, kind } = self;
        let percent = |[plain, fp8]: &[f64; 2]| format!("{:.2} % ({:.3} %)", 100.0 * fp8, 100.0 * plain);
        let ratio = UNIT / unit(*kind);
        format!(
            "in fp8 ({kind:?}) the four products of a block take {:.3} ms ({:.3} ms) forward and backward, the relative error of the features is {}, that of the gradients {}; `auto` takes fp8 if it saves {:.0} %, its errors are at most {ratio:.0} times those of {kind:?}, and that of the gradients is at most {:.0} %",
            1e3 * seconds[1],
            1e3 * seconds[0],
            percent(features),
            percent(gradient),
            100.0 * GAIN,
            100.0 * GRADIENT_ERROR
        )
    }
}

/// Half of the distance between 1 and the next number.
fn unit(kind: Kind) -> f64 {
    match kind {
        Kind::Half => 0.5_f64.powi(11),
        _ => 0.5_f64.powi(9),
    }
}

/// Features of a few images, and the gradient of the trained tensors for a fixed gradient of the features.
fn results(model: &Model, probe: Probe) -> Result<[Tensor; 2], Failure> {
    let (device, images) = (model.device(), probe.images.min(COMPARED));
    let places = Tensor::arange(images * 3 * probe.side * probe.side, (Kind::Float, device));
    // Waves of several lengths, as images have them.
    let waves = (&places * 0.37).sin() + (&places * 0.011).sin() + (&places * 0.000_7).sin();
    let bytes = ((waves + 3.0) * 42.0).to_kind(Kind::Uint8).view([images, 3, probe.side, probe.side]);
    let pass = Pass::new(model, None);
    let tape = pass.forward(Some(&bytes)).map_err(Failure::run)?;
    let features = tape.features().map(Tensor::shallow_clone).unwrap_or_default();
    let value = features.detach().to_kind(Kind::Double);
    if features.requires_grad() {
        let weights = Tensor::arange(features.numel() as i64, (features.kind(), device)) * 0.7;
        (&features * weights.sin().view_as(&features)).sum(features.kind()).backward();
        pass.backward(tape, &mut |_| Ok(())).map_err(Failure::run)?;
    }
    let mut flat = model.trainables().gradient();
    let gradient = flat.to_kind(Kind::Double);
    let gradient = if gradient.data_ptr() == flat.data_ptr() { gradient.copy() } else { gradient };
    let _ = no_grad(|| flat.zero_());
    Ok([value, gradient])
}

fn relative_error(found: &Tensor, exact: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let (away, size) = (norm(&(found - exact)), norm(exact));
    if size > 0.0 { away / size } else { 0.0 }
}

/// Seconds of the products of the first block with frozen layers: each layer on all tokens, and the gradient of its input.
fn seconds(model: &Model, probe: Probe) -> f64 {
    let (tower, kind, device) = (model.tower(), model.precision().compute, model.device());
    let rows = probe.images * model.tokens_in_blocks();
    let layers = (0..tower.shape().layers).map(|block| tower.block_layers(block));
    let is_frozen =
        |layers: &[&crate::model::layers::Linear; 4]| layers.iter().any(|l| !l.weight.requires_grad());
    let Some(layers) = layers.into_iter().find(is_frozen) else { return 0.0 };
    let numbers = |columns: i64| {
        let places = Tensor::arange(rows * columns, (Kind::Float, device));
        (places * 0.37).sin().to_kind(kind).view([rows, columns])
    };
    let inputs: Vec<(Tensor, Tensor)> = layers
        .iter()
        .map(|layer| (numbers(layer.weight.size()[1]), numbers(layer.weight.size()[0])))
        .collect();
    let once = || {
        for (layer, (x, gradient)) in layers.iter().zip(&inputs) {
            let _ = layer.forward(x);
            let _ = gradient.matmul(&layer.weight.to_kind(kind));
        }
    };
    no_grad(|| {
        once();
        seconds_of_pass(device, (TIMES, PASSES), once)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    #[test]
    fn fp8_must_be_faster_and_as_accurate_as_its_format() {
        let found = Found {
            seconds: [1.0, 0.8],
            features: [0.002, 0.03],
            gradient: [0.003, 0.04],
            kind: Kind::BFloat16,
        };
        assert!(found.is_fp8_better());
        assert!(!Found { seconds: [1.0, 0.96], ..found }.is_fp8_better());
        assert!(!Found { features: [0.002, 0.065], ..found }.is_fp8_better());
        assert!(!Found { gradient: [0.003, 0.097], ..found }.is_fp8_better());
        assert!(!Found { gradient: [0.01, 0.11], ..found }.is_fp8_better());
        assert!(Found { kind: Kind::Half, features: [0.000_5, 0.06], ..found }.is_fp8_better());
    }

    #[test]
    fn fp8_is_refused_on_the_cpu_and_beside_other_precisions() {
        let fp8 = ["train.frozen_products=fp8", "train.precision=bf16"];
        let error = check(&config(&fp8), Device::Cpu, SessionPurpose::Train).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.frozen_products = \"fp8\"` needs a GPU of compute capability 8.9 or later, and this rank computes on the CPU\nhint: set train.frozen_products=compute; if the run resumes, allow it with --allow-changed train.frozen_products"
        );
        assert_eq!(check(&config(&fp8), Device::Cpu, SessionPurpose::Evaluate), Ok(()));
        let error = check(&config(&["train.frozen_products=auto"]), Device::Cuda(0), SessionPurpose::Train)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.frozen_products = \"auto\"` needs `train.precision` to be bf16 or fp16, found fp32\nhint: set train.precision=bf16, or train.frozen_products=compute"
        );
        let text = FrozenProductsError::Refused("no".to_owned()).to_string();
        assert!(
            text.contains("libtorch refuses a product: no\nhint: set train.frozen_products=compute"),
            "{text}"
        );
        for error in [FrozenProductsError::Sharded, FrozenProductsError::NothingFrozen] {
            assert!(error.to_string().contains("train.frozen_products=compute"));
        }
    }
}

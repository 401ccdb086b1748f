//! Arbitrary fine-tuning (paper, section 4.4): a random share of the weights and biases of the blocks' linear layers.
//!
//! Which elements these are follows from `tuner.mask_seed` by the generator of the official code: a permutation of the
//! elements of each layer in turn, of which the first ones are taken. An element is a place in `[out, in + 1]`, whose last
//! column is the bias. The official code keeps no record of them; here they are saved with the trained values.

use super::{Attached, MakeTuner, ParameterNames, Tuner, TunerContext};
use crate::model::layers::Linear;
use crate::model::precision::Precision;
use crate::model::tower::{Field, LinearSite, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Declared, Method, section};
use crate::weights::trained::MASK_PREFIX;
use std::ops::Range;
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

section! {
    /// Arbitrary fine-tuning.
    pub struct MaskedOptions in "tuner" {
        /// Fraction of the elements that are trained; 0 uses LIFT's rule. The rule is classes / (12 layers width),
        /// rounded down to a multiple of 0.001, and at least 0.001.
        #[range(0.0..=1.0)]
        pub mask_ratio: f64 = 0.0,
        /// Seed of the random mask.
        #[range(..=i64::MAX as u64)]
        pub mask_seed: u64 = 0,
    }
}

/// Arbitrary fine-tuning.
pub const METHOD: Method<MakeTuner> = Method {
    word: "masked",
    about: "A random fraction of the weights and biases of the blocks.",
    official: &["mask"],
    options: &[&MaskedOptions::SECTION],
    make: |values, site| {
        let options: MaskedOptions = values.read();
        let masks = Mask::all(&site.shape, site.blocks.clone(), options.ratio(site), options.mask_seed);
        Box::new(Masked { first: site.blocks.start, masks })
    },
};

/// Name of a layer in official checkpoints.
const fn name(site: LinearSite) -> &'static str {
    match site {
        LinearSite::Qkv => "attn_in",
        LinearSite::Proj => "attn_out",
        LinearSite::Fc1 => "mlp_in",
        LinearSite::Fc2 => "mlp_out",
    }
}

impl MaskedOptions {
    /// The share of the elements; the rule compares the parameters of a classifier's width with those of the blocks.
    fn ratio(&self, site: &TunerContext) -> f64 {
        const STEP: f64 = 0.001;
        if self.mask_ratio > 0.0 {
            return self.mask_ratio;
        }
        let TowerShape { width, layers, .. } = site.shape;
        let share = site.classes as f64 / (12 * layers as i64 * width) as f64;
        (floor_of_quotient(share, STEP) * STEP).max(STEP)
    }
}

/// `floor(x / y)` as Python computes it, which for an exact multiple may be one less.
fn floor_of_quotient(x: f64, y: f64) -> f64 {
    let quotient = (x - x % y) / y;
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

/// The trained elements of one layer: rising places in its flattened weight and in its bias.
#[derive(Debug)]
struct Mask {
    weight: Tensor,
    bias: Tensor,
}

impl Mask {
    /// Those of all linear layers of the blocks, in the order of computation.
    fn all(shape: &TowerShape, layers: Range<usize>, ratio: f64, seed: u64) -> Vec<[Self; 4]> {
        // libtorch's own generator, for the places of the official code. The process has one, and nothing else draws from it.
        static GENERATOR: Mutex<()> = Mutex::new(());
        let _alone = GENERATOR.lock();
        tch::manual_seed(seed as i64);
        let of_layer = |site: LinearSite| {
            let (inputs, outputs) = site.sizes(shape);
            Self::draw(inputs, outputs, ratio)
        };
        layers.map(|_| LinearSite::ALL.map(of_layer)).collect()
    }

    fn draw(inputs: i64, outputs: i64, ratio: f64) -> Self {
        let all = outputs * (inputs + 1);
        let count = (all as f64 * ratio) as i64;
        let drawn = Tensor::randperm(all, (Kind::Int64, Device::Cpu)).narrow(0, 0, count).sort(0, false).0;
        let (row, column) = (drawn.divide_scalar_mode(inputs + 1, "floor"), drawn.remainder(inputs + 1));
        let is_bias = column.eq(inputs);
        let weight = (&row * inputs + column).masked_select(&is_bias.logical_not());
        Self { weight, bias: row.masked_select(&is_bias) }
    }
}

#[derive(Debug)]
struct Masked {
    first: usize,
    masks: Vec<[Mask; 4]>,
}

const LIST: ParameterNames = ParameterNames("masked_linear_list");

impl Masked {
    fn of_block(&self, block: usize) -> impl Iterator<Item = (LinearSite, &Mask)> {
        LinearSite::ALL.into_iter().zip(&self.masks[block - self.first])
    }
}

impl Tuner for Masked {
    fn parameters(&self, block: usize, values: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let of_layer = |(site, mask): (LinearSite, &Mask)| {
            let (weight, bias) = site.fields();
            let spec = |what: &str, field, places: &Tensor| {
                let tensor = values(field).flatten(0, -1);
                let value = tensor.index_select(0, &places.to_device(tensor.device()));
                let name = format!("{}.optimized_{what}", name(site));
                LIST.spec(block, &name, &[places.numel() as i64], Init::Value(value))
            };
            [spec("weight", weight, &mask.weight), spec("bias", bias, &mask.bias)]
        };
        self.of_block(block).flat_map(of_layer).collect()
    }

    fn attach(&self, block: usize, trainables: &Trainables, _: Precision) -> Attached {
        let get = |site, what: &str| LIST.get(trainables, block, &format!("{}.optimized_{what}", name(site)));
        let mut layers = Vec::new();
        for (site, mask) in self.of_block(block) {
            let pair = |what: &str, places: &Tensor| -> Result<_, UnknownParameter> {
                let values = get(site, what)?;
                Ok((places.to_device(values.device()), values))
            };
            layers.push((site, pair("weight", &mask.weight)?, pair("bias", &mask.bias)?));
        }
        Ok(Some(Box::new(Module { layers })))
    }

    fn constants(&self) -> Vec<(String, Tensor)> {
        let of_layer = |(block, masks): (usize, &[Mask; 4])| {
            let named = |(site, mask): (LinearSite, &Mask)| {
                let name = |what: &str| format!("{MASK_PREFIX}{}.{block}.{}.{what}", LIST.0, name(site));
                [(name("weight"), mask.weight.shallow_clone()), (name("bias"), mask.bias.shallow_clone())]
            };
            LinearSite::ALL.into_iter().zip(masks).flat_map(named).collect::<Vec<_>>()
        };
        (self.first..).zip(&self.masks).flat_map(of_layer).collect()
    }
}

/// Places and values.
type Elements = (Tensor, Tensor);

#[derive(Debug)]
struct Module {
    layers: Vec<(LinearSite, Elements, Elements)>,
}

impl UnitTuner for Module {
    fn is_homogeneous(&self) -> bool {
        true
    }

    fn replace(&self, site: LinearSite, frozen: &Linear) -> Option<Linear> {
        let (_, weight, bias) = self.layers.iter().find(|(its, ..)| *its == site)?;
        Some(frozen.with(put(&frozen.weight, weight), put(&frozen.bias, bias)))
    }
}

fn put(frozen: &Tensor, (places, values): &Elements) -> Tensor {
    if places.numel() == 0 {
        return frozen.shallow_clone();
    }
    let changed = frozen.flatten(0, -1).index_copy(0, places, &values.to_kind(frozen.kind()));
    changed.view(frozen.size().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotient_is_pythons() {
        // As `x // 0.001` in Python.
        for (x, floor) in [(0.003, 3.0), (0.007, 7.0), (0.0029, 2.0), (0.006, 6.0), (0.009, 8.0)] {
            assert_eq!(floor_of_quotient(x, 0.001), floor, "{x}");
        }
    }

    #[test]
    fn a_mask_takes_its_share_and_no_element_twice() {
        tch::manual_seed(5);
        let mask = Mask::draw(7, 5, 0.5);
        assert_eq!(mask.weight.numel() + mask.bias.numel(), 20);
        let weight = Vec::<i64>::try_from(&mask.weight).unwrap();
        assert!(weight.is_sorted_by(|a, b| a < b) && weight.iter().all(|&place| place < 35));
        assert!(Vec::<i64>::try_from(&mask.bias).unwrap().iter().all(|&place| place < 5));
    }
}

//! LoRA (Hu et al., 2022, section 4.1): `W x + B A x / r` in place of `W x`, for queries and values or for both layers of the
//! MLP.
//!
//! As the official code has it: the factors are stored transposed, `A` as `[in, r]` and `B` as `[r, out]`; `A` starts
//! uniform in `+-1/sqrt(r)`, because that code takes `r` for the fan-in; `B` starts at zero; the factor is `1/r`.

use super::bottleneck::BottleneckOptions;
use super::{Attached, MakeTuner, ParameterNames, Tuner};
use crate::model::precision::Precision;
use crate::model::tower::{Field, LinearSite, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Declared, Method};
use std::ops::Range;
use tch::{Kind, Tensor};

/// LoRA of attention.
pub const ATTENTION: Method<MakeTuner> = Method {
    word: "lora",
    about: "Low-rank updates of the queries and values (LoRA).",
    official: &["lora"],
    options: &[&BottleneckOptions::SECTION],
    make: |values, site| {
        let width = site.shape.width;
        let part = |name, columns| LoraFactors { name, site: LinearSite::Qkv, columns };
        let parts = vec![part("q", 0..width), part("v", 2 * width..3 * width)];
        let (list, dim) = (ParameterNames("lora_list"), values.read::<BottleneckOptions>().width(site));
        Box::new(Lora { list, shape: site.shape, dim, parts })
    },
};

/// LoRA of the MLP.
pub const MLP: Method<MakeTuner> = Method {
    word: "lora_mlp",
    about: "Low-rank updates of both layers of the MLP (LoRA).",
    official: &["lora_mlp"],
    options: &[&BottleneckOptions::SECTION],
    make: |values, site| {
        let TowerShape { width, hidden, .. } = site.shape;
        let first = LoraFactors { name: "1", site: LinearSite::Fc1, columns: 0..hidden };
        let second = LoraFactors { name: "2", site: LinearSite::Fc2, columns: 0..width };
        let (list, dim) = (ParameterNames("lora_mlp_list"), values.read::<BottleneckOptions>().width(site));
        Box::new(Lora { list, shape: site.shape, dim, parts: vec![first, second] })
    },
};

/// One pair of factors: which outputs of which layer it changes.
#[derive(Debug, Clone)]
struct LoraFactors {
    name: &'static str,
    site: LinearSite,
    columns: Range<i64>,
}

#[derive(Debug)]
struct Lora {
    list: ParameterNames,
    shape: TowerShape,
    dim: i64,
    parts: Vec<LoraFactors>,
}

impl Tuner for Lora {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let bound = 1.0 / (self.dim as f64).sqrt();
        let of_part = |part: &LoraFactors| {
            let (inputs, _) = part.site.sizes(&self.shape);
            let outputs = part.columns.end - part.columns.start;
            let spec = |factor: &str, shape: &[i64], init| {
                self.list.spec(block, &format!("{}.lora_{factor}", part.name), shape, init)
            };
            [
                spec("A", &[inputs, self.dim], Init::Uniform { bound }),
                spec("B", &[self.dim, outputs], Init::Zeros),
            ]
        };
        self.parts.iter().flat_map(of_part).collect()
    }

    fn attach(&self, block: usize, trainables: &Trainables, precision: Precision) -> Attached {
        let get = |part: &LoraFactors, factor: &str| {
            self.list.get(trainables, block, &format!("{}.lora_{factor}", part.name))
        };
        let factors = self.parts.iter().map(|part| Ok((part.clone(), get(part, "A")?, get(part, "B")?)));
        let factors = factors.collect::<Result<Vec<_>, UnknownParameter>>()?;
        Ok(Some(Box::new(Module { factors, compute: precision.compute, scale: 1.0 / self.dim as f64 })))
    }
}

#[derive(Debug)]
struct Module {
    factors: Vec<(LoraFactors, Tensor, Tensor)>,
    compute: Kind,
    scale: f64,
}

impl UnitTuner for Module {
    fn is_homogeneous(&self) -> bool {
        true
    }

    /// All factors of a layer in two products: those of `A` side by side, those of `B` below each other, with zeros
    /// where a factor changes nothing.
    fn linear(&self, site: LinearSite, x: &Tensor, columns: &Range<i64>, y: Tensor) -> Tensor {
        let acting = self.factors.iter().filter(|(part, ..)| {
            part.site == site && part.columns.start < columns.end && columns.start < part.columns.end
        });
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for (part, a, b) in acting {
            let (start, end) = (part.columns.start.max(columns.start), part.columns.end.min(columns.end));
            let b = b.narrow(1, start - part.columns.start, end - start).to_kind(self.compute);
            down.push(a.to_kind(self.compute));
            up.push(b.constant_pad_nd([start - columns.start, columns.end - end]));
        }
        if down.is_empty() {
            return y;
        }
        let low = x.to_kind(self.compute).matmul(&Tensor::cat(&down, 1));
        y + low.matmul(&Tensor::cat(&up, 0)) * self.scale
    }
}

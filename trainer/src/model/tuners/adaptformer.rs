//! AdaptFormer (Chen et al., 2022, section 3.2), the module that LIFT trains beside each block's MLP.
//!
//! `scale * (relu(norm(x) D^T + d) U^T + u)` is added to the block's output, of the hidden state `x` that the MLP's norm
//! reads. `U` and the biases start at zero, so an untrained module changes nothing. The official code has an option
//! for the scale that it reads nowhere: the scale is always learnt.

use super::bottleneck::{Bottleneck, BottleneckOptions};
use super::{Attached, MakeTuner, ParameterNames, Tuner, TunerModule};
use crate::model::graph::BlockGraph;
use crate::model::precision::Precision;
use crate::model::tower::{Field, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables};
use crate::options::{Declared, Method};
use tch::Tensor;

/// AdaptFormer.
pub const METHOD: Method<MakeTuner> = Method {
    word: "adaptformer",
    about: "A bottleneck parallel to the MLP of each block (LIFT).",
    official: &["adaptformer"],
    options: &[&BottleneckOptions::SECTION],
    make: |values, site| {
        Box::new(AdaptFormer { width: site.shape.width, dim: values.read::<BottleneckOptions>().width(site) })
    },
};

#[derive(Debug)]
struct AdaptFormer {
    width: i64,
    dim: i64,
}

/// Trained numbers of one block's module.
pub fn adaptformer_numbers(width: i64, dim: i64) -> u64 {
    let specs = AdaptFormer { width, dim }.parameters(0, &|_| Tensor::new());
    specs.iter().map(|spec| spec.shape.iter().product::<i64>() as u64).sum()
}

#[derive(Debug)]
struct Module {
    bottleneck: Bottleneck,
    scale: Tensor,
}

const LIST: ParameterNames = ParameterNames("adaptformer_list");

impl Tuner for AdaptFormer {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let scale = LIST.spec(block, "scale", &[1], Init::Ones);
        std::iter::once(scale).chain(Bottleneck::specs(LIST, block, self.width, self.dim)).collect()
    }

    fn attach(&self, block: usize, trainables: &Trainables, precision: Precision) -> Attached {
        let scale = LIST.get(trainables, block, "scale")?;
        let bottleneck = Bottleneck::new(LIST, block, trainables, precision)?;
        Ok(Some(Box::new(Module { bottleneck, scale })))
    }
}

impl UnitTuner for Module {
    fn module(&self) -> Option<TunerModule> {
        Some(TunerModule::BesideMlp(self.bottleneck.tensors(Some(&self.scale))))
    }

    fn is_homogeneous(&self) -> bool {
        true
    }

    fn beside_mlp(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Option<Tensor> {
        Some(self.bottleneck.forward_times(x, &self.scale, graph))
    }
}

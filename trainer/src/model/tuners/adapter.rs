//! Adapter (Houlsby et al., 2019), after the MLP of each block: `y + relu(norm(y) D^T + d) U^T + u`, of the MLP's output `y`.
//!
//! `U` and the biases start at zero, so an untrained module changes nothing.

use super::bottleneck::{Bottleneck, BottleneckOptions};
use super::{Attached, MakeTuner, ParameterNames, Tuner, TunerModule};
use crate::model::graph::BlockGraph;
use crate::model::precision::Precision;
use crate::model::tower::{Field, UnitTuner};
use crate::model::trainables::{ParameterSpec, Trainables};
use crate::options::{Declared, Method};
use tch::Tensor;

/// The adapter.
pub const METHOD: Method<MakeTuner> = Method {
    word: "adapter",
    about: "A bottleneck after the MLP of each block.",
    official: &["adapter"],
    options: &[&BottleneckOptions::SECTION],
    make: |values, site| {
        Box::new(Adapter { width: site.shape.width, dim: values.read::<BottleneckOptions>().width(site) })
    },
};

#[derive(Debug)]
struct Adapter {
    width: i64,
    dim: i64,
}

#[derive(Debug)]
struct Module(Bottleneck);

const LIST: ParameterNames = ParameterNames("adapter_list");

impl Tuner for Adapter {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        Bottleneck::specs(LIST, block, self.width, self.dim)
    }

    fn attach(&self, block: usize, trainables: &Trainables, precision: Precision) -> Attached {
        Ok(Some(Box::new(Module(Bottleneck::new(LIST, block, trainables, precision)?))))
    }
}

impl UnitTuner for Module {
    fn module(&self) -> Option<TunerModule> {
        Some(TunerModule::AfterMlp(self.0.tensors(None)))
    }

    fn mlp(&self, y: Tensor, graph: Option<&BlockGraph>) -> Tensor {
        let added = self.0.forward(&y.to_kind(self.0.kind()), graph);
        y + added
    }
}

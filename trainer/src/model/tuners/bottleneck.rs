//! The bottleneck that adapters are made of: `relu(norm(x) D^T + d) U^T + u`.

use super::{BottleneckTensors, ParameterNames, TunerContext};
use crate::model::graph::BlockGraph;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::precision::Precision;
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::section;
use tch::{Kind, Tensor};

section! {
    /// The bottleneck of adapters and of LoRA.
    pub struct BottleneckOptions in "tuner" {
        /// Bottleneck width of adapters and rank of LoRA; 0 uses LIFT's rule. The rule is
        /// 2^max(0, floor(log2(classes / (2 layers)))).
        #[range(..=1 << 20)]
        pub adapter_dim: u32 = 0,
    }
}

/// One bottleneck, in a tower of width `w` and of inner width `r`.
#[derive(Debug)]
pub(super) struct Bottleneck {
    norm: LayerNorm,
    down: Linear,
    up: Linear,
}

/// Epsilon of the module's own norm, whatever the backbone's.
const NORM_EPS: f64 = 1e-5;

impl Bottleneck {
    /// Its trainable tensors. `U` and the biases start at zero.
    pub(super) fn specs(list: ParameterNames, block: usize, width: i64, dim: i64) -> Vec<ParameterSpec> {
        // Kaiming normal with the slope sqrt(5) that the official code passes: variance 1 / (3 width).
        let std = 1.0 / (3.0 * width as f64).sqrt();
        let spec = |name, shape: &[i64], init| list.spec(block, name, shape, init);
        vec![
            spec("ln.weight", &[width], Init::Ones),
            spec("ln.bias", &[width], Init::Zeros),
            spec("down_proj.weight", &[dim, width], Init::Normal { mean: 0.0, std }),
            spec("down_proj.bias", &[dim], Init::Zeros),
            spec("up_proj.weight", &[width, dim], Init::Zeros),
            spec("up_proj.bias", &[width], Init::Zeros),
        ]
    }

    /// The module over the tensors named in [`specs`](Self::specs).
    pub(super) fn new(
        list: ParameterNames,
        block: usize,
        trainables: &Trainables,
        precision: Precision,
    ) -> Result<Self, UnknownParameter> {
        let get = |name: &str| list.get(trainables, block, name);
        Ok(Self {
            norm: LayerNorm::new(get("ln.weight")?, get("ln.bias")?, NORM_EPS),
            down: Linear::new(get("down_proj.weight")?, get("down_proj.bias")?, precision),
            up: Linear::new(get("up_proj.weight")?, get("up_proj.bias")?, precision),
        })
    }

    /// Its tensors, with its output multiplied by `scale`.
    pub(super) fn tensors(&self, scale: Option<&Tensor>) -> BottleneckTensors {
        let pair = |layer: &Linear| (layer.weight.detach(), layer.bias.detach());
        let (weight, bias) = pair(&self.up);
        let up = match scale {
            Some(scale) => (weight * scale.detach(), bias * scale.detach()),
            None => (weight, bias),
        };
        let norm = (self.norm.weight.detach(), self.norm.bias.detach());
        BottleneckTensors { norm, epsilon: NORM_EPS, down: pair(&self.down), up }
    }

    /// The kind that it reads.
    pub(super) fn kind(&self) -> Kind {
        self.norm.weight.kind()
    }

    /// `[..., w] -> [..., w]`.
    pub(super) fn forward(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        self.into(&self.up, x, graph)
    }

    /// The same times a factor of one number, which the last layer takes up.
    pub(super) fn forward_times(&self, x: &Tensor, factor: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        self.into(&self.up.with(&self.up.weight * factor, &self.up.bias * factor), x, graph)
    }

    fn into(&self, up: &Linear, x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        up.forward_in(&self.down.forward_in(&self.norm.forward(x), graph).relu(), graph)
    }
}

impl BottleneckOptions {
    /// The inner width (paper, section 4.3). The rule takes all layers of the model, also where fewer are tuned.
    pub(super) fn width(&self, site: &TunerContext) -> i64 {
        match self.adapter_dim {
            0 => auto_adapter_dim(site.classes, site.shape.layers as u64) as i64,
            dim => i64::from(dim),
        }
    }
}

/// LIFT's rule for the inner width.
pub fn auto_adapter_dim(classes: u64, layers: u64) -> u64 {
    let ratio = classes / layers.saturating_mul(2).max(1);
    ratio.checked_ilog2().map_or(1, |power| 1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_dim_is_that_of_the_published_table() {
        let twelve = [(100, 4), (365, 8), (1000, 32), (8142, 256)];
        for (classes, dim) in twelve {
            assert_eq!(auto_adapter_dim(classes, 12), dim, "{classes} classes");
        }
        assert_eq!(auto_adapter_dim(100, 4), 8);
        assert_eq!(auto_adapter_dim(1, 12), 1);
        assert_eq!(auto_adapter_dim(0, 0), 1);
        assert_eq!(auto_adapter_dim(u64::MAX, u64::MAX), 1);
    }

    #[test]
    fn adapter_dim_follows_the_formula() {
        for layers in 1..40_u64 {
            for classes in 1..2000_u64 {
                let power = (classes as f64 / (2 * layers) as f64).log2().floor().max(0.0);
                assert_eq!(auto_adapter_dim(classes, layers), 2_u64.pow(power as u32), "{classes} {layers}");
            }
        }
    }
}

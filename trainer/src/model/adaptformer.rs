//! AdaptFormer (Chen et al., 2022), the module that LIFT trains beside each block's MLP.
//!
//! `scale * (relu(norm(x) D^T + d) U^T + u)`, added to the block's output. `U` and the biases start at
//! zero, so an untrained module changes nothing.

use super::layers::{LayerNorm, Linear};
use super::precision::Precision;
use super::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use tch::Tensor;

/// One module, of a block of width `w` and a bottleneck of `r`.
#[derive(Debug)]
pub struct AdaptFormer {
    norm: LayerNorm,
    down: Linear,
    up: Linear,
    scale: Tensor,
}

/// Epsilon of the module's own norm, whatever the backbone's.
const NORM_EPS: f64 = 1e-5;

impl AdaptFormer {
    /// Its trainable tensors, under the names that official checkpoints use.
    pub fn specs(prefix: &str, width: i64, dim: i64) -> Vec<ParameterSpec> {
        // Kaiming normal with the slope sqrt(5) that the official code passes: variance 1 / (3 width).
        let std = 1.0 / (3.0 * width as f64).sqrt();
        let spec =
            |name: &str, shape: &[i64], init| ParameterSpec::new(format!("{prefix}.{name}"), shape, init);
        vec![
            spec("scale", &[1], Init::Ones),
            spec("ln.weight", &[width], Init::Ones),
            spec("ln.bias", &[width], Init::Zeros),
            spec("down_proj.weight", &[dim, width], Init::Normal { std }),
            spec("down_proj.bias", &[dim], Init::Zeros),
            spec("up_proj.weight", &[width, dim], Init::Zeros),
            spec("up_proj.bias", &[width], Init::Zeros),
        ]
    }

    /// The module over the tensors named in [`specs`](Self::specs).
    pub fn new(
        prefix: &str,
        trainables: &Trainables,
        precision: Precision,
    ) -> Result<Self, UnknownParameter> {
        let get = |name: &str| trainables.get(&format!("{prefix}.{name}"));
        Ok(Self {
            norm: LayerNorm::new(get("ln.weight")?, get("ln.bias")?, NORM_EPS),
            down: Linear::new(get("down_proj.weight")?, get("down_proj.bias")?, precision),
            up: Linear::new(get("up_proj.weight")?, get("up_proj.bias")?, precision),
            scale: get("scale")?,
        })
    }

    /// `[..., w] -> [..., w]`, to be added to the block's output.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.down.forward(&self.norm.forward(x)).relu();
        self.up.forward(&hidden) * &self.scale
    }
}

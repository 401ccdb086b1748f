//! SGD with momentum in one pass over its tensors.

use super::dispatcher::{Refused, Value, call};
use tch::{Tensor, no_grad};

/// Hyper-parameters of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// `b <- m b + (g + d p)`, `p <- p - r b` for parameters `p`, gradients `g` and momentum `b`, in place.
pub fn fused_sgd(values: &Tensor, gradient: &Tensor, buffer: &Tensor, step: SgdStep) -> Result<(), Refused> {
    let arguments = [
        Value::Tensors(&[values]),
        Value::Tensors(&[gradient]),
        Value::Tensors(&[buffer]),
        Value::Float(step.weight_decay),
        Value::Float(step.momentum),
        Value::Float(step.rate),
        Value::Float(0.0),
        Value::Bool(false),
        Value::Bool(false),
        Value::Bool(false),
        Value::None,
        Value::None,
    ];
    no_grad(|| call("fused_sgd", c"aten::_fused_sgd_", c"", &arguments)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn it_is_the_rule_of_sgd_with_momentum() {
        let numbers = |factor: f64| (Tensor::arange(1000, (Kind::Double, Device::Cpu)) * factor).sin();
        let (values, gradient, buffer) = (numbers(0.3), numbers(0.7), numbers(1.1));
        let step = SgdStep { rate: 0.05, momentum: 0.9, weight_decay: 1e-3 };
        let momentum = &buffer * 0.9 + (&gradient + &values * 1e-3);
        let moved = &values - &momentum * 0.05;
        fused_sgd(&values, &gradient, &buffer, step).unwrap();
        for (found, expected) in [(&values, moved), (&buffer, momentum)] {
            assert!((found - expected).abs().max().double_value(&[]) < 1e-15);
        }
    }
}

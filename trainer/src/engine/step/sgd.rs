//! SGD with momentum and weight decay, on the flat buffer.

use crate::aten::{SgdStep, fused_sgd};
use tch::{Tensor, no_grad};

/// `b <- m b + (g + d p)`, `p <- p - lr b`: `torch.optim.SGD` without Nesterov or dampening. Weight decay
/// acts on every trainable tensor, as in the official code.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    buffer: Tensor,
}

impl Sgd {
    /// For parameters laid out as `flat`.
    pub fn new(flat: &Tensor, momentum: f64, weight_decay: f64) -> Self {
        Self { momentum, weight_decay, buffer: flat.zeros_like() }
    }

    /// One step with the mean gradient.
    pub fn step(&mut self, flat: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        let Self { momentum, weight_decay, ref buffer } = *self;
        let step = SgdStep { rate: learning_rate, momentum, weight_decay };
        if fused_sgd(flat, gradient, buffer, step).is_err() {
            self.step_plainly(flat, gradient, learning_rate);
        }
    }

    /// The same in several passes, for a device without the fused operation.
    fn step_plainly(&mut self, flat: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        no_grad(|| {
            let _ = self.buffer.g_mul_scalar_(self.momentum);
            let _ = self.buffer.g_add_(gradient);
            let _ = self.buffer.g_add_(&(&*flat * self.weight_decay));
            let _ = flat.g_add_(&(&self.buffer * -learning_rate));
        });
    }

    /// The momentum buffer, laid out as the parameters.
    pub fn buffer(&self) -> &Tensor {
        &self.buffer
    }
}

//! The kernels beside libtorch's operations: the same numbers, and how long both take.

use crate::aten::backward_from;
use crate::engine::gpu::timing::seconds_of_pass;
use crate::model::gpu_kernels::{GpuKernels, RowTypes};
use crate::model::graph::BlockGraph;
use crate::model::layers::{LayerNorm, QUICK_GELU};
use tch::{Kind, Tensor};

/// Number of measurements, of which the fastest counts.
const TIMES: usize = 3;
const EPSILON: f64 = 1e-5;

/// A number in which a kernel differs from libtorch.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) kernel: &'static str,
    pub(super) what: &'static str,
    pub(super) found: f64,
    pub(super) expected: f64,
    pub(super) allowed: f64,
}

/// Seconds of forward and backward pass.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) operation: &'static str,
    pub(super) own: f64,
    pub(super) libtorch: f64,
}

/// Compares the kernels with libtorch in so many rows.
pub(super) fn run(kernels: &GpuKernels, rows: i64) -> Result<Vec<Timing>, Difference> {
    let inputs = Inputs::new(kernels, rows.max(1));
    let cases: [(_, _, &dyn Fn(bool) -> Vec<Named>); 2] = [
        ("norm", "layer_norm_cast", &|own| inputs.norm(own)),
        ("residual sums with norm", "residual_layer_norm", &|own| inputs.residual(own)),
    ];
    let mut timings = Vec::new();
    for (operation, kernel, results) in cases {
        let (own, libtorch) = (results(true), results(false));
        for (found, expected) in own.iter().zip(&libtorch) {
            compared(kernel, found, expected, inputs.tolerance())?;
        }
        drop((own, libtorch));
        let [own, libtorch] =
            [true, false].map(|own| seconds_of_pass(kernels.device(), (TIMES, 1), || drop(results(own))));
        timings.push(Timing { operation, own, libtorch });
    }
    Ok(timings)
}

/// A result with its name in messages.
struct Named(&'static str, Tensor);

/// One waits for the device.
fn compared(
    kernel: &'static str,
    Named(what, found): &Named,
    Named(_, expected): &Named,
    tolerance: f64,
) -> Result<(), Difference> {
    let [found, expected] = [found, expected].map(|values| values.to_kind(Kind::Float).flatten(0, -1));
    // What is not a number counts as the greatest difference.
    let away = (&found - &expected).abs().nan_to_num(f64::MAX, None, None) / (expected.abs() + 1.0);
    let worst = away.argmax(None, false).int64_value(&[]);
    if away.double_value(&[worst]) <= tolerance {
        return Ok(());
    }
    let (found, expected) = (found.double_value(&[worst]), expected.double_value(&[worst]));
    Err(Difference { kernel, what, found, expected, allowed: tolerance * (1.0 + expected.abs()) })
}

/// Numbers of the size that a tower has, the same in every run.
struct Inputs<'a> {
    kernels: &'a GpuKernels,
    norm: LayerNorm,
    x: Tensor,
    y: Tensor,
    beside: Tensor,
    gradients: [Tensor; 2],
}

impl<'a> Inputs<'a> {
    fn new(kernels: &'a GpuKernels, rows: i64) -> Self {
        let (RowTypes { stream, compute, width }, device) = (kernels.types(), kernels.device());
        let numbers = |shape: &[i64], factor: f64| {
            let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, device));
            (places * factor).sin().view(shape)
        };
        let matrix = |factor, kind| numbers(&[rows, width], factor).to_kind(kind);
        let weight = numbers(&[width], 0.61) * 0.5 + 1.0;
        Self {
            kernels,
            norm: LayerNorm::new(weight, numbers(&[width], 0.83) * 0.1, EPSILON),
            x: matrix(0.37, stream) * 3.0,
            y: matrix(0.53, compute),
            beside: matrix(0.71, compute),
            gradients: [matrix(0.29, compute), matrix(0.47, stream)],
        }
    }

    /// The most by which results may differ, in parts of `1 + |x|`: a few units in the last place of the coarsest type.
    fn tolerance(&self) -> f64 {
        let RowTypes { stream, compute, .. } = self.kernels.types();
        if [stream, compute].contains(&Kind::BFloat16) {
            4e-2
        } else if compute == Kind::Half {
            5e-3
        } else {
            1e-4
        }
    }

    /// The norm and its backward pass.
    fn norm(&self, own: bool) -> Vec<Named> {
        let (x, graph) = (leaf(&self.x), BlockGraph::default());
        let by_kernel = || self.kernels.layer_norm(&x, self.norm.times(QUICK_GELU), Some(&graph));
        let output = if own { by_kernel() } else { None }.unwrap_or_else(|| self.libtorch_norm(&x));
        pass_back(own, graph, &output, &self.gradients[0]);
        vec![Named("the output", output.detach()), Named("the gradient", x.grad())]
    }

    /// `s = x + y`, then `s + norm(s) / c` and something beside it, as a block without products; and its backward pass.
    fn residual(&self, own: bool) -> Vec<Named> {
        let [x, y, beside] = [&self.x, &self.y, &self.beside].map(leaf);
        let (graph, factor) = (BlockGraph::default(), 1.0 / QUICK_GELU);
        let by_kernels = || {
            let norm = self.norm.times(QUICK_GELU);
            let (sum, normed) = self.kernels.residual_layer_norm(&x, &y, norm, Some(&graph))?;
            self.kernels.residual_sum(&sum, &normed, factor, &[beside.shallow_clone()], Some(&graph))
        };
        let by_libtorch = || {
            let sum = (&x + &y).to_kind(x.kind());
            let normed = self.libtorch_norm(&sum);
            (&sum + normed * factor + &beside).to_kind(x.kind())
        };
        let output = if own { by_kernels() } else { None }.unwrap_or_else(by_libtorch);
        pass_back(own, graph, &output, &self.gradients[1]);
        let gradient = |what, of: &Tensor| Named(what, of.grad());
        vec![
            Named("the output", output.detach()),
            gradient("the gradient of the residual stream", &x),
            gradient("the gradient of the addition", &y),
            gradient("the gradient beside", &beside),
        ]
    }

    fn libtorch_norm(&self, x: &Tensor) -> Tensor {
        let normed = self.norm.forward_times(&x.to_kind(Kind::Float), QUICK_GELU);
        normed.to_kind(self.kernels.types().compute)
    }
}

/// The backward pass: of the graph with the kernels, or of autograd.
fn pass_back(own: bool, graph: BlockGraph, output: &Tensor, gradient: &Tensor) {
    if own {
        graph.backward(output.shallow_clone(), gradient);
    } else {
        backward_from(output, gradient, false);
    }
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

//! The operations of the kernels on tensors, and their backward passes as cuts of a block's graph.
//!
//! Each is `None` where no kernel serves, so that the caller has libtorch's way: another element type or width, a trained
//! norm, or a backward pass that autograd has to record.

use super::{GpuKernels, RowTypes, address, address_or_null, ready};
use crate::cuda::Argument::{Float, Int};
use crate::model::graph::BlockGraph;
use crate::model::layers::LayerNorm;
use std::cell::RefCell;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// A frozen norm, with its output times a factor.
#[derive(Debug, Clone, Copy)]
pub struct ScaledNorm<'a> {
    pub(in crate::model) norm: &'a LayerNorm,
    pub(in crate::model) factor: f64,
}

impl GpuKernels {
    /// `norm(x)` in the type of matrix products.
    pub fn layer_norm(&self, x: &Tensor, norm: ScaledNorm<'_>, graph: Option<&BlockGraph>) -> Option<Tensor> {
        let recorded = x.requires_grad();
        if !self.serves(x, self.types.stream) || !self.is_norm(norm) || (recorded && graph.is_none()) {
            return None;
        }
        let (kernels, rows, factor) = (*self, self.rows(x), norm.factor);
        let (read, weight, bias) = (ready(x), ready(&norm.norm.weight), ready(&norm.norm.bias));
        let (output, kept) = (self.like(x, self.types.compute), self.statistics(rows));
        let arguments = [
            address(&read),
            address(&weight),
            address(&bias),
            address(&output),
            address(&kept),
            Int(rows),
            Float(norm.norm.eps() as f32),
            Float(factor as f32),
        ];
        Self::launch(self.layer_norm[0], rows, &arguments);
        let Some(graph) = graph.filter(|_| recorded) else { return Some(output) };
        Some(graph.cut(x, &output, move |gradient| {
            let (gradient, of_x) = (ready(gradient), kernels.like(&read, kernels.types.stream));
            let arguments = [
                address(&gradient),
                address(&read),
                address(&kept),
                address(&weight),
                address(&of_x),
                Int(rows),
                Float(factor as f32),
            ];
            Self::launch(kernels.layer_norm[1], rows, &arguments);
            Some(of_x)
        }))
    }

    /// The sum `s = x + y`, and `norm(s)` in the type of matrix products. Something must read `s` besides the norm: the gradient of
    /// the norm's output goes on with that of `s`.
    pub fn residual_layer_norm(
        &self,
        x: &Tensor,
        y: &Tensor,
        norm: ScaledNorm<'_>,
        graph: Option<&BlockGraph>,
    ) -> Option<(Tensor, Tensor)> {
        let recorded = x.requires_grad() || y.requires_grad();
        if !self.adds(x, y) || !self.is_norm(norm) || (recorded && graph.is_none()) {
            return None;
        }
        let (rows, factor) = (self.rows(x), norm.factor);
        let (weight, bias) = (ready(&norm.norm.weight), ready(&norm.norm.bias));
        let (sum, output) = (self.like(x, self.types.stream), self.like(x, self.types.compute));
        let (kept, read) = (self.statistics(rows), (ready(x), ready(y)));
        let arguments = [
            address(&read.0),
            address(&read.1),
            address(&weight),
            address(&bias),
            address(&sum),
            address(&output),
            address(&kept),
            Int(rows),
            Float(1.0),
            Float(norm.norm.eps() as f32),
            Float(factor as f32),
        ];
        Self::launch(self.residual_layer_norm[0], rows, &arguments);
        drop(read);
        let Some(graph) = graph.filter(|_| recorded) else { return Some((sum, output)) };
        let backward = ResidualNormBackward { kernels: *self, sum: sum.detach(), kept, weight, factor, rows };
        Some(Self::cut_residual_norm(graph, (x, y), (sum, output), backward))
    }

    /// Two cuts: of the sum from `x` and `y`, and of the norm from the sum. The second one's backward pass comes first and leaves its
    /// gradient to the first one, so that one kernel does both.
    fn cut_residual_norm(
        graph: &BlockGraph,
        (x, y): (&Tensor, &Tensor),
        (sum, output): (Tensor, Tensor),
        backward: ResidualNormBackward,
    ) -> (Tensor, Tensor) {
        let of_norm: Rc<RefCell<Option<Tensor>>> = Rc::default();
        let (left, needs) = (Rc::clone(&of_norm), [x, y].map(Tensor::requires_grad));
        let sum = graph.cut_several(&[x, y], &sum, move |of_sum| {
            let of_norm = left.borrow_mut().take();
            backward.run(of_sum, of_norm.as_ref(), needs)
        });
        let output = graph.cut(&sum, &output, move |gradient| {
            *of_norm.borrow_mut() = Some(gradient.shallow_clone());
            None
        });
        (sum, output)
    }

    /// `x + factor y`, and what is added beside, at most one tensor.
    pub fn residual_sum(
        &self,
        x: &Tensor,
        y: &Tensor,
        factor: f64,
        beside: &[Tensor],
        graph: Option<&BlockGraph>,
    ) -> Option<Tensor> {
        let others = beside.iter().chain([x, y]);
        let recorded = others.clone().any(Tensor::requires_grad);
        let fits = self.adds(x, y) && beside.len() <= 1 && beside.iter().all(|beside| self.adds(x, beside));
        if !fits || (recorded && graph.is_none()) {
            return None;
        }
        let (rows, sum) = (self.rows(x), self.like(x, self.types.stream));
        let (read, added) = ((ready(x), ready(y)), beside.first().map(ready));
        let arguments = [
            address(&read.0),
            address(&read.1),
            address_or_null(added.as_ref()),
            address(&sum),
            Int(rows),
            Float(factor as f32),
        ];
        Self::launch(self.residual_sum[0], rows, &arguments);
        let Some(graph) = graph.filter(|_| recorded) else { return Some(sum) };
        let inputs: Vec<&Tensor> = others.rev().collect();
        let needs: Vec<bool> = inputs.iter().map(|input| input.requires_grad()).collect();
        let kernels = *self;
        Some(graph.cut_several(&inputs, &sum, move |gradient| {
            kernels.residual_sum_backward(gradient, factor, rows, &needs)
        }))
    }

    /// The gradients of `y`, `x` and what was added beside, where they are needed.
    fn residual_sum_backward(
        &self,
        gradient: &Tensor,
        factor: f64,
        rows: i64,
        needs: &[bool],
    ) -> Vec<Option<Tensor>> {
        let RowTypes { stream, compute, .. } = self.types;
        let of_x = gradient.shallow_clone();
        // Where the gradient of an input is that of the sum, it needs no memory of its own.
        let same = |factor: f64| factor == 1.0 && stream == compute;
        let gradient = ready(gradient);
        let new =
            |needed: bool, factor: f64| (needed && !same(factor)).then(|| self.like(&gradient, compute));
        let beside = needs.get(2).copied();
        let (of_y, of_beside) = (new(needs[0], factor), new(beside == Some(true), 1.0));
        if of_y.is_some() || of_beside.is_some() {
            let arguments = [
                address(&gradient),
                address_or_null(of_y.as_ref()),
                address_or_null(of_beside.as_ref()),
                Int(rows),
                Float(factor as f32),
            ];
            Self::launch(self.residual_sum[1], rows, &arguments);
        }
        let or_same = |own: Option<Tensor>, needed: bool| needed.then(|| own.unwrap_or(of_x.shallow_clone()));
        let mut gradients = vec![or_same(of_y, needs[0]), or_same(None, needs[1])];
        gradients.extend(beside.map(|needed| or_same(of_beside, needed)));
        gradients
    }

    /// Whether the kernels add `y` to `x`.
    fn adds(&self, x: &Tensor, y: &Tensor) -> bool {
        self.serves(x, self.types.stream) && self.serves(y, self.types.compute) && x.size() == y.size()
    }

    /// Whether the kernels have this norm: frozen, and in fp32.
    fn is_norm(&self, ScaledNorm { norm, .. }: ScaledNorm<'_>) -> bool {
        !norm.is_trained() && norm.weight.kind() == Kind::Float && norm.weight.device() == self.device
    }

    /// Memory for mean and 1 / standard deviation of rows.
    fn statistics(&self, rows: i64) -> Tensor {
        Tensor::empty([2, rows], (Kind::Float, self.device))
    }
}

/// The backward pass of a sum and its norm.
struct ResidualNormBackward {
    kernels: GpuKernels,
    sum: Tensor,
    kept: Tensor,
    weight: Tensor,
    factor: f64,
    rows: i64,
}

impl ResidualNormBackward {
    /// The gradients of `x` and `y` where they are needed, from that of the sum and that of the norm's output, if there is one.
    fn run(self, of_sum: &Tensor, of_norm: Option<&Tensor>, needs: [bool; 2]) -> Vec<Option<Tensor>> {
        let RowTypes { stream, compute, .. } = self.kernels.types;
        let Some(of_norm) = of_norm else {
            return vec![needs[0].then(|| of_sum.shallow_clone()), needs[1].then(|| of_sum.to_kind(compute))];
        };
        let (of_sum, of_norm) = (ready(of_sum), ready(of_norm));
        // In one type, both gradients are the same numbers.
        let one = stream == compute;
        let of_x = (needs[0] || one).then(|| self.kernels.like(&of_sum, stream));
        let of_y = (needs[1] && !one).then(|| self.kernels.like(&of_sum, compute));
        let arguments = [
            address(&of_sum),
            address(&of_norm),
            address(&self.sum),
            address(&self.kept),
            address(&self.weight),
            address_or_null(of_x.as_ref()),
            address_or_null(of_y.as_ref()),
            Int(self.rows),
            Float(1.0),
            Float(self.factor as f32),
        ];
        GpuKernels::launch(self.kernels.residual_layer_norm[1], self.rows, &arguments);
        let of_y = if one { of_x.as_ref().map(Tensor::shallow_clone) } else { of_y };
        vec![of_x.filter(|_| needs[0]), of_y.filter(|_| needs[1])]
    }
}

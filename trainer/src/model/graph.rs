//! The graph of one block: autograd's, cut where an operation has its own backward pass.
//!
//! autograd records what happens between two cuts. The result of a cut is a leaf, so the passes of its consumers add its
//! gradient there; the graph then calls the backward pass of the operation and goes on from its input. A frozen layer that is
//! cut out keeps nothing but a reference to its weight.

use crate::aten::{Owners, backward_from};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use tch::{Tensor, no_grad};

/// From the gradient of the output to those of the inputs that need one.
type Backward = Box<dyn FnOnce(&Tensor) -> Vec<Option<Tensor>>>;

struct Cut {
    inputs: Vec<Tensor>,
    output: Tensor,
    backward: Backward,
}

/// The cuts of one block, in the order of its forward pass.
#[derive(Default)]
pub struct BlockGraph(RefCell<Vec<Cut>>);

impl BlockGraph {
    /// Cuts the graph after an operation that was computed without autograd: `output` from `input`.
    pub fn cut(
        &self,
        input: &Tensor,
        output: &Tensor,
        backward: impl FnOnce(&Tensor) -> Option<Tensor> + 'static,
    ) -> Tensor {
        self.cut_several(&[input], output, |gradient| vec![backward(gradient)])
    }

    /// The same after an operation of several inputs; `backward` gives the gradient of each, in their order.
    pub fn cut_several(
        &self,
        inputs: &[&Tensor],
        output: &Tensor,
        backward: impl FnOnce(&Tensor) -> Vec<Option<Tensor>> + 'static,
    ) -> Tensor {
        let output = output.set_requires_grad(true);
        let cut = Cut {
            inputs: inputs.iter().map(|input| input.shallow_clone()).collect(),
            output: output.shallow_clone(),
            backward: Box::new(backward),
        };
        self.0.borrow_mut().push(cut);
        output
    }

    /// Cuts the graph after a tensor that several operations read, so that their gradients are added before its own graph
    /// is passed. Without a cut before it, autograd does that itself.
    pub fn join(&self, x: Tensor) -> Tensor {
        if !x.requires_grad() || self.0.borrow().is_empty() {
            return x;
        }
        let output = x.detach();
        self.cut(&x, &output, |gradient| Some(gradient.shallow_clone()))
    }

    /// `factor y + x + beside`, written over `y`. What is added beside is freed; nothing else may read it or `y`. None unless `y` is
    /// the very output of a cut.
    pub fn sum_into(&self, y: &Tensor, factor: f64, x: &Tensor, beside: &mut [Tensor]) -> Option<Tensor> {
        let is_cut = self.0.borrow().iter().any(|cut| cut.output.data_ptr() == y.data_ptr());
        if !is_cut || !y.is_leaf() || y.kind() != x.kind() || y.size() != x.size() {
            return None;
        }
        let mut sum = y.detach();
        if factor != 1.0 {
            let _ = sum.g_mul_scalar_(factor);
        }
        let _ = sum.g_add_(&x.detach());
        for other in beside.iter_mut() {
            let _ = sum.g_add_(&other.detach());
            without_numbers(other);
        }
        let added: Vec<Tensor> = beside
            .iter()
            .chain([x])
            .filter(|other| other.requires_grad())
            .map(Tensor::shallow_clone)
            .collect();
        Some(self.cut(y, &sum, move |gradient| {
            for other in &added {
                backward_from(other, gradient, true);
            }
            Some(if factor == 1.0 { gradient.shallow_clone() } else { gradient * factor })
        }))
    }

    /// Ends the forward pass: frees the inputs of the cuts. The graph needs what computed them, not their numbers. An input that
    /// another operation keeps for its own backward pass stays.
    pub fn close(&self) {
        let mut cuts = self.0.borrow_mut();
        let mut held: HashMap<usize, usize> = HashMap::new();
        for input in cuts.iter().flat_map(|cut| &cut.inputs) {
            *held.entry(Owners::of(input).identity).or_default() += 1;
        }
        let inputs = cuts.iter_mut().flat_map(|cut| &mut cut.inputs);
        for input in inputs.filter(|input| !input.is_leaf()) {
            let Owners { identity, count } = Owners::of(input);
            if held.get(&identity) == Some(&count) {
                without_numbers(input);
            }
        }
    }

    /// The backward pass from the output of the block, whose gradient is `gradient`, to its leaves.
    pub fn backward(self, output: Tensor, gradient: &Tensor) {
        let mut cuts = self.0.into_inner();
        // What lies between two cuts may feed several of them, and is then passed once for each.
        backward_from(&output, gradient, !cuts.is_empty());
        drop(output);
        while let Some(Cut { inputs, output, backward }) = cuts.pop() {
            let gradient = output.grad();
            drop(output);
            if gradient.defined() {
                let of_inputs = no_grad(|| backward(&gradient));
                drop(gradient);
                for (input, of_input) in inputs.into_iter().zip(of_inputs) {
                    if let Some(of_input) = of_input {
                        backward_from(&input, &of_input, true);
                    }
                }
            }
        }
    }
}

/// Frees the numbers of a tensor, of which only shape and graph are needed.
fn without_numbers(tensor: &mut Tensor) {
    let zero = Tensor::zeros([1], (tensor.kind(), tensor.device()));
    tensor.set_data(&zero.expand(tensor.size(), false));
}

impl fmt::Debug for BlockGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockGraph of {} cuts", self.0.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Tensor {
        Tensor::from_slice(&[0.5_f64, -1.0, 2.0]).set_requires_grad(true)
    }

    /// `y = 3 x` by a cut, between operations of autograd that also use its input.
    fn output(x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        let read = x.exp();
        let times = |factor: f64| match graph {
            Some(graph) => {
                graph.cut(&read, &(read.detach() * factor), move |gradient| Some(gradient * factor))
            }
            None => &read * factor,
        };
        let (y, mut beside) = (times(3.0).sin() * &read, [times(2.0)]);
        let tripled = times(3.0);
        let sum = graph.and_then(|graph| graph.sum_into(&tripled, 0.5, &y, &mut beside));
        assert_eq!(sum.is_some(), graph.is_some());
        sum.unwrap_or_else(|| tripled * 0.5 + y + &beside[0]).cos() + x
    }

    #[test]
    fn gradients_are_those_of_autograd() {
        let gradient = Tensor::from_slice(&[1.0_f64, 2.0, -0.5]);
        let (plain, cut, graph) = (leaf(), leaf(), BlockGraph::default());
        backward_from(&output(&plain, None), &gradient, false);
        let y = output(&cut, Some(&graph));
        graph.close();
        graph.backward(y, &gradient);
        let away = (plain.grad() - cut.grad()).abs().max().double_value(&[]);
        assert!(away < 1e-12, "{away:e}: {} and {}", plain.grad(), cut.grad());
    }
}

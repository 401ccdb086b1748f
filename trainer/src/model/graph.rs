//! The graph of one block: autograd's, cut where an operation has its own backward pass.
//!
//! autograd records what happens between two cuts. The result of a cut is a leaf, so the passes of its consumers add its
//! gradient there; the graph then calls the backward pass of the operation and goes on from its input. A frozen layer that is
//! cut out keeps nothing but a reference to its weight.

use crate::aten::backward_from;
use std::cell::RefCell;
use std::fmt;
use tch::{Tensor, no_grad};

/// From the gradient of the output to that of the input, if the input needs one.
type Backward = Box<dyn FnOnce(&Tensor) -> Option<Tensor>>;

struct Cut {
    input: Tensor,
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
        output: Tensor,
        backward: impl FnOnce(&Tensor) -> Option<Tensor> + 'static,
    ) -> Tensor {
        let output = output.set_requires_grad(true);
        let cut = Cut {
            input: input.shallow_clone(),
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
        self.cut(&x, output, |gradient| Some(gradient.shallow_clone()))
    }

    /// Ends the forward pass: frees the inputs of the cuts. The graph needs what computed them, not their numbers; an operation that
    /// needs these for its backward pass has kept them itself.
    pub fn close(&self) {
        for cut in self.0.borrow_mut().iter_mut().filter(|cut| !cut.input.is_leaf()) {
            let input = &mut cut.input;
            let no_numbers = Tensor::zeros([1], (input.kind(), input.device()));
            input.set_data(&no_numbers.expand(input.size(), false));
        }
    }

    /// The backward pass from the output of the block, whose gradient is `gradient`, to its leaves.
    pub fn backward(self, output: Tensor, gradient: &Tensor) {
        let mut cuts = self.0.into_inner();
        // What lies between two cuts may feed several of them, and is then passed once for each.
        backward_from(&output, gradient, !cuts.is_empty());
        drop(output);
        while let Some(Cut { input, output, backward }) = cuts.pop() {
            let gradient = output.grad();
            drop(output);
            if gradient.defined() {
                let of_input = no_grad(|| backward(&gradient));
                drop(gradient);
                if let Some(of_input) = of_input {
                    backward_from(&input, &of_input, true);
                }
            }
        }
    }
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
        let tripled = match graph {
            Some(graph) => graph.cut(&read, read.detach() * 3.0, |gradient| Some(gradient * 3.0)),
            None => &read * 3.0,
        };
        tripled.sin() * &read + x
    }

    #[test]
    fn gradients_are_those_of_autograd() {
        let gradient = Tensor::from_slice(&[1.0_f64, 2.0, -0.5]);
        let (plain, cut, graph) = (leaf(), leaf(), BlockGraph::default());
        backward_from(&output(&plain, None), &gradient, false);
        let y = output(&cut, Some(&graph));
        graph.close();
        graph.backward(y, &gradient);
        assert!((plain.grad() - cut.grad()).abs().max().double_value(&[]) < 1e-14);
    }
}

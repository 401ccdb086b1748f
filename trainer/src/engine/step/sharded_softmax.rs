//! Losses of samples whose classes are sharded over ranks, and their gradient in closed form.

use crate::model::losses::Loss;
use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use std::ops::Range;
use tch::{Tensor, no_grad};

/// Label of a padding row.
pub(crate) const NO_SAMPLE: i64 = -1;

/// A softmax over the classes of all ranks; this rank has `own`.
pub(crate) struct ShardedSoftmax<'a> {
    /// The ranks.
    pub group: &'a dyn ProcessGroup,
    /// The objective.
    pub loss: &'a dyn Loss,
    /// The classes of this rank.
    pub own: Range<i64>,
}

impl ShardedSoftmax<'_> {
    /// Losses of all rows `[rows]`, and the gradient of their sum with respect to this rank's adjusted logits
    /// `[rows, own]`. `labels` count from the first of all classes.
    pub fn losses(&self, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor), CollectiveError> {
        debug_assert!(self.loss.column_term().is_none(), "a term over full columns needs unsharded logits");
        let (nll, mut gradient) = no_grad(|| self.likelihoods(&logits.detach(), labels))?;
        let (losses, slope) = self.of_nll(nll, labels);
        if let Some(slope) = slope {
            let _ = gradient.g_mul_(&slope.unsqueeze(1));
        }
        Ok((losses, gradient))
    }

    /// Losses of rows, and their derivative with respect to the negative log-likelihood unless it is 1.
    fn of_nll(&self, nll: Tensor, labels: &Tensor) -> (Tensor, Option<Tensor>) {
        let leaf = nll.detach().set_requires_grad(true);
        match self.loss.of_nll(&leaf, labels) {
            Some(losses) => {
                losses.sum(losses.kind()).backward();
                (losses.detach(), Some(leaf.grad()))
            }
            None => (nll, None),
        }
    }

    /// Negative log-likelihoods of all rows, and the gradient of their sum.
    fn likelihoods(&self, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor), CollectiveError> {
        let classes = logits.size()[1];
        let local = labels.shallow_clone() - self.own.start;
        let mut greatest = logits.amax([1i64].as_slice(), true);
        self.group.all_reduce(&mut greatest, ReduceOp::Max)?;
        let exponentials = (logits - &greatest).exp();
        let here = local.ge(0).logical_and(&local.lt(classes));
        let place = local.clamp(0, classes - 1).unsqueeze(1);
        let zero = greatest.zeros_like().squeeze_dim(1);
        let of_label = logits.gather(1, &place, false).squeeze_dim(1).where_self(&here, &zero);
        let sums = exponentials.sum_dim_intlist([1i64].as_slice(), false, exponentials.kind());
        let mut pair = Tensor::stack(&[sums, of_label], 0);
        self.group.all_reduce(&mut pair, ReduceOp::Sum)?;
        let (sums, of_label) = (pair.get(0), pair.get(1));
        let sampled = labels.ne(NO_SAMPLE);
        let nll = (sums.log() + greatest.squeeze_dim(1) - of_label).where_self(&sampled, &zero);
        let mut gradient = exponentials / sums.unsqueeze(1);
        let _ = gradient.scatter_add_(1, &place, &-here.to_kind(gradient.kind()).unsqueeze(1));
        let gradient = gradient * sampled.to_kind(nll.kind()).unsqueeze(1);
        Ok((nll, gradient))
    }
}

#[cfg(test)]
mod tests;

//! The process group of a single rank: every collective is the identity.

use super::{Pending, ProcessGroup};
use crate::error::CollectiveError;
use crate::reduce_op::ReduceOp;
use std::time::Duration;
use tch::Tensor;

/// The process group of a run on one rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl ProcessGroup for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn backend(&self) -> &'static str {
        "solo"
    }

    fn all_reduce(&self, _tensor: &mut Tensor, _op: ReduceOp) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn start_all_reduce(&self, _tensor: &Tensor, _op: ReduceOp) -> Result<Pending, CollectiveError> {
        Ok(Pending::done())
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        self.all_gather(input, &mut output.shallow_clone())?;
        Ok(Pending::done())
    }

    fn broadcast(&self, _tensor: &mut Tensor, _root: usize) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        output.view(input.size().as_slice()).copy_(input);
        Ok(())
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        output.view(input.size().as_slice()).copy_(input);
        Ok(())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn barrier_within(&self, _timeout: Duration) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn split(&self, _color: usize, _key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        Ok(Box::new(Self))
    }
}

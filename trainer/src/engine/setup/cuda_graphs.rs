//! `train.cuda_graphs`: whether the passes of a run can be captured.

use crate::config::{AccumulationName, Config};
use crate::engine::gpu::cuda_graph::{CudaGraph, CudaGraphError};
use crate::engine::setup::session::Session;
use tch::Device;

/// Why they cannot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaGraphsError {
    /// A CPU has none.
    #[error(
        "`train.cuda_graphs = true` needs a GPU, and this rank computes on the CPU\nhint: set train.cuda_graphs=false"
    )]
    OnCpu,
    /// libtorch has none.
    #[error("`train.cuda_graphs = true`: {0}\nhint: set train.cuda_graphs=false")]
    Refused(#[from] CudaGraphError),
    /// A collective in the pass waits for other ranks, which may do another pass.
    #[error(
        "`train.cuda_graphs = true` needs the whole backbone on every rank, and its blocks are sharded\nhint: set backbone.placement=replicated, or train.cuda_graphs=false"
    )]
    ShardedBackbone,
    /// The same.
    #[error(
        "`train.cuda_graphs = true` needs all classes on every rank, and they are sharded\nhint: set head.placement=replicated, or train.cuda_graphs=false"
    )]
    ShardedClasses,
    /// Statistics of the global batch go into each pass.
    #[error(
        "`train.cuda_graphs = true` needs a loss that is a sum over samples, and `loss.kind = \"{0}\"` is a function of the whole batch\nhint: set train.cuda_graphs=false"
    )]
    WholeBatch(String),
}

/// Whether the device has graphs: before anything is loaded.
pub fn check_device(config: &Config, device: Device) -> Result<(), CudaGraphsError> {
    match (config.train.cuda_graphs, device) {
        (false, _) => Ok(()),
        (true, Device::Cuda(_)) => Ok(CudaGraph::check()?),
        (true, _) => Err(CudaGraphsError::OnCpu),
    }
}

/// Whether the passes of this run can be captured.
pub fn check_model(session: &Session) -> Result<(), CudaGraphsError> {
    let config = &session.config;
    if !config.train.cuda_graphs {
        return Ok(());
    }
    if session.shards.is_some() {
        return Err(CudaGraphsError::ShardedBackbone);
    }
    if session.model.classes_are_sharded() {
        return Err(CudaGraphsError::ShardedClasses);
    }
    // The official rule treats each micro-batch as a batch, so nothing comes from outside of the pass.
    let exact = config.train.accumulation == AccumulationName::Exact;
    if exact && session.loss(0).loss.column_term().is_some() {
        return Err(CudaGraphsError::WholeBatch(config.loss.kind.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    #[test]
    fn graphs_are_refused_on_the_cpu() {
        let error = check_device(&config(&["train.cuda_graphs=true"]), Device::Cpu).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.cuda_graphs = true` needs a GPU, and this rank computes on the CPU\nhint: set train.cuda_graphs=false"
        );
        assert_eq!(check_device(&config(&[]), Device::Cpu), Ok(()));
    }
}

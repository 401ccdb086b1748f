//! Setup of a run before its first step: device, placement, data, backbone and head, the same on all ranks.

pub mod attention;
pub mod backbone;
pub mod bf16;
pub mod cuda_graphs;
pub mod device;
pub mod frozen_products;
pub mod head_init;
pub mod library_environment;
pub mod loader_plan;
pub mod loss;
pub mod micro_batch;
pub mod placement;
pub mod rank_consistency;
pub mod session;
pub mod sources;
pub mod trained_weights;

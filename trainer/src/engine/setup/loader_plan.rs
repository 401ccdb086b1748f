//! Settings of this rank's loaders.

use crate::data::loader::{BatchRequest, Loader, LoaderOptions};
use crate::data::source::Split;
use crate::data::transform::ImageView;
use crate::engine::failure::Failure;
use crate::engine::step::device_loader::DeviceLoader;
use std::sync::Arc;
use tch::Device;

/// All settings of a loader except its list.
#[derive(Debug, Clone, Copy)]
pub struct LoaderPlan {
    /// The view of an image.
    pub view: ImageView,
    /// Threads and prefetched batches.
    pub options: LoaderOptions,
}

impl LoaderPlan {
    /// Starts the threads. Batches arrive on `device`.
    pub fn start(
        &self,
        split: Arc<Split>,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
        device: Device,
    ) -> Result<DeviceLoader, Failure> {
        let loader = Loader::start(split, self.view, requests, self.options).map_err(Failure::run)?;
        DeviceLoader::new(loader, self.view.size().into(), device).map_err(Failure::run)
    }
}

/// Threads that read and decode images, if the configuration leaves the number open. On a GPU, the cores of the rank have
/// nothing else to do. On the CPU, the compute threads have their cores; without a core that they leave free, workers share
/// all cores with them, and the scheduler of the system divides the time by need.
pub fn workers(device: Device, cores: usize, compute_threads: usize) -> usize {
    let free = match device {
        Device::Cpu => cores.saturating_sub(compute_threads),
        _ => cores,
    };
    if free > 0 { free } else { cores.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_follow_the_cores_of_the_rank_without_a_cap() {
        assert_eq!(workers(Device::Cuda(0), 32, 32), 32);
        assert_eq!(workers(Device::Cuda(0), 32, 1), 32);
        assert_eq!(workers(Device::Cpu, 32, 8), 24);
        assert_eq!(workers(Device::Cpu, 32, 32), 32);
        assert_eq!(workers(Device::Cpu, 1, 1), 1);
        assert_eq!(workers(Device::Cpu, 2, 8), 2);
        assert_eq!(workers(Device::Cpu, 0, 1), 1);
    }
}

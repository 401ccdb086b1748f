//! What `lift run` would use here without options.

use super::facts::Facts;
use super::units::count;
use protocol::probe::{DeviceReport, TrainerReport};
use serde::Serialize;

/// Ranks of `lift run` without `-n`.
const RANKS: usize = 1;

/// A run with the default options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunPlan {
    /// Number of ranks.
    pub ranks: usize,
    /// GPUs that ranks on this machine could use, one each.
    pub gpus: usize,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Name of the GPU.
    pub device_name: Option<String>,
    /// Communication of this run: `none`, because it has one rank.
    pub backend: &'static str,
    /// Communication of a run with several ranks: `mpi` or `nccl`; null if they cannot be started.
    pub backend_of_several: Option<&'static str>,
    /// Compute threads of each rank.
    pub threads: usize,
    /// Loader threads of each rank.
    pub workers: usize,
}

impl RunPlan {
    /// The plan, if the trainer has reported enough.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let TrainerReport { cores, device, cuda, .. } = &facts.trainer.report;
        let cores = (*cores)?;
        let (device, index, backend) = match device.as_ref()? {
            DeviceReport::Cpu => ("cpu".to_owned(), None, "mpi"),
            DeviceReport::Gpu(index) => (format!("cuda:{index}"), Some(*index), "nccl"),
            DeviceReport::Refused(_) => return None,
        };
        // With a variable that hides GPUs, CUDA numbers the others differently.
        let is_hidden = cuda.as_ref().is_none_or(|cuda| cuda.gpus != facts.gpus.devices.len());
        let gpu = index.filter(|_| !is_hidden).and_then(|index| facts.gpus.devices.get(index));
        Some(Self {
            ranks: RANKS,
            gpus: cuda.as_ref().map_or(0, |cuda| cuda.gpus),
            device,
            device_name: gpu.map(|gpu| gpu.name.clone()),
            backend: "none",
            backend_of_several: facts.mpi.mpirun.as_ref().map(|_| backend),
            threads: cores.threads,
            workers: cores.workers,
        })
    }

    /// Names and values for people.
    pub(super) fn rows(&self) -> [(&'static str, String); 5] {
        let more = if self.gpus > self.ranks {
            format!("; `lift run -n {}` uses every GPU", self.gpus)
        } else {
            "; `lift run -n` sets another number".to_owned()
        };
        let device = match (&self.device_name, self.device.as_str()) {
            (Some(name), device) => format!("{device}, {name}"),
            (None, "cpu") => "CPU".to_owned(),
            (None, device) => device.to_owned(),
        };
        let several = match self.backend_of_several {
            Some(backend) => format!("; {} with several ranks", backend.to_uppercase()),
            None => "; several ranks cannot be started".to_owned(),
        };
        [
            ("ranks", format!("{}{more}", self.ranks)),
            ("device", device),
            ("communication", format!("none{several}")),
            ("threads", format!("{} a rank", count(self.threads, "compute thread"))),
            ("loader", format!("{} a rank", count(self.workers, "thread"))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::gpus::GpuFact;
    use protocol::probe::{CoresReport, CudaReport};

    fn facts(device: DeviceReport, gpus: usize) -> Facts {
        let mut facts = Facts::default();
        facts.mpi.mpirun = Some("/m/mpirun".into());
        facts.gpus.devices = vec![GpuFact { name: "NVIDIA H200".into(), ..GpuFact::default() }; gpus];
        let report = &mut facts.trainer.report;
        report.cores = Some(CoresReport { threads: 2, workers: 2 });
        report.cuda = Some(CudaReport { gpus, ..CudaReport::default() });
        report.device = Some(device);
        facts
    }

    fn said(facts: &Facts) -> Vec<String> {
        RunPlan::of(facts)
            .unwrap()
            .rows()
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    }

    #[test]
    fn on_the_cpu_ranks_talk_over_mpi_if_it_is_here() {
        let mut facts = facts(DeviceReport::Cpu, 0);
        assert_eq!(
            said(&facts),
            [
                "ranks: 1; `lift run -n` sets another number",
                "device: CPU",
                "communication: none; MPI with several ranks",
                "threads: 2 compute threads a rank",
                "loader: 2 threads a rank"
            ]
        );
        facts.mpi.mpirun = None;
        assert_eq!(said(&facts)[2], "communication: none; several ranks cannot be started");
    }

    #[test]
    fn on_gpus_ranks_talk_over_nccl() {
        let said = said(&facts(DeviceReport::Gpu(0), 8));
        assert_eq!(said[..2], ["ranks: 1; `lift run -n 8` uses every GPU", "device: cuda:0, NVIDIA H200"]);
        assert_eq!(said[2], "communication: none; NCCL with several ranks");
    }

    #[test]
    fn a_hidden_gpu_is_not_named_and_a_refused_device_gives_no_plan() {
        let mut hidden = facts(DeviceReport::Gpu(0), 8);
        hidden.trainer.report.cuda = Some(CudaReport { gpus: 1, ..CudaReport::default() });
        assert_eq!(said(&hidden)[1], "device: cuda:0");
        assert_eq!(RunPlan::of(&facts(DeviceReport::Refused("no".into()), 0)), None);
        assert_eq!(RunPlan::of(&Facts::default()), None);
    }
}

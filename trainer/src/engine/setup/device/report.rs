//! What `lift-trainer probe` reports of the device, without other ranks.

use super::facts::GpuFacts;
use super::judge::{Judgement, judge};
use super::library::{self, CudaLibrary};
use super::{DeviceChoice, NoGpu};
use protocol::probe::{CudaReport, DeviceReport};

/// Whether libtorch's CUDA part exists. Does not open it.
pub fn has_cuda_part() -> bool {
    library::path().exists()
}

/// Opens libtorch's CUDA part, if it exists.
pub fn open_cuda_part() {
    let _ = library::open();
}

/// The device of a single rank with `train.device = "auto"`, and what libtorch can do with GPUs.
pub fn device_report() -> (DeviceReport, CudaReport) {
    let facts = GpuFacts::gather(DeviceChoice::Auto);
    let device = match judge(DeviceChoice::Auto, &facts) {
        Ok(Judgement::Gpu { .. }) => DeviceReport::Gpu(0),
        Ok(Judgement::Cpu { .. }) => DeviceReport::Cpu,
        Err(refusal) => DeviceReport::Refused(refusal.to_string()),
    };
    (device, cuda_report(&facts))
}

fn cuda_report(facts: &GpuFacts) -> CudaReport {
    let is_opened = facts.library == Some(CudaLibrary::Opened);
    let version = facts.runtime.as_ref().and_then(|runtime| runtime.version).filter(|_| is_opened);
    let reason = (facts.usable == 0).then(|| NoGpu::of(DeviceChoice::Auto, facts).reason);
    CudaReport { runtime: version.map(|version| version.to_string()), gpus: facts.usable, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_cuda_part_the_report_has_a_reason_and_no_runtime() {
        let facts = GpuFacts {
            allotted: None,
            signs: Vec::new(),
            hidden: false,
            library: Some(CudaLibrary::Absent("/lib/libtorch_cuda.so".into())),
            runtime: None,
            usable: 0,
        };
        let report = cuda_report(&facts);
        assert_eq!((report.runtime, report.gpus), (None, 0));
        assert!(report.reason.is_some_and(|reason| reason.contains("built for the CPU only")));
    }
}

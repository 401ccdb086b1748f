//! GPUs, their driver, and NCCL.

use super::DoctorFinding;
use crate::doctor::facts::Facts;
use crate::doctor::gpus::{DriverFacts, GpuFact};
use crate::doctor::units::{count, size};
use protocol::hint;
use protocol::probe::{DeviceReport, NcclReport};
use std::collections::BTreeMap;

/// Memory that a driver itself takes on an idle GPU; more is that of a program.
const IDLE_MEMORY: u64 = 2 << 30;

pub(super) fn gpus(facts: &Facts) -> Vec<DoctorFinding> {
    const AREA: &str = "gpus";
    let refusal = match &facts.trainer.report.device {
        Some(DeviceReport::Refused(reason)) => {
            let (text, hint) = hint::split(reason);
            Some(DoctorFinding::error(AREA, text, hint.unwrap_or("set `train.device=cpu`")))
        }
        _ => None,
    };
    let mut found = if facts.gpus.devices.is_empty() {
        // A refusal gives the reason too, and its remedy.
        Vec::from_iter(refusal.is_none().then(|| none(AREA, facts)))
    } else {
        let mut found = vec![DoctorFinding::ok(AREA, listed(&facts.gpus.devices))];
        found.extend(facts.gpus.devices.iter().filter_map(|gpu| in_use(AREA, gpu)));
        found.extend(facts.gpus.devices.iter().filter_map(|gpu| divided(AREA, gpu)));
        found
    };
    found.extend(refusal);
    found
}

/// Why there is no GPU.
fn none(area: &'static str, facts: &Facts) -> DoctorFinding {
    let DriverFacts { device_files, promised_by, error, timed_out, .. } = &facts.gpus;
    if *timed_out {
        return DoctorFinding::warning(
            area,
            "the driver does not answer",
            "see whether `nvidia-smi` answers; its persistence mode (`nvidia-smi -pm 1`) makes the driver answer quickly",
        );
    }
    if *device_files > 0 {
        let reason = error.clone().unwrap_or_else(|| "NVML lists no GPU".to_owned());
        return DoctorFinding::warning(
            area,
            format!(
                "{} in /dev, but the driver cannot be asked: {reason}",
                count(*device_files, "device file")
            ),
            "install the libraries of NVIDIA's driver; start a container with NVIDIA's runtime and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        );
    }
    if let Some(promise) = promised_by.first() {
        return DoctorFinding::warning(
            area,
            format!("{promise} promises GPUs, but there is no device file of one in /dev"),
            "start the container with its GPUs (`docker run --gpus all`, `apptainer exec --nv`), or ask the scheduler for GPUs (`lift submit --gpus-per-node`)",
        );
    }
    match facts.trainer.report.cuda.as_ref().map_or(0, |cuda| cuda.gpus) {
        0 => DoctorFinding::ok(area, "none; runs use the CPU"),
        gpus => DoctorFinding::ok(area, format!("{}; NVML is not here to name them", count(gpus, "GPU"))),
    }
}

/// `8 NVIDIA H200 (139.8 GiB)`
fn listed(gpus: &[GpuFact]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for gpu in gpus {
        let memory = gpu.memory_bytes.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
        *kinds.entry(format!("{}{memory}", gpu.name)).or_default() += 1;
    }
    kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect::<Vec<_>>().join(", ")
}

fn in_use(area: &'static str, gpu: &GpuFact) -> Option<DoctorFinding> {
    let processes = gpu.processes.unwrap_or(0) as usize;
    let used = gpu.used_bytes.unwrap_or(0);
    (processes > 0 || used > IDLE_MEMORY).then(|| {
        let by = if processes > 0 { format!(" by {}", plural(processes)) } else { String::new() };
        DoctorFinding::warning(
            area,
            format!("GPU {} is in use{by}, with {} of its memory", gpu.index, size(used)),
            "end that program, or use other GPUs (`lift run --gpus`)",
        )
    })
}

fn plural(processes: usize) -> String {
    if processes == 1 { "1 process".to_owned() } else { format!("{processes} processes") }
}

/// CUDA shows a process one slice at most.
fn divided(area: &'static str, gpu: &GpuFact) -> Option<DoctorFinding> {
    let names: Vec<&str> = gpu.slices.iter().map(|slice| slice.name.as_str()).collect();
    (names.len() > 1).then(|| {
        DoctorFinding::warning(
            area,
            format!(
                "GPU {} is divided into {} MIG slices ({}), but a process sees one of them, so all ranks of this host would share it",
                gpu.index,
                names.len(),
                names.join(", ")
            ),
            "start one rank for each run and name its slice (`lift run --gpus MIG-...`; `nvidia-smi -L` lists them), or turn MIG off",
        )
    })
}

/// The driver, compared with the CUDA runtime of libtorch.
pub(super) fn driver(facts: &Facts) -> Option<DoctorFinding> {
    const AREA: &str = "driver";
    let driver = facts.gpus.driver.as_ref()?;
    let supports = &facts.gpus.driver_cuda;
    let has = supports.as_ref().map(|cuda| format!(", supports CUDA {cuda}")).unwrap_or_default();
    let cuda = facts.trainer.report.cuda.as_ref();
    let runtime = cuda.and_then(|cuda| cuda.runtime.as_ref());
    if let (Some(supports), Some(runtime)) = (supports, runtime)
        && major(supports) < major(runtime)
    {
        return Some(DoctorFinding::warning(
            AREA,
            format!(
                "{driver} supports CUDA {supports}, and libtorch needs CUDA {runtime}: runs do not use the GPUs"
            ),
            format!("install a newer driver, or a libtorch for CUDA {}", major(supports).unwrap_or_default()),
        ));
    }
    let has_cuda_part = facts.trainer.report.libtorch.as_ref().is_some_and(|torch| torch.has_cuda_part);
    if let Some(reason) = cuda.and_then(|cuda| cuda.reason.as_ref()).filter(|_| has_cuda_part) {
        let hint = if runtime.is_some() {
            "see whether `nvidia-smi` lists the GPUs, and whether CUDA_VISIBLE_DEVICES hides them"
        } else {
            "install torch 2.11 with the CUDA packages it requires, or run `LIFT_CUDA=1 make setup` in the sources"
        };
        return Some(DoctorFinding::warning(
            AREA,
            format!("{driver}{has}, but libtorch cannot use it: {reason}"),
            hint,
        ));
    }
    let uses = runtime.map(|runtime| format!("; libtorch uses CUDA {runtime}")).unwrap_or_default();
    Some(DoctorFinding::ok(AREA, format!("{driver}{has}{uses}")))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

pub(super) fn nccl(facts: &Facts) -> DoctorFinding {
    const AREA: &str = "nccl";
    let with_gpus = !facts.gpus.devices.is_empty();
    match &facts.trainer.report.nccl {
        Some(NcclReport::Loaded(library)) => {
            let place = library.path.as_ref().map(|path| format!(", {}", path.display()));
            DoctorFinding::ok(AREA, format!("{}{}", library.version, place.unwrap_or_default()))
        }
        Some(NcclReport::Unusable(reason)) if with_gpus => DoctorFinding::warning(
            AREA,
            format!("runs on several GPUs cannot start: {reason}"),
            "install it with pip (`nvidia-nccl-cu13`, or `-cu12`), or let NCCL_RS_LIBRARY name its file",
        ),
        None if with_gpus => DoctorFinding::warning(
            AREA,
            "unknown, because the trainer did not report it",
            "first remedy what is reported about the trainer",
        ),
        _ => DoctorFinding::ok(AREA, "not needed without GPUs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;
    use crate::doctor::gpus::SliceFact;
    use protocol::probe::{CudaReport, LibraryReport, LibtorchReport};

    fn gpu(index: u32) -> GpuFact {
        GpuFact {
            index,
            name: "NVIDIA H200".into(),
            memory_bytes: Some(150_109_880_320),
            used_bytes: Some(600 << 20),
            processes: Some(0),
            ..GpuFact::default()
        }
    }

    /// Two idle GPUs that libtorch can use.
    fn good() -> Facts {
        let gpus = DriverFacts {
            device_files: 2,
            driver: Some("580.95.05".into()),
            driver_cuda: Some("13.0".into()),
            devices: vec![gpu(0), gpu(1)],
            ..DriverFacts::default()
        };
        let mut facts = Facts { gpus, ..Facts::default() };
        let report = &mut facts.trainer.report;
        report.libtorch = Some(LibtorchReport { path: None, has_cuda_part: true });
        report.cuda = Some(CudaReport { runtime: Some("13.0".into()), gpus: 2, reason: None });
        report.device = Some(DeviceReport::Gpu(0));
        report.nccl = Some(NcclReport::Loaded(LibraryReport {
            path: Some("/n/libnccl.so.2".into()),
            version: "2.28.9".into(),
        }));
        facts
    }

    #[test]
    fn good_gpus_are_listed_by_kind() {
        let facts = good();
        assert_eq!(gpus(&facts), [DoctorFinding::ok("gpus", "2 NVIDIA H200 (139.8 GiB)")]);
        let expected = "580.95.05, supports CUDA 13.0; libtorch uses CUDA 13.0";
        assert_eq!(driver(&facts), Some(DoctorFinding::ok("driver", expected)));
        assert_eq!(nccl(&facts), DoctorFinding::ok("nccl", "2.28.9, /n/libnccl.so.2"));
    }

    #[test]
    fn a_gpu_in_use_is_named() {
        let mut facts = good();
        facts.gpus.devices[1].processes = Some(2);
        facts.gpus.devices[1].used_bytes = Some(30 << 30);
        let found = gpus(&facts);
        assert_eq!(levels(&found), ["gpus ok", "gpus warning"]);
        assert_eq!(found[1].text, "GPU 1 is in use by 2 processes, with 30.0 GiB of its memory");
        // In a container, the processes of others are not seen, but their memory is.
        facts.gpus.devices[1].processes = Some(0);
        assert_eq!(gpus(&facts)[1].text, "GPU 1 is in use, with 30.0 GiB of its memory");
    }

    #[test]
    fn several_slices_of_a_gpu_are_no_several_gpus() {
        let mut facts = good();
        let slice = SliceFact { name: "NVIDIA H200 MIG 1g.18gb".into(), ..SliceFact::default() };
        facts.gpus.devices[0].slices = vec![slice.clone()];
        assert_eq!(levels(&gpus(&facts)), ["gpus ok"]);
        facts.gpus.devices[0].slices = vec![slice.clone(), slice];
        let found = gpus(&facts);
        assert_eq!(levels(&found), ["gpus ok", "gpus warning"]);
        assert!(found[1].text.starts_with("GPU 0 is divided into 2 MIG slices ("), "{}", found[1].text);
    }

    #[test]
    fn gpus_that_are_promised_but_absent_are_a_warning() {
        let mut facts = Facts::default();
        assert_eq!(gpus(&facts), [DoctorFinding::ok("gpus", "none; runs use the CPU")]);
        facts.gpus.promised_by = vec!["NVIDIA_VISIBLE_DEVICES=all".into()];
        let found = gpus(&facts);
        let expected = "NVIDIA_VISIBLE_DEVICES=all promises GPUs, but there is no device file of one in /dev";
        assert_eq!((levels(&found), found[0].text.as_str()), (vec!["gpus warning".to_owned()], expected));
        facts.gpus.device_files = 1;
        facts.gpus.error = Some("libnvidia-ml.so.1 is not installed".into());
        let expected =
            "1 device file in /dev, but the driver cannot be asked: libnvidia-ml.so.1 is not installed";
        assert_eq!(gpus(&facts)[0].text, expected);
        facts.gpus.timed_out = true;
        assert_eq!(gpus(&facts)[0].text, "the driver does not answer");
    }

    #[test]
    fn a_device_that_the_trainer_refuses_is_an_error_with_its_remedy() {
        let mut facts = good();
        facts.trainer.report.device = Some(DeviceReport::Refused("no CUDA\nhint: do this".into()));
        let found = gpus(&facts);
        assert_eq!(found[1], DoctorFinding::error("gpus", "no CUDA", "do this"));
    }

    #[test]
    fn a_driver_that_is_too_old_for_libtorch_is_a_warning_and_a_newer_one_is_not() {
        let mut facts = good();
        facts.gpus.driver_cuda = Some("12.4".into());
        let found = driver(&facts).unwrap();
        assert_eq!(levels([&found]), ["driver warning"]);
        assert!(found.text.contains("supports CUDA 12.4, and libtorch needs CUDA 13.0"), "{}", found.text);
        assert_eq!(found.hint.unwrap(), "install a newer driver, or a libtorch for CUDA 12");
        facts.gpus.driver_cuda = Some("14.1".into());
        assert_eq!(levels(&driver(&facts)), ["driver ok"]);
        facts.trainer.report.cuda =
            Some(CudaReport { runtime: Some("13.0".into()), gpus: 0, reason: Some("no GPU".into()) });
        let found = driver(&facts).unwrap();
        assert!(found.text.ends_with("but libtorch cannot use it: no GPU"), "{}", found.text);
        assert!(found.hint.unwrap().starts_with("see whether `nvidia-smi` lists the GPUs"));
        facts.trainer.report.cuda =
            Some(CudaReport { runtime: None, gpus: 0, reason: Some("absent".into()) });
        assert!(driver(&facts).unwrap().hint.unwrap().starts_with("install torch 2.11"));
    }

    #[test]
    fn nccl_matters_only_with_gpus() {
        let mut facts = good();
        facts.trainer.report.nccl = Some(NcclReport::Unusable("NCCL was not found".into()));
        let found = nccl(&facts);
        assert_eq!(found.text, "runs on several GPUs cannot start: NCCL was not found");
        facts.gpus.devices.clear();
        assert_eq!(nccl(&facts), DoctorFinding::ok("nccl", "not needed without GPUs"));
    }
}

use super::super::facts::{GpuFacts, RuntimeFacts, RuntimeRefusal};
use super::*;
use collectives::gpu::CudaVersion;
use std::path::PathBuf;

const RUNTIME: Option<CudaVersion> = Some(CudaVersion { major: 13, minor: 0 });

/// A host with a GPU that works.
fn working() -> GpuFacts {
    GpuFacts {
        allotted: None,
        signs: vec!["/dev/nvidia0".to_owned()],
        hidden: false,
        library: Some(CudaLibrary::Opened),
        runtime: Some(RuntimeFacts { version: RUNTIME, driver: RUNTIME, devices: Ok(2) }),
        usable: 2,
    }
}

/// The same host with a runtime that refuses.
fn refusing(code: i32, name: &str, message: &str, driver: Option<CudaVersion>) -> GpuFacts {
    let refusal = RuntimeRefusal { code, name: name.to_owned(), message: message.to_owned() };
    let runtime = RuntimeFacts { version: RUNTIME, driver, devices: Err(refusal) };
    GpuFacts { runtime: Some(runtime), usable: 0, ..working() }
}

fn too_old() -> GpuFacts {
    refusing(
        35,
        "cudaErrorInsufficientDriver",
        "CUDA driver version is insufficient for CUDA runtime version",
        Some(CudaVersion { major: 12, minor: 4 }),
    )
}

/// The reason and the hint for the CPU, where they are reported.
fn cpu(facts: &GpuFacts) -> (String, String, bool) {
    match judge(DeviceChoice::Auto, facts) {
        Ok(Judgement::Cpu { why, surprising }) => (why.reason, why.hint, surprising),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gpu_that_works_is_used_unless_the_cpu_is_asked_for() {
    for choice in [DeviceChoice::Auto, DeviceChoice::Cuda] {
        assert_eq!(judge(choice, &working()).unwrap(), Judgement::Gpu { devices: 2 });
    }
    let Ok(Judgement::Cpu { surprising: false, .. }) = judge(DeviceChoice::Cpu, &working()) else { panic!() };
}

#[test]
fn a_host_without_any_sign_of_a_gpu_computes_on_the_cpu_without_a_word() {
    let facts = GpuFacts { signs: Vec::new(), ..refusing(100, "cudaErrorNoDevice", "no device", None) };
    assert!(!cpu(&facts).2);
}

#[test]
fn a_driver_that_is_too_old_is_named_with_both_versions() {
    let (reason, hint, surprising) = cpu(&too_old());
    assert!(surprising);
    assert_eq!(
        reason,
        "cudaGetDeviceCount: CUDA driver version is insufficient for CUDA runtime version \
         (cudaErrorInsufficientDriver); the driver supports CUDA 12.4, the runtime is CUDA 13.0 (found: /dev/nvidia0)"
    );
    assert_eq!(
        hint,
        "update NVIDIA's driver to one for CUDA 13.0, install a libtorch for CUDA 12.4, or set train.device=cpu"
    );
}

#[test]
fn a_cpu_build_of_libtorch_beside_a_gpu_is_named() {
    let absent = CudaLibrary::Absent(PathBuf::from("/opt/torch/lib/libtorch_cuda.so"));
    let (reason, hint, surprising) = cpu(&GpuFacts { library: Some(absent), usable: 0, ..working() });
    assert!(surprising);
    assert_eq!(
        reason,
        "this libtorch is built for the CPU only: `/opt/torch/lib/libtorch_cuda.so` does not exist; \
         the driver supports CUDA 13.0, the runtime is CUDA 13.0 (found: /dev/nvidia0)"
    );
    assert_eq!(
        hint,
        "install a CUDA build of torch 2.11 with pip, or run `LIFT_CUDA=1 make setup` in the sources, or set train.device=cpu"
    );
}

#[test]
fn a_cuda_part_that_does_not_load_is_named_with_the_library_it_lacks() {
    let broken = CudaLibrary::Broken("libcudnn.so.9: cannot open shared object file".to_owned());
    let (reason, ..) = cpu(&GpuFacts { library: Some(broken), usable: 0, ..working() });
    assert_eq!(
        reason,
        "libtorch_cuda.so does not load: libcudnn.so.9: cannot open shared object file (found: /dev/nvidia0)"
    );
}

#[test]
fn each_known_error_of_cuda_has_its_own_remedy() {
    for (code, remedy) in [
        (46, "end the program that has reserved the GPU"),
        (100, "look at the GPUs with `nvidia-smi -L`"),
        (802, "start the fabric manager"),
        (803, "restart the machine, or the container"),
        (804, "update NVIDIA's driver, or remove CUDA's compatibility libraries"),
        (999, "look at the GPUs with `nvidia-smi -L`"),
    ] {
        let (_, hint, _) = cpu(&refusing(code, "cudaErrorOfThis", "text", RUNTIME));
        assert!(hint.starts_with(remedy) && hint.ends_with(", or set train.device=cpu"), "{code}: {hint}");
    }
    let (reason, hint, _) = cpu(&refusing(35, "cudaErrorInsufficientDriver", "text", None));
    assert!(reason.contains("no driver was found, the runtime is CUDA 13.0"), "{reason}");
    assert!(hint.starts_with("install NVIDIA's driver, or start the container with its GPUs"), "{hint}");
}

#[test]
fn hidden_gpus_are_the_wish_of_the_user() {
    let facts = GpuFacts { hidden: true, ..refusing(100, "cudaErrorNoDevice", "no device", RUNTIME) };
    assert!(!cpu(&facts).2);
    let error = judge(DeviceChoice::Cuda, &facts).unwrap_err();
    assert_eq!(
        error.to_string(),
        "train.device=cuda, but CUDA cannot be used: CUDA_VISIBLE_DEVICES hides every GPU (found: /dev/nvidia0)\n\
         hint: unset CUDA_VISIBLE_DEVICES, or set train.device=cpu"
    );
}

#[test]
fn a_gpu_that_is_required_or_allotted_is_an_error_with_the_same_reason() {
    let (reason, hint, _) = cpu(&too_old());
    let required = judge(DeviceChoice::Cuda, &too_old()).unwrap_err();
    assert_eq!(
        required.to_string(),
        format!("train.device=cuda, but CUDA cannot be used: {reason}\nhint: {hint}")
    );
    let facts = GpuFacts { allotted: Some("SLURM_JOB_GPUS=0".to_owned()), ..too_old() };
    let allotted = judge(DeviceChoice::Auto, &facts).unwrap_err();
    assert_eq!(
        allotted.to_string(),
        format!(
            "this job was allotted GPUs (SLURM_JOB_GPUS=0), but CUDA cannot be used: {reason}\nhint: {hint}"
        )
    );
    assert!(judge(DeviceChoice::Cpu, &facts).is_ok());
}

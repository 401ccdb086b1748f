//! What the stand-in computes and what it refuses, in the words of the real library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::sync::Once;
use tch::{Device, Kind, Tensor};

/// Opens the stand-in of this build as the trainer opens libtorch's CUDA part.
fn gpu() -> Device {
    static OPEN: Once = Once::new();
    OPEN.call_once(|| {
        let own = std::env::current_exe().unwrap();
        let path = own.ancestors().nth(2).unwrap().join("libcuda_stand_in.so");
        assert!(path.exists(), "{} is missing: run `make build` first", path.display());
        // SAFETY: its initialisers register a device with libtorch and nothing else.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
        // Closing it would leave dangling registrations.
        std::mem::forget(library);
    });
    Device::Cuda(0)
}

fn numbers(shape: &[i64], device: Device) -> Tensor {
    let count = shape.iter().product::<i64>();
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.37).sin().view(shape).to_device(device)
}

/// The first line of a refusal; C++ frames follow.
fn refused(result: Result<Tensor, tch::TchError>) -> String {
    let error = result.unwrap_err().to_string();
    error.lines().next().unwrap().to_owned()
}

#[test]
fn it_computes_what_the_cpu_computes() {
    let results = [Device::Cpu, gpu()].map(|device| {
        let x = numbers(&[4, 6], device).set_requires_grad(true);
        let y = x.matmul(&numbers(&[6, 5], device)).transpose(0, 1).softmax(0, Kind::Float);
        (&y * numbers(&[5, 4], device)).sum(Kind::Float).backward();
        assert_eq!((y.device(), x.grad().device()), (device, device));
        let chosen = x.index_select(1, &Tensor::from_slice(&[3_i64, 0]).to_device(device));
        [y, x.grad(), chosen].map(|tensor| tensor.detach().to_device(Device::Cpu))
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn a_tensor_of_the_cpu_beside_tensors_of_the_device_is_refused() {
    let (here, there) = (numbers(&[3, 3], Device::Cpu), numbers(&[3, 3], gpu()));
    for result in [
        there.f_add(&here),
        there.f_mm(&here),
        there.f_gather(1, &Tensor::zeros([3, 3], (Kind::Int64, Device::Cpu)), false),
        Tensor::f_cat(&[&there, &here], 0),
    ] {
        let text = refused(result);
        assert!(
            text.starts_with("Internal torch error: Expected all tensors to be on the same device"),
            "{text}"
        );
    }
}

#[test]
fn a_number_on_the_cpu_is_an_operand_but_never_a_result() {
    let there = numbers(&[3], gpu());
    let sum = there.f_add(&Tensor::from(1.0_f32)).unwrap();
    assert_eq!(sum.to_device(Device::Cpu), numbers(&[3], Device::Cpu) + 1.0);
    // The result is made like the first operand.
    let text = refused(Tensor::from(true).f_logical_and(&there.isfinite().all()));
    assert!(text.contains("Expected all tensors to be on the same device"), "{text}");
    assert!(there.f_mm(&Tensor::from(1.0_f32)).is_err());
}

#[test]
fn memory_that_is_not_there_is_refused_in_the_words_of_the_allocator() {
    let text = refused(Tensor::f_empty([1 << 37], (Kind::Uint8, gpu())));
    let expected = "CUDA out of memory. Tried to allocate 128.00 GiB. GPU 0 has a total capacity of 64.00 GiB of which 6";
    assert!(text.contains(expected), "{text}");
}

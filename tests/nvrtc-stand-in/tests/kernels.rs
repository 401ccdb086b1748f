//! The trainer's kernels on the emulator, beside their equations in double precision: any width, any number of rows, each element
//! type.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, Once};
use tch::{Device, Kind, Tensor};
use trainer::aten::backward_from;
use trainer::model::gpu_kernels::{GpuKernels, RowTypes};
use trainer::model::graph::BlockGraph;
use trainer::model::layers::LayerNorm;

const GPU: Device = Device::Cuda(0);
const EPSILON: f64 = 1e-5;

/// A library of this build.
fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `make build` first", path.display());
    path
}

/// Opens the stand-ins of this build, as the trainer opens libtorch's CUDA part, NVRTC and the driver.
fn open() {
    static OPEN: Once = Once::new();
    OPEN.call_once(|| {
        for variable in ["LIFT_NVRTC", "LIFT_CUDA_DRIVER"] {
            // SAFETY: every test comes through here before it reads the environment.
            unsafe { std::env::set_var(variable, built("libnvrtc_stand_in.so")) };
        }
        // SAFETY: its initialisers register a device with libtorch and nothing else.
        let library =
            unsafe { Library::open(Some(built("libcuda_stand_in.so")), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
        // Closing it would leave dangling registrations.
        std::mem::forget(library);
    });
}

/// Kernels are compiled once for each width and type. Tests that use them run one after the other.
fn with_kernels(types: RowTypes, test: impl FnOnce(&GpuKernels)) {
    static COMPILED: Mutex<Option<HashMap<String, GpuKernelsCell>>> = Mutex::new(None);
    open();
    let mut compiled = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let kernels = compiled
        .get_or_insert_default()
        .entry(types.to_string())
        .or_insert_with(|| GpuKernelsCell(GpuKernels::load(0, types).unwrap().unwrap()));
    test(&kernels.0);
}

struct GpuKernelsCell(GpuKernels);

// SAFETY: kernels of the emulator are addresses of functions, which belong to no thread.
unsafe impl Send for GpuKernelsCell {}

fn numbers(shape: &[i64], seed: f64, kind: Kind) -> Tensor {
    let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    // Away from zero, so that a mean matters.
    ((places * 0.7310 + seed).sin() * 2.0 + 0.3).view(shape).to_kind(kind).to_device(GPU)
}

/// The most that results may differ, in parts of `1 + |x|`: sums of fp32, or one unit in the last place of a 16-bit type.
fn tolerance(kinds: [Kind; 2]) -> f64 {
    if kinds.contains(&Kind::BFloat16) {
        1.0 / 128.0
    } else if kinds.contains(&Kind::Half) {
        1.0 / 1024.0
    } else {
        2e-5
    }
}

fn close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let [found, expected] =
        [found, expected].map(|values| values.to_device(Device::Cpu).to_kind(Kind::Double));
    let away = (&found - &expected).abs() / (expected.abs() + 1.0);
    let away = away.max().double_value(&[]);
    assert!(away <= tolerance, "{what}: {away:e}, at most {tolerance:e}");
}

/// A leaf of the numbers that `x` has, in double precision on the CPU.
fn oracle(x: &Tensor) -> Tensor {
    x.detach().to_device(Device::Cpu).to_kind(Kind::Double).set_requires_grad(true)
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

struct Norm {
    frozen: LayerNorm,
    exact: LayerNorm,
}

fn norm(width: i64) -> Norm {
    let (weight, bias) = (numbers(&[width], 0.2, Kind::Float), numbers(&[width], 0.9, Kind::Float));
    let exact = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    let exact = LayerNorm::new(exact(&weight), exact(&bias), EPSILON);
    Norm { frozen: LayerNorm::new(weight, bias, EPSILON), exact }
}

/// The norm and its backward pass.
fn check_norm(types: RowTypes, rows: i64, factor: f64) {
    let RowTypes { stream, compute, width } = types;
    with_kernels(types, |kernels| {
        let (x, Norm { frozen, exact }) = (leaf(&numbers(&[rows, width], 0.5, stream)), norm(width));
        let (graph, gradient) = (BlockGraph::default(), numbers(&[rows, width], 1.5, compute));
        let output = kernels.layer_norm(&x, frozen.times(factor), Some(&graph)).unwrap();
        assert_eq!(output.kind(), compute);
        graph.close();
        let double = oracle(&x);
        let expected = exact.forward_times(&double, factor);
        close("the output", &output, &expected, tolerance([compute, Kind::Float]));
        graph.backward(output, &gradient);
        backward_from(&expected, &oracle(&gradient).detach(), false);
        // A gradient has factors of the norm, whose rounding it inherits.
        close("the gradient", &x.grad(), &double.grad(), 4.0 * tolerance([stream, Kind::Float]));
    });
}

/// `s = x + y`, then `s + factor norm(s)` and something beside it; a graph of three cuts and its backward pass.
fn check_residual(types: RowTypes, rows: i64, has_beside: bool) {
    let RowTypes { stream, compute, width } = types;
    with_kernels(types, |kernels| {
        let matrix = |seed, kind| leaf(&numbers(&[1, rows, width], seed, kind));
        let (x, y, beside) = (matrix(0.5, stream), matrix(2.5, compute), matrix(3.5, compute));
        let (Norm { frozen, exact }, graph) = (norm(width), BlockGraph::default());
        let others: Vec<Tensor> = has_beside.then(|| beside.shallow_clone()).into_iter().collect();
        let (sum, read) = kernels.residual_layer_norm(&x, &y, frozen.times(1.7), Some(&graph)).unwrap();
        let output = kernels.residual_sum(&sum, &read, 0.6, &others, Some(&graph)).unwrap();
        graph.close();
        let [x64, y64, beside64] = [&x, &y, &beside].map(oracle);
        let sum64 = &x64 + &y64;
        let all = &sum64 + exact.forward_times(&sum64, 1.7) * 0.6;
        let all = if has_beside { all + &beside64 } else { all };
        let both = [stream, compute];
        close("the sum", &sum, &sum64, tolerance([stream, Kind::Float]));
        close("what the MLP reads", &read, &exact.forward_times(&sum64, 1.7), 4.0 * tolerance(both));
        close("the output", &output, &all, 4.0 * tolerance(both));
        let gradient = numbers(&[1, rows, width], 1.5, stream);
        graph.backward(output, &gradient);
        backward_from(&all, &oracle(&gradient).detach(), false);
        assert_eq!((x.grad().kind(), y.grad().kind()), (stream, compute));
        close("the gradient of x", &x.grad(), &x64.grad(), 8.0 * tolerance(both));
        close("the gradient of y", &y.grad(), &y64.grad(), 8.0 * tolerance(both));
        if has_beside {
            close("the gradient beside", &beside.grad(), &beside64.grad(), tolerance(both));
        }
    });
}

#[test]
fn every_element_type_computes_the_equations() {
    for stream in [Kind::Float, Kind::BFloat16] {
        for compute in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let types = RowTypes { stream, compute, width: 96 };
            println!("{types}");
            check_norm(types, 7, 1.7);
            check_residual(types, 7, true);
            check_residual(types, 7, false);
        }
    }
}

#[test]
fn the_widths_of_towers_and_odd_ones_compute_the_equations() {
    for width in [1, 2, 3, 31, 33, 127, 130, 768, 1024, 1037, 3000] {
        let types = RowTypes { stream: Kind::Float, compute: Kind::Float, width };
        check_norm(types, 5, 1.0);
        check_residual(types, 5, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_number_of_rows_computes_the_equations(rows in 1..40_i64, width in 1..70_i64, factor in 0.1..3.0) {
        let types = RowTypes { stream: Kind::Float, compute: Kind::BFloat16, width };
        check_norm(types, rows, factor);
        check_residual(types, rows, rows % 2 == 0);
    }
}

#[test]
fn rows_with_gaps_and_from_any_address_are_read() {
    let types = RowTypes { stream: Kind::Float, compute: Kind::Float, width: 64 };
    with_kernels(types, |kernels| {
        let Norm { frozen, exact } = norm(64);
        let whole = numbers(&[3, 5, 64], 0.5, Kind::Float);
        let shifted = numbers(&[321], 0.5, Kind::Float).narrow(0, 1, 320).view([5, 64]);
        for x in [whole.narrow(1, 0, 1), whole.transpose(0, 1), shifted] {
            let found = kernels.layer_norm(&x, frozen.times(1.0), None).unwrap();
            close("the output", &found, &exact.forward(&oracle(&x)), 2e-5);
        }
    });
}

#[test]
fn what_no_kernel_serves_is_left_to_libtorch() {
    let types = RowTypes { stream: Kind::Float, compute: Kind::BFloat16, width: 8 };
    with_kernels(types, |kernels| {
        let Norm { frozen, .. } = norm(8);
        let x = numbers(&[4, 8], 0.5, Kind::Float);
        let graph = BlockGraph::default();
        assert!(kernels.layer_norm(&x, frozen.times(1.0), None).is_some());
        // Autograd would have to record it.
        assert!(kernels.layer_norm(&leaf(&x), frozen.times(1.0), None).is_none());
        // Other element types, another width, no rows, the CPU.
        for other in [
            x.to_kind(Kind::BFloat16),
            numbers(&[4, 12], 0.5, Kind::Float),
            x.narrow(0, 0, 0),
            x.to_device(Device::Cpu),
        ] {
            assert!(kernels.layer_norm(&other, frozen.times(1.0), Some(&graph)).is_none());
        }
        assert!(kernels.residual_sum(&x, &x, 1.0, &[], None).is_none(), "y has the type of products");
        let trained = norm(8).frozen;
        let _ = trained.weight.set_requires_grad(true);
        assert!(kernels.layer_norm(&x, trained.times(1.0), Some(&graph)).is_none());
    });
}

/// The same numbers give the same bits, also where the conversions to 16 bits round.
#[test]
fn conversions_round_as_libtorch_rounds() {
    for compute in [Kind::BFloat16, Kind::Half] {
        let types = RowTypes { stream: Kind::Float, compute, width: 64 };
        with_kernels(types, |kernels| {
            // Bits of every exponent, with infinities and what is no number.
            let bits = Tensor::arange(1 << 14, (Kind::Int64, Device::Cpu)) * 262_139;
            let values = bits.to_kind(Kind::Int).view_dtype(Kind::Float).view([-1, 64]).to_device(GPU);
            let y = values.to_kind(compute);
            let x = values.zeros_like();
            let wide = kernels.residual_sum(&x, &y, 1.0, &[], None).unwrap();
            assert!(same_bits(&wide, &y.to_kind(Kind::Float)), "{compute:?} to fp32");
            let graph = BlockGraph::default();
            let leaf_y = leaf(&y);
            let sum = kernels.residual_sum(&x, &leaf_y, 1.0, &[], Some(&graph)).unwrap();
            graph.backward(sum, &values);
            assert!(same_bits(&leaf_y.grad(), &y), "fp32 to {compute:?}");
        });
    }
}

/// Equal, where both are numbers.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let [a, b] = [a, b].map(|values| values.to_device(Device::Cpu).to_kind(Kind::Double));
    let both_none = a.isnan().logical_and(&b.isnan());
    a.eq_tensor(&b).logical_or(&both_none).all().int64_value(&[]) == 1
}

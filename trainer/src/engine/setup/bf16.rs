//! bfloat16: which devices compute it natively, and a warning on a CPU that only emulates it.

use crate::aten;
use crate::config::{Config, PrecisionName};
use crate::engine::failure::Failure;
use crate::engine::gpu::timing::seconds_of_pass;
use crate::engine::rank::Rank;
use collectives::ReduceOp;
use std::hint::black_box;
use tch::{Device, Kind, Tensor, no_grad};

/// Rows, inputs and outputs of the timed product: the first one of an MLP of ViT-B, for one image.
const PRODUCT: [i64; 3] = [197, 768, 3072];
/// Number of measurements, of which the fastest counts.
const TIMES: usize = 3;
/// Ratio of speeds from which a GPU computes bf16 natively. One that emulates it is slower than with fp32.
const NATIVE_RATIO: f64 = 1.5;

/// Replaces `train.precision = "auto"` by the precision that it stands for on all ranks, and says why. Collective.
pub fn settle(config: &mut Config, rank: &Rank) -> Result<Option<String>, Failure> {
    if config.train.precision != PrecisionName::Auto {
        return Ok(None);
    }
    let mut emulating = [i64::from(!is_native(rank.device))];
    rank.control.all_reduce(&mut emulating, ReduceOp::Max)?;
    let (precision, why) = choice(emulating[0] == 0);
    config.train.precision = precision;
    Ok(Some(format!("note: train.precision: {precision}, because {why}")))
}

fn choice(all_native: bool) -> (PrecisionName, &'static str) {
    if all_native {
        (PrecisionName::Bf16, "the devices of all ranks compute bf16 natively")
    } else {
        (PrecisionName::Fp32, "the device of a rank only emulates bf16")
    }
}

/// Whether the device multiplies bf16 by instructions of its own: a CPU says so, a GPU shows it in a product.
fn is_native(device: Device) -> bool {
    match device {
        Device::Cpu => cpu_is_native(),
        _ => speed(Kind::BFloat16, device) > NATIVE_RATIO * speed(Kind::Float, device),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_is_native() -> bool {
    // Every processor with AMX-BF16 has AVX512-BF16 too.
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn cpu_is_native() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

/// A warning with both figures if bf16 is slower than fp32 here. Takes a fraction of a second.
pub fn slower_than_fp32(device: Device) -> Option<String> {
    if device != Device::Cpu || cpu_is_native() {
        return None;
    }
    note(speed(Kind::Float, device), speed(Kind::BFloat16, device))
}

fn note(fp32: f64, bf16: f64) -> Option<String> {
    (bf16 < fp32).then(|| {
        format!(
            "warning: train.precision=bf16 is slower than fp32 on this CPU, which emulates it: {bf16:.1} against {fp32:.1} GFLOP/s in a product of ViT-B\nhint: use train.precision=fp32"
        )
    })
}

/// Billions of floating-point operations a second, computed as a step computes them.
fn speed(kind: Kind, device: Device) -> f64 {
    let [rows, inputs, outputs] = PRODUCT;
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (kind, device));
    let (x, weight) = (ones([rows, inputs]), ones([outputs, inputs]));
    let by_one_dnn = kind == Kind::Float && device == Device::Cpu && aten::products_are_fast();
    let product = || {
        let fast = by_one_dnn.then(|| aten::product(&x, &weight, None).ok()).flatten();
        fast.unwrap_or_else(|| x.linear(&weight, None::<&Tensor>))
    };
    let once = || drop(black_box(no_grad(product)));
    once();
    2.0 * (rows * inputs * outputs) as f64 / seconds_of_pass(device, (TIMES, 1), once) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_with_both_figures_where_bf16_is_slower() {
        let said = note(120.0, 31.25).unwrap();
        assert!(said.contains("31.2 against 120.0 GFLOP/s"), "{said}");
        assert_eq!(note(120.0, 300.0), None);
        assert_eq!(slower_than_fp32(Device::Cuda(0)), None);
    }

    #[test]
    fn the_figures_are_measured() {
        let measured = note(speed(Kind::Float, Device::Cpu), 0.0).unwrap();
        assert!(!measured.contains("inf") && !measured.contains("NaN"), "{measured}");
    }

    #[test]
    fn auto_is_bf16_only_where_all_ranks_have_it() {
        assert_eq!(choice(true).0, PrecisionName::Bf16);
        assert_eq!(choice(false).0, PrecisionName::Fp32);
    }

    #[test]
    fn a_cpu_with_instructions_for_bf16_is_not_warned_of() {
        assert!(!is_native(Device::Cpu) || slower_than_fp32(Device::Cpu).is_none());
    }
}

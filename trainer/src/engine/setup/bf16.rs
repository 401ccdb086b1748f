//! bfloat16 on a CPU that only emulates it.

use std::hint::black_box;
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad};

/// Rows, inputs and outputs of the timed product: the first one of an MLP of ViT-B, for one image.
const PRODUCT: [i64; 3] = [197, 768, 3072];
/// Number of measurements, of which the fastest counts.
const TIMES: usize = 3;

/// A warning with both figures if bf16 is slower than fp32 here. Takes a fraction of a second.
pub fn slower_than_fp32(device: Device) -> Option<String> {
    if device != Device::Cpu {
        return None;
    }
    note(speed(Kind::Float), speed(Kind::BFloat16))
}

fn note(fp32: f64, bf16: f64) -> Option<String> {
    (bf16 < fp32).then(|| {
        format!(
            "warning: train.precision=bf16 is slower than fp32 on this CPU, which emulates it: {bf16:.1} against {fp32:.1} GFLOP/s in a product of ViT-B\nhint: use train.precision=fp32"
        )
    })
}

/// Billions of floating-point operations a second.
fn speed(kind: Kind) -> f64 {
    let [rows, inputs, outputs] = PRODUCT;
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (kind, Device::Cpu));
    let (x, weight) = (ones([rows, inputs]), ones([outputs, inputs]));
    let once = || {
        let start = Instant::now();
        let _ = black_box(no_grad(|| x.linear(&weight, None::<&Tensor>)));
        start.elapsed().as_secs_f64()
    };
    once();
    let fastest = (0..TIMES).map(|_| once()).fold(f64::INFINITY, f64::min);
    2.0 * (rows * inputs * outputs) as f64 / fastest / 1e9
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
        let measured = note(speed(Kind::Float), 0.0).unwrap();
        assert!(!measured.contains("inf") && !measured.contains("NaN"), "{measured}");
    }
}

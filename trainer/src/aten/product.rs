//! Products with a weight by oneDNN, which libtorch otherwise uses for 16 bits only.
//!
//! libtorch computes fp32 with MKL. On processors of other makers MKL leaves AVX-512 unused: oneDNN is twice as fast there.

use super::dispatcher::{Refused, Value, tensor};
use tch::Tensor;

/// Whether oneDNN's products of fp32 have kernels for this processor.
#[must_use]
pub fn products_are_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// `x W^T + b` in fp32 on the CPU, without a graph. `weight` is `[out, in]`, with any strides, or [`packed`].
pub fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Refused> {
    let given = bias.map(Value::Tensor);
    let bias = given.as_ref().map_or(Value::None, Value::Some);
    let arguments =
        [Value::Tensor(x), Value::Tensor(weight), bias, Value::Text("none"), Value::Empty, Value::None];
    tensor("product", c"mkldnn::_linear_pointwise", &arguments)
}

/// A weight `[out, in]` in the layout that oneDNN prefers for products of `rows` rows.
pub fn packed(weight: &Tensor, rows: i64) -> Result<Tensor, Refused> {
    let rows = Value::Int(rows);
    tensor("packed", c"mkldnn::_reorder_linear_weight", &[Value::Tensor(weight), Value::Some(&rows)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn numbers(shape: &[i64], factor: f64) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (places * factor).sin().to_kind(Kind::Float).view(shape)
    }

    #[test]
    fn products_are_those_of_libtorch() {
        if !products_are_fast() {
            println!("skipped: products_are_those_of_libtorch (no AVX2)");
            return;
        }
        let (x, weight, bias) = (numbers(&[3, 5, 24], 0.7), numbers(&[40, 24], 1.3), numbers(&[40], 0.1));
        let plain = x.linear(&weight, Some(&bias));
        let away = |found: Tensor, expected: &Tensor| (found - expected).abs().max().double_value(&[]);
        assert!(away(product(&x, &weight, Some(&bias)).unwrap(), &plain) < 1e-5);
        assert!(away(product(&x, &packed(&weight, 15).unwrap(), Some(&bias)).unwrap(), &plain) < 1e-5);
        // The gradient of the input: a product with the transposed weight, as it lies.
        let back = product(&plain, &weight.tr(), None).unwrap();
        assert!(away(back, &plain.matmul(&weight)) < 1e-4);
    }
}

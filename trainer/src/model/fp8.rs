//! Products of frozen layers in fp8, as the tensor cores of NVIDIA's GPUs since Ada compute them.
//!
//! Both operands have the type e4m3: four bits of exponent, three of mantissa, numbers up to 448. Each row of an operand (a token, or
//! an output of the layer) has a scale of its own that moves its greatest number to 448, so one large token does not push the others
//! below the least number of the type. A number is rounded by at most 2^-4 of itself, against 2^-9 in bf16; numbers that are 2^-15 of
//! the greatest in their row or less are rounded more coarsely. Products are added up in fp32.
//!
//! Scales are computed on the device, and the host waits for nothing. Only the forward product is computed in fp8: gradients have a
//! wider range than activations, their errors would add up over the blocks, and every weight that is trained sees them. They are
//! multiplied with the original weight in the type of the run.

use tch::{Device, Kind, TchError, Tensor};

/// The largest number of e4m3.
const LARGEST: f64 = 448.0;
/// Scale of a row of zeros.
const LEAST_SCALE: f64 = 1e-12;

/// A matrix in fp8 whose rows have scales.
#[derive(Debug)]
pub struct Fp8Matrix {
    /// `[rows, columns]` in e4m3.
    values: Tensor,
    /// `[rows, 1]` in fp32.
    scales: Tensor,
}

impl Fp8Matrix {
    /// The matrix nearest to `x`, `[rows, columns]`.
    pub fn of(x: &Tensor) -> Result<Self, TchError> {
        let greatest = x.f_abs()?.f_amax([-1i64].as_slice(), true)?.f_to_kind(Kind::Float)?;
        let scales = (greatest / LARGEST).f_clamp_min(LEAST_SCALE)?;
        let values = x.f_mul(&scales.f_reciprocal()?)?.f_to_kind(Kind::Float8e4m3fn)?;
        Ok(Self { values, scales })
    }

    /// Some of its rows, as a view.
    #[must_use]
    pub fn rows(&self, first: i64, count: i64) -> Self {
        Self { values: self.values.narrow(0, first, count), scales: self.scales.narrow(0, first, count) }
    }

    /// `x W^T + b`, where this matrix is `W` and `x` is `[..., columns]`, in the type of `bias`. Without a graph.
    ///
    /// libtorch takes the second operand by columns, which the transposed weight is as it lies. It refuses sizes of the layer that
    /// are no multiples of 16.
    pub fn product(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
        let mut size = x.size();
        let columns = size.pop().unwrap_or(0);
        size.push(self.values.size()[0]);
        let x = Self::of(&x.f_reshape([-1, columns])?)?;
        let (weight, scales) = (self.values.f_tr()?, self.scales.f_tr()?);
        let multiplied = |[of_x, of_weight]: [&Tensor; 2], bias: Option<&Tensor>, kind: Kind| {
            let fast_accumulation = false;
            x.values.f_internal_scaled_mm(&weight, of_x, of_weight, bias, None, kind, fast_accumulation)
        };
        let y = if x.values.device() == Device::Cpu {
            // libtorch's CPU has one scale for a whole matrix.
            let one = Tensor::f_ones([1], (Kind::Float, Device::Cpu))?;
            let plain = multiplied([&one, &one], None, Kind::Float)?;
            (plain * &x.scales * &scales + bias).f_to_kind(bias.kind())?
        } else {
            multiplied([&x.scales, &scales], Some(bias), bias.kind())?
        };
        y.f_view(size.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[i64], factor: f64) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (places * factor).sin().view(shape)
    }

    #[test]
    fn a_number_is_rounded_by_a_sixteenth_of_itself_at_most() {
        // Rows of very different sizes, each with numbers down to 2^-12 of its greatest.
        let sizes = Tensor::from_slice(&[1e-6, 1.0, 3e5]).view([3, 1]);
        let x =
            numbers(&[3, 512], 0.37).sign() * numbers(&[3, 512], 1.7).abs().clamp_min(1.0 / 4096.0) * sizes;
        let found = Fp8Matrix::of(&x.to_kind(Kind::Float)).unwrap();
        let back = (found.values.to_kind(Kind::Float) * &found.scales).to_kind(Kind::Double);
        let beyond = (back - &x).abs() - x.abs() * (1.0 / 16.0 + 1e-6);
        assert!(beyond.max().double_value(&[]) <= 0.0, "{beyond}");
        let zeros = Fp8Matrix::of(&Tensor::zeros([2, 16], (Kind::BFloat16, Device::Cpu))).unwrap();
        assert_eq!(zeros.values.to_kind(Kind::Float).abs().max().double_value(&[]), 0.0);
    }

    /// Each of both operands is rounded by 2^-4 at most, so the sum of products is away by `(2 2^-4 + 2^-8) |x| |W|^T` at most, and
    /// by the rounding of the output.
    #[test]
    fn a_product_is_within_the_bound_of_e4m3() {
        let (x, weight) = (numbers(&[2, 9, 64], 0.71), numbers(&[48, 64], 1.3));
        let bias = numbers(&[48], 0.1);
        let bf16 = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        let found = Fp8Matrix::of(&bf16(&weight)).unwrap();
        let y = found.product(&bf16(&x), &bf16(&bias)).unwrap();
        assert_eq!((y.size(), y.kind()), (vec![2, 9, 48], Kind::BFloat16));
        let exact = |tensor: &Tensor| bf16(tensor).to_kind(Kind::Double);
        let (x, weight, bias) = (exact(&x), exact(&weight), exact(&bias));
        let expected = x.matmul(&weight.tr()) + &bias;
        let unit = 0.5_f64.powi(4);
        let bound =
            x.abs().matmul(&weight.abs().tr()) * (2.0 * unit + unit * unit) + expected.abs() / 128.0 + 1e-6;
        let away = (y.to_kind(Kind::Double) - &expected).abs();
        assert!((&away / bound).max().double_value(&[]) < 1.0);
        assert!(away.max().double_value(&[]) > 1e-3, "fp8 rounds");
        // Some of the outputs are the same numbers.
        let some = found.rows(16, 16).product(&bf16(&x), &bf16(&bias).narrow(0, 16, 16)).unwrap();
        assert_eq!(some, y.narrow(2, 16, 16));
    }
}

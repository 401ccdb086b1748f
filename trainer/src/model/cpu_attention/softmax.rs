//! Rows of scores: softmax, and its backward pass. The loops are written for vectors of sixteen numbers, and are compiled for
//! AVX-512, for AVX2 and for every processor.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions of its caller"
)]

/// Numbers that are added side by side: sums do not depend on the width of the processor's vectors.
const LANES: usize = 16;

/// Defines a function that runs the body as compiled for the best instructions of this processor.
macro_rules! for_each_processor {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512($($argument: $type),*) $(-> $result)? { body($($argument),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $result)? { body($($argument),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx2($($argument),*) };
                }
            }
            body($($argument),*)
        }
    };
}

for_each_processor! {
    /// Scores to weights of sum one; the logarithm of the sum of exponentials.
    fn exponentials(row: &mut [f32]) -> f32 {
        let most = greatest(row);
        let mut sums = [0.0; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (value, sum) in chunk.iter_mut().zip(&mut sums) {
                *value = exp(*value - most);
                *sum += *value;
            }
        }
        for (value, sum) in rest.iter_mut().zip(&mut sums) {
            *value = exp(*value - most);
            *sum += *value;
        }
        let sum: f32 = sums.iter().sum();
        let factor = 1.0 / sum;
        for value in row.iter_mut() {
            *value *= factor;
        }
        most + sum.ln()
    }
}

for_each_processor! {
    /// The inner product of an output and its gradient.
    fn inner_product(out: &[f32], of_out: &[f32]) -> f32 {
        let mut sums = [0.0; LANES];
        let ((outs, rest), (ofs, of_rest)) = (out.as_chunks::<LANES>(), of_out.as_chunks::<LANES>());
        for (out, of_out) in outs.iter().zip(ofs) {
            for lane in 0..LANES {
                sums[lane] += out[lane] * of_out[lane];
            }
        }
        for (lane, (out, of_out)) in rest.iter().zip(of_rest).enumerate() {
            sums[lane] += out * of_out;
        }
        sums.iter().sum()
    }
}

for_each_processor! {
    /// Scores to weights, and the gradient of the weights to that of the scores before they were scaled.
    fn of_scores(row: &mut [f32], gradient: &mut [f32], log_sum: f32, inner: f32, scale: f32) {
        for (value, gradient) in row.iter_mut().zip(gradient) {
            *value = exp(*value - log_sum);
            *gradient = *value * (*gradient - inner) * scale;
        }
    }
}

#[inline(always)]
fn greatest(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (value, most) in chunk.iter().zip(&mut most) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    for (value, most) in rest.iter().zip(&mut most) {
        *most = if *value > *most { *value } else { *most };
    }
    most.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `e^x` for `x` up to a little above zero: `2^n e^r` with `|r| <= ln(2) / 2` and a polynomial for `e^r`, to about one unit in the
/// last place. A NaN stays one.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln(2) in two parts, the first of which has few bits.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const LEAST: f32 = -87.0;
    let x = if x < LEAST { LEAST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2[0] - n * LN2[1];
    let mut series = 1.987_569_2e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * r + coefficient;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (series * r * r + r + 1.0) * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_accurate_to_rounding() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let expected = f64::from(x).exp();
            assert!(((f64::from(exp(x)) - expected) / expected).abs() < 2e-7, "{x}");
        }
        assert!(exp(f32::NAN).is_nan() && exp(f32::NEG_INFINITY) < 1e-37 && exp(0.0) == 1.0);
    }

    #[test]
    fn a_row_becomes_weights_of_sum_one() {
        let mut row: Vec<f32> = (0..197).map(|n| (n as f32 * 0.7).sin() * 9.0).collect();
        let expected = row.iter().map(|&value| f64::from(value).exp()).sum::<f64>().ln();
        assert!((f64::from(exponentials(&mut row)) - expected).abs() < 1e-5);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

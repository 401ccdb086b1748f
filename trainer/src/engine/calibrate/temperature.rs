//! Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2).
//!
//! The weighted negative log-likelihood is convex in the inverse temperature `s`: its derivative is the mean of `E_p[z] - z_y`
//! and its second derivative the mean of `Var_p[z]`. Newton's steps stay between bounds that the sign of the derivative
//! moves, and end when they no longer change `s`.

use super::probabilities::Calibrated;

/// Least and greatest inverse temperature: an optimum beyond them means that all labels are right or that the logits say
/// nothing.
const BOUNDS: (f64, f64) = (1e-3, 1e3);
const MOST_STEPS: usize = 100;
const TOLERANCE: f64 = 1e-12;

/// The inverse temperature that minimises the negative log-likelihood of `images` with these weights.
pub(super) fn fit(probabilities: &Calibrated<'_>, images: &[usize], weights: &[f64]) -> f64 {
    let (mut low, mut high) = BOUNDS;
    let mut scale = 1.0_f64;
    for _ in 0..MOST_STEPS {
        let (slope, curvature) = derivatives(Calibrated { scale, ..*probabilities }, images, weights);
        let bound = if slope > 0.0 { &mut high } else { &mut low };
        *bound = scale;
        let newton = scale - slope / curvature;
        let inside = newton.is_finite() && newton > low && newton < high;
        let next = if inside { newton } else { (low * high).sqrt() };
        if (next - scale).abs() <= TOLERANCE * scale {
            return next;
        }
        scale = next;
    }
    scale
}

/// First and second derivative of the negative log-likelihood by the inverse temperature.
fn derivatives(probabilities: Calibrated<'_>, images: &[usize], weights: &[f64]) -> (f64, f64) {
    let (mut slope, mut curvature) = (0.0, 0.0);
    let mut row = Vec::new();
    for (&image, weight) in images.iter().zip(weights) {
        probabilities.of(image, &mut row);
        let logits = probabilities.table.row(image);
        let expected =
            |power: i32| -> f64 { row.iter().zip(logits).map(|(p, &z)| p * f64::from(z).powi(power)).sum() };
        let mean = expected(1);
        slope += weight * (mean - f64::from(logits[probabilities.table.label(image)]));
        curvature += weight * (expected(2) - mean * mean).max(0.0);
    }
    (slope, curvature)
}

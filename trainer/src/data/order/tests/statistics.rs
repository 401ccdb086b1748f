//! Scores of statistical tests, in standard deviations from what chance gives.

/// Pearson's statistic of `seen` against `expected`, as a standard normal score (Wilson and Hilferty's
/// approximation).
pub(crate) fn chi_squared(seen: &[u64], expected: &[f64]) -> f64 {
    let cells = expected.iter().filter(|&&e| e > 0.0).count();
    if cells < 2 {
        return 0.0;
    }
    let freedom = (cells - 1) as f64;
    let statistic: f64 = seen
        .iter()
        .zip(expected)
        .map(|(&s, &e)| if e > 0.0 { (s as f64 - e).powi(2) / e } else { s as f64 * 1e9 })
        .sum();
    let shrink = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - shrink)) / shrink.sqrt()
}

/// The same against cells that are all equally likely.
pub(crate) fn chi_squared_uniform(seen: &[u64]) -> f64 {
    let mean = seen.iter().sum::<u64>() as f64 / seen.len() as f64;
    chi_squared(seen, &vec![mean; seen.len()])
}

/// Mean and variance.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
}

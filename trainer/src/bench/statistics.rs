//! Medians.

/// The middle of the values, or the mean of the two middle ones; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median of what `part` takes of each.
pub(crate) fn median_of<T>(all: &[T], part: impl Fn(&T) -> f64) -> f64 {
    median(&all.iter().map(part).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(&[]).is_nan());
        assert_eq!(median_of(&[(1, 7.0), (2, 5.0), (3, 6.0)], |pair| pair.1), 6.0);
    }
}

//! A model of step time by number of ranks.
//!
//! ```
//! use scaling::ComputeTime;
//!
//! // Steps of 32, 16 and 8 samples: a fixed part, and one for each sample.
//! let time = ComputeTime::fit(&[(32.0, 3.4), (16.0, 1.8), (8.0, 1.0)]);
//! assert!((time.fixed - 0.2).abs() < 1e-9 && (time.each - 0.1).abs() < 1e-9);
//! ```
//!
//! `t(n) = max(compute, data) + exposed communication`, where the slowest rank computes `a + b samples`, and an
//! all-reduce of `s` bytes takes a latency per call and `2 (n - 1) / n s` bytes over the bandwidth of a link.
//! [`machine`] compares it with measured steps, with constants from `lift-trainer bench`; [`cluster`] applies it to
//! many GPUs, with constants that are marked as assumptions. `page.rs` generates the tables of `docs/scaling.md`.

pub mod cluster;
pub mod machine;
mod page;

pub use page::{forecasts, tables};

/// The measured constants and step times of docs/scaling.md.
pub const MEASURED: &str = include_str!("../measured.toml");

/// Seconds to compute some samples: `fixed + each * samples`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComputeTime {
    /// Seconds of a step that do not depend on the samples.
    pub fixed: f64,
    /// Seconds per sample.
    pub each: f64,
}

impl ComputeTime {
    /// The least-squares line through (samples, seconds); neither part is below zero.
    pub fn fit(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let mean = |part: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / n;
        let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
        let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        let together: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
        let each = if spread > 0.0 { (together / spread).max(0.0) } else { 0.0 };
        let fixed = y - each * x;
        if fixed >= 0.0 {
            return Self { fixed, each };
        }
        // Through the origin.
        let each =
            points.iter().map(|p| p.0 * p.1).sum::<f64>() / points.iter().map(|p| p.0 * p.0).sum::<f64>();
        Self { fixed: 0.0, each }
    }

    /// Seconds for `samples`.
    pub fn seconds(&self, samples: f64) -> f64 {
        self.fixed + self.each * samples
    }
}

/// A link between ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interconnect {
    /// Seconds of a collective of no bytes.
    pub latency: f64,
    /// Bytes per second over each rank's link.
    pub bandwidth: f64,
}

impl Interconnect {
    /// Seconds of `calls` collectives in which each rank sends `sent` bytes in all.
    pub fn seconds(&self, calls: f64, sent: f64) -> f64 {
        calls * self.latency + sent / self.bandwidth
    }
}

/// Bytes that each of `ranks` sends in an all-reduce of `bytes`.
pub fn all_reduce_bytes(bytes: f64, ranks: f64) -> f64 {
    2.0 * (ranks - 1.0) / ranks * bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_recovers_a_line() {
        let line = ComputeTime { fixed: 0.01, each: 0.002 };
        let points = [32.0, 64.0, 128.0].map(|n| (n, line.seconds(n)));
        let found = ComputeTime::fit(&points);
        assert!((found.fixed - 0.01).abs() < 1e-12 && (found.each - 0.002).abs() < 1e-12, "{found:?}");
        let found = ComputeTime::fit(&[(1.0, 0.5), (2.0, 2.0)]);
        assert!(found.fixed == 0.0 && found.each > 0.0, "{found:?}");
    }

    #[test]
    fn an_all_reduce_sends_almost_all_bytes_twice() {
        assert_eq!(all_reduce_bytes(100.0, 1.0), 0.0);
        assert_eq!(all_reduce_bytes(100.0, 4.0), 150.0);
        let link = Interconnect { latency: 1e-3, bandwidth: 1e3 };
        assert_eq!(link.seconds(2.0, 500.0), 0.502);
    }
}

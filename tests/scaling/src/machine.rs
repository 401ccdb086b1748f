//! The model on one machine whose ranks share its cores, compared with measured steps.

use super::{ComputeTime, Interconnect, all_reduce_bytes};
use serde::{Deserialize, Serialize};

/// Measurements of `make bench`; seconds and bytes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Day.
    pub date: String,
    /// The machine.
    pub machine: String,
    /// Cores that the ranks share.
    pub cores: f64,
    /// Other runnable processes during the measurement: the median of samples between the runs.
    pub others: f64,
    /// The trained model.
    pub run: String,
    /// Images per step over all ranks.
    pub batch_size: f64,
    /// Bytes of the gradient.
    pub gradient_bytes: f64,
    /// Collectives that a step starts.
    pub calls: f64,
    /// Steps of different sizes on one rank with one thread.
    pub alone: Vec<OneRankStep>,
    /// Steps of the full batch on several ranks with one thread each.
    pub worlds: Vec<MeasuredWorld>,
    /// The effect of overlap.
    pub overlap: Overlap,
}

/// A step on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OneRankStep {
    /// Images.
    pub samples: f64,
    /// The whole step.
    pub step: f64,
}

/// A step on several ranks, and the collectives there.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredWorld {
    /// Ranks.
    pub ranks: f64,
    /// The whole step.
    pub step: f64,
    /// Its computation, on the slowest rank.
    pub compute: f64,
    /// Exposed communication.
    pub exposed: f64,
    /// A started all-reduce of a few bytes.
    pub latency: f64,
    /// Bytes per second over each rank's link, for a started all-reduce of about the size of the gradient; 0 for one
    /// rank.
    pub bandwidth: f64,
}

/// The same step with overlapped communication, with communication after the computation, and without any.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// Ranks.
    pub ranks: f64,
    /// With `distributed.overlap=true`.
    pub on: f64,
    /// With `distributed.overlap=false`.
    pub off: f64,
    /// Without communication.
    pub silent: f64,
}

impl Overlap {
    /// Share of the communication that is hidden by computation.
    pub fn hidden(&self) -> f64 {
        let all = self.off - self.silent;
        if all <= 0.0 { 0.0 } else { ((self.off - self.on) / all).clamp(0.0, 1.0) }
    }
}

/// The model's constants on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineModel {
    /// Compute time of one rank.
    pub compute: ComputeTime,
    /// Cores that the ranks and the other processes share.
    pub cores: f64,
    /// Number of other runnable processes.
    pub others: f64,
    /// Share of the communication that is hidden by computation.
    pub hidden: f64,
}

/// A prediction of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Predicted {
    /// Ranks.
    pub ranks: f64,
    /// Computation.
    pub compute: f64,
    /// Exposed communication.
    pub exposed: f64,
    /// The whole step.
    pub step: f64,
    /// The measured step.
    pub measured: f64,
    /// Relative error of the prediction.
    pub error: f64,
    /// Whether this measurement was used for the constants of the model.
    pub calibrated: bool,
}

impl Measured {
    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The constants: `a` and `b` from the steps of one rank, the hidden share from the overlap.
    pub fn machine(&self) -> MachineModel {
        let whole = self.worlds.iter().filter(|world| world.ranks == 1.0);
        let whole = whole.map(|world| (self.batch_size, world.step));
        let points: Vec<_> =
            self.alone.iter().map(|alone| (alone.samples, alone.step)).chain(whole).collect();
        let (cores, others) = (self.cores, self.others);
        MachineModel { compute: ComputeTime::fit(&points), cores, others, hidden: self.overlap.hidden() }
    }

    /// Predictions for every measured world.
    pub fn predict(&self) -> Vec<Predicted> {
        let machine = self.machine();
        self.worlds.iter().map(|world| machine.predict(self, world)).collect()
    }
}

impl MachineModel {
    /// Slowdown of a rank because of other processes on the cores, with equal shares for all.
    pub fn sharing(&self, ranks: f64) -> f64 {
        ((ranks + self.others) / self.cores).max(1.0)
    }

    fn predict(&self, measured: &Measured, world: &MeasuredWorld) -> Predicted {
        let ranks = world.ranks;
        // The step of one rank shared the cores with other processes too.
        let sharing = self.sharing(ranks) / self.sharing(1.0);
        let compute = self.compute.seconds((measured.batch_size / ranks).ceil()) * sharing;
        let exposed = if ranks > 1.0 {
            let link = Interconnect { latency: world.latency, bandwidth: world.bandwidth };
            let sent = all_reduce_bytes(measured.gradient_bytes, ranks);
            (1.0 - self.hidden) * link.seconds(measured.calls, sent)
        } else {
            0.0
        };
        let step = compute + exposed;
        let (measured, calibrated) = (world.step, ranks <= 1.0);
        Predicted { ranks, compute, exposed, step, measured, error: step / measured - 1.0, calibrated }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Measurements that follow the model exactly.
    pub(crate) fn ideal() -> Measured {
        let compute = |samples: f64| 0.01 + 0.001 * samples;
        let world = |ranks: f64| {
            let computing = compute((128.0 / ranks).ceil()) * (ranks / 2.0).max(1.0);
            let exposed = 0.5 * (5.0 * 1e-3 + all_reduce_bytes(1e6, ranks) / 1e9);
            let exposed = if ranks > 1.0 { exposed } else { 0.0 };
            MeasuredWorld {
                ranks,
                step: computing + exposed,
                compute: computing,
                exposed,
                latency: 1e-3,
                bandwidth: 1e9,
            }
        };
        Measured {
            date: "2000-01-01".to_owned(),
            machine: "ideal".to_owned(),
            cores: 2.0,
            others: 0.0,
            run: "nothing".to_owned(),
            batch_size: 128.0,
            gradient_bytes: 1e6,
            calls: 5.0,
            alone: [128.0, 64.0, 32.0]
                .map(|samples| OneRankStep { samples, step: compute(samples) })
                .to_vec(),
            worlds: [1.0, 2.0, 3.0, 4.0].map(world).to_vec(),
            overlap: Overlap { ranks: 2.0, on: 1.05, off: 1.1, silent: 1.0 },
        }
    }

    #[test]
    fn steps_that_follow_the_model_are_predicted_exactly() {
        let measured = ideal();
        let machine = measured.machine();
        assert!((machine.hidden - 0.5).abs() < 1e-9, "{machine:?}");
        for predicted in measured.predict() {
            assert!(predicted.error.abs() < 1e-6, "{predicted:?}");
            assert_eq!(predicted.calibrated, predicted.ranks == 1.0);
        }
    }

    #[test]
    fn processes_share_the_cores_equally() {
        let machine = |others| MachineModel { others, ..ideal().machine() };
        assert_eq!([1.0, 2.0, 4.0].map(|ranks| machine(0.0).sharing(ranks)), [1.0, 1.0, 2.0]);
        assert_eq!([1.0, 2.0, 4.0].map(|ranks| machine(2.0).sharing(ranks)), [1.5, 2.0, 3.0]);
    }

    #[test]
    fn a_written_file_parses() {
        let text = toml::to_string(&ideal()).unwrap();
        assert_eq!(Measured::parse(&text).unwrap(), ideal());
        assert!(Measured::parse(&text.replace("cores", "kernels")).is_err());
    }

    #[test]
    fn the_hidden_share_is_between_zero_and_one() {
        let overlap = |on, off, silent| Overlap { ranks: 2.0, on, off, silent }.hidden();
        assert_eq!(overlap(1.0, 2.0, 1.0), 1.0);
        assert_eq!(overlap(3.0, 2.0, 1.0), 0.0);
        assert_eq!(overlap(1.0, 1.0, 1.5), 0.0);
    }
}

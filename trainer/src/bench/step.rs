//! Time of the parts of a training step, and the cost of settings, which take turns in one process.

use super::collectives::settle;
use super::exchange::of_all_ranks;
use super::snapshot::{self, SnapshotReport};
use super::statistics::{median, median_of};
use super::timed::{Meter, Timed};
use super::variants::{Comparison, Variant};
use crate::config::{Config, Resolved, Selection};
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::arithmetic;
use crate::engine::gpu::memory::peaks_of_all_ranks;
use crate::engine::rank::Rank;
use crate::engine::setup::session::{Session, SessionPurpose};
use crate::engine::step::batch_plan::BatchPlan;
use crate::engine::step::classifier::Classifier;
use crate::engine::step::device_loader::DeviceLoader;
use crate::engine::step::scalar_row::StepFlags;
use crate::engine::step::sgd::Sgd;
use crate::engine::step::stepper::Stepper;
use crate::engine::training::training_run::parts;
use crate::run::GpuMemory;
use protocol::Outcome;
use serde::Serialize;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};

/// Extent of the measurement.
#[derive(Debug, Clone)]
pub struct StepOptions {
    /// Steps of each round that count.
    pub steps: usize,
    /// Rounds in which the sides of a comparison take turns.
    pub rounds: usize,
    /// Settings to compare.
    pub compare: Vec<Comparison>,
    /// Snapshots for checkpoints.
    pub snapshots: usize,
    /// Temporary folder for their files.
    pub folder: PathBuf,
}

/// Time of the parts of a step: medians over steps, of the slowest rank except for communication.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StepFigures {
    /// The whole step.
    pub step_seconds: f64,
    /// Waiting for images.
    pub data_wait_seconds: f64,
    /// Forward and backward pass, with all other computation of the step.
    pub forward_backward_seconds: f64,
    /// Exposed communication, of the rank that waits for no other.
    pub exposed_seconds: f64,
    /// Mean time for which ranks wait for each other beyond that.
    pub imbalance_seconds: f64,
    /// The optimiser, by itself.
    pub optimiser_seconds: f64,
    /// Bytes that a rank sends.
    pub bytes: f64,
    /// Collectives that a rank makes.
    pub collectives: f64,
    /// Images a second over all ranks.
    pub images_per_second: f64,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantReport {
    /// Its name.
    pub name: String,
    /// Why it is not available here.
    pub unavailable: Option<String>,
    /// Compute threads.
    pub threads: usize,
    /// Images per step over all ranks.
    pub batch_size: u64,
    /// Medians over rounds.
    pub figures: Option<StepFigures>,
    /// Step time over that of the first side in the same round: the median over rounds.
    pub ratio: Option<f64>,
}

/// A comparison of sides that took turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// Its name.
    pub name: &'static str,
    /// Its sides.
    pub variants: Vec<VariantReport>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Data set.
    pub data: String,
    /// Model.
    pub model: String,
    /// Method.
    pub method: String,
    /// The backend of the tensor plane.
    pub backend: &'static str,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Number of ranks.
    pub world_size: usize,
    /// Number of trained scalars on this rank.
    pub trainable_parameters: u64,
    /// Steps a round.
    pub steps: usize,
    /// Rounds.
    pub rounds: usize,
    /// The selected configuration, unchanged.
    pub selected: VariantReport,
    /// The most memory of a GPU that a rank used for it; none on CPUs.
    pub gpu_memory: Option<GpuMemory>,
    /// The comparisons.
    pub comparisons: Vec<ComparisonReport>,
    /// The cost of a checkpoint for the training thread.
    pub checkpoint: Option<SnapshotReport>,
}

/// Runs the measurement. Collective.
pub fn measure(selection: &Selection, mut rank: Rank, options: &StepOptions) -> Result<StepReport, Failure> {
    let (group, meter) = Timed::new(Rc::clone(&rank.group));
    rank.group = Rc::new(group);
    let bench = StepBench { selection, rank: &rank, meter: &meter, options };
    let resolved = bench.resolve(&Variant::selected())?;
    let (mut selected, sessions) = bench.turns(vec![Variant::selected()])?;
    let selected = selected.swap_remove(0);
    let gpu_memory = peaks_of_all_ranks(&rank)?;
    let Some(Some((_, session))) = sessions.first() else {
        return Err(Failure::input(selected.unavailable.unwrap_or_default()).on_all_ranks());
    };
    let trainable_parameters = session.model.trainables().count() as u64;
    let checkpoint = if options.snapshots > 0 {
        Some(snapshot::measure(session, &rank, &resolved, options.snapshots, &options.folder)?)
    } else {
        None
    };
    drop(sessions);
    let mut comparisons = Vec::new();
    for comparison in &options.compare {
        let (variants, _) = bench.turns(comparison.variants(&resolved.config))?;
        comparisons.push(ComparisonReport { name: comparison.name(), variants });
    }
    let names = resolved.names;
    Ok(StepReport {
        data: names.data,
        model: names.model,
        method: names.method,
        backend: rank.group.backend(),
        device: rank.device_name().to_owned(),
        world_size: rank.world_size(),
        trainable_parameters,
        steps: options.steps,
        rounds: options.rounds,
        selected,
        gpu_memory,
        comparisons,
        checkpoint,
    })
}

/// State shared by all comparisons.
struct StepBench<'a> {
    selection: &'a Selection,
    rank: &'a Rank,
    meter: &'a Meter,
    options: &'a StepOptions,
}

type OpenedBench = (Variant, Session);

impl StepBench<'_> {
    fn resolve(&self, variant: &Variant) -> Result<Resolved, Failure> {
        let mut selection = self.selection.clone();
        selection.set.extend(variant.set.iter().cloned());
        agreed(&self.rank.control, || Config::resolve(&selection).map_err(Failure::input))
    }

    /// Measures variants in turns. Reports variants that are not available here.
    fn turns(
        &self,
        variants: Vec<Variant>,
    ) -> Result<(Vec<VariantReport>, Vec<Option<OpenedBench>>), Failure> {
        let (rank, mut reports, mut opened) = (self.rank, Vec::new(), Vec::new());
        for variant in variants {
            rank.begin("opening");
            let session = self
                .resolve(&variant)
                .and_then(|resolved| Session::open(&resolved, rank, SessionPurpose::Train, &|_| ()));
            match session {
                Ok(session) => {
                    reports.push(VariantReport::of(&variant, &session.config, rank));
                    opened.push(Some((variant, session)));
                }
                Err(failure) if failure.common && failure.outcome == Outcome::WrongInput => {
                    reports.push(VariantReport::unavailable(&variant, failure.message));
                    opened.push(None);
                }
                Err(failure) => return Err(failure),
            }
        }
        let classifiers: Vec<Option<Classifier>> = opened
            .iter()
            .map(|opened| {
                let (_, session) = opened.as_ref()?;
                Some(session.classifier(rank, session.plan(rank).most_at_once()))
            })
            .collect();
        let mut lanes = Vec::new();
        for (opened, classifier) in opened.iter().zip(&classifiers) {
            let both = opened.as_ref().zip(classifier.as_ref());
            lanes.push(both.map(|(opened, classifier)| Lane::open(opened, classifier, rank)).transpose()?);
        }
        for _ in 0..self.options.rounds {
            for lane in lanes.iter_mut().flatten() {
                let round = lane.round(self)?;
                lane.rounds.push(round);
            }
        }
        let first = lanes.iter().flatten().next().map(|lane| step_times(&lane.rounds)).unwrap_or_default();
        for (report, lane) in reports.iter_mut().zip(&lanes) {
            let Some(lane) = lane else { continue };
            let ratios = step_times(&lane.rounds)
                .iter()
                .zip(&first)
                .map(|(own, first)| own / first)
                .collect::<Vec<_>>();
            report.ratio = Some(median(&ratios));
            report.figures = Some(StepFigures::median(&lane.rounds));
        }
        drop(lanes);
        tch::set_num_threads(rank.threads as i32);
        Ok((reports, opened))
    }
}

fn step_times(rounds: &[StepFigures]) -> Vec<f64> {
    rounds.iter().map(|round| round.step_seconds).collect()
}

/// Threads that compute under this configuration.
fn threads(config: &Config, rank: &Rank) -> usize {
    match config.train.compute_threads() {
        0 => rank.threads,
        threads => threads,
    }
}

impl VariantReport {
    fn of(variant: &Variant, config: &Config, rank: &Rank) -> Self {
        Self {
            name: variant.name.clone(),
            unavailable: None,
            threads: threads(config, rank),
            batch_size: config.train.batch_size,
            figures: None,
            ratio: None,
        }
    }

    fn unavailable(variant: &Variant, why: String) -> Self {
        let (name, unavailable) = (variant.name.clone(), Some(why));
        Self { name, unavailable, threads: 0, batch_size: 0, figures: None, ratio: None }
    }
}

/// One variant in training: real steps with a learning rate of zero, so that every step is like the first.
struct Lane<'a> {
    session: &'a Session,
    stepper: Stepper<'a>,
    plan: BatchPlan,
    loader: DeviceLoader,
    at: (u64, u64),
    threads: usize,
    silent: bool,
    /// The optimiser, with the values and the gradient for its timing.
    optimiser: (Sgd, Tensor, Tensor),
    rounds: Vec<StepFigures>,
}

/// Figures of a step on this rank, as ranks exchange them.
type Times = [f64; WIDTH];
/// The step, waiting for data, being inside collectives, the optimiser in seconds; bytes sent, collectives made.
const WIDTH: usize = 6;

impl<'a> Lane<'a> {
    fn open(
        (variant, session): &'a OpenedBench,
        classifier: &'a Classifier,
        rank: &Rank,
    ) -> Result<Self, Failure> {
        // Rounds continue across epochs.
        let plan = BatchPlan { epochs: u64::MAX, ..session.plan(rank) };
        let loader = session.loader(session.train_view(), rank);
        let requests = plan.requests(0, 0);
        let loader =
            agreed(&rank.control, || loader.start(Arc::clone(&session.train), requests, rank.device))?;
        let (config, trainables) = (&session.config, session.model.trainables());
        let sgd = Sgd::new(&trainables.flat(), config.train.momentum, config.train.weight_decay);
        Ok(Self {
            session,
            stepper: Stepper::new(parts(session, rank, classifier)),
            plan,
            loader,
            at: (0, 0),
            threads: threads(config, rank),
            silent: variant.silent,
            optimiser: (sgd, trainables.flat().copy(), trainables.gradient().zeros_like()),
            rounds: Vec::new(),
        })
    }

    /// Measured steps, after some that consume the batches prefetched during the turns of others.
    fn round(&mut self, bench: &StepBench<'_>) -> Result<StepFigures, Failure> {
        let rank = bench.rank;
        rank.check_requests()?;
        rank.begin("measuring");
        agreed(&rank.control, || {
            arithmetic::apply(&self.session.config, rank.device).map_err(Failure::input)
        })?;
        tch::set_num_threads(self.threads as i32);
        bench.meter.set_silent(self.silent);
        for _ in 0..=self.session.config.data.prefetch {
            self.step(bench)?;
        }
        let mut own: Vec<Times> = Vec::new();
        rank.control.barrier()?;
        while own.len() < bench.options.steps {
            let whole = self.is_whole();
            let times = self.step(bench)?;
            if whole {
                own.push(times);
            }
        }
        bench.meter.set_silent(false);
        let all = of_all_ranks(&rank.control, own.as_flattened())?;
        Ok(StepFigures::of_ranks(&all, self.plan.batch_size))
    }

    /// Whether the next step has a full batch; every step counts if an epoch has no full batch.
    fn is_whole(&self) -> bool {
        let (len, batch) = (self.plan.order.len(self.at.0), self.plan.batch_size);
        len < batch || (self.at.1 + 1) * batch <= len
    }

    fn step(&mut self, bench: &StepBench<'_>) -> Result<Times, Failure> {
        let (rank, device) = (bench.rank, self.session.model.device());
        bench.meter.take();
        let bytes = rank.activity.now().0.bytes;
        let start = Instant::now();
        let loaded = self
            .loader
            .next()
            .ok_or_else(|| Failure::run("the loader ended before all requests were loaded"))?;
        let loaded = loaded.map_err(Failure::run)?;
        if let Some(bad) = loaded.batch.skipped.first() {
            return Err(Failure::run(format!("image `{}`: {}", bad.path, bad.reason)));
        }
        let data_wait = start.elapsed();
        let work = self.plan.work(self.at, Some(&loaded));
        let outcome = self.stepper.reduced_gradient(&work, StepFlags::default())?;
        self.stepper.update(&outcome, 0.0);
        settle(device);
        let (step, (inside, calls)) = (start.elapsed(), bench.meter.take());
        let bytes = rank.activity.now().0.bytes - bytes;
        let (epoch, step_number) = self.at;
        self.at =
            if step_number + 1 < self.plan.steps(epoch) { (epoch, step_number + 1) } else { (epoch + 1, 0) };
        let optimiser = self.optimise(device);
        let [step, data_wait, inside] = [step, data_wait, inside].map(|time| time.as_secs_f64());
        Ok([step, data_wait, inside, optimiser, bytes as f64, calls as f64])
    }

    /// Seconds of an update that is like the one in the step.
    fn optimise(&mut self, device: Device) -> f64 {
        let (sgd, flat, gradient) = &mut self.optimiser;
        let start = Instant::now();
        sgd.step(flat, gradient, 0.0);
        settle(device);
        start.elapsed().as_secs_f64()
    }
}

impl StepFigures {
    /// Computes the figures from the same steps of all ranks.
    fn of_ranks(ranks: &[Vec<f64>], batch_size: u64) -> Self {
        let ranks: Vec<&[Times]> = ranks.iter().map(|own| own.as_chunks().0).collect();
        let steps = ranks.iter().map(|own| own.len()).min().unwrap_or(0);
        let of_step = |step: usize| ranks.iter().map(|own| own[step]).collect::<Vec<Times>>();
        let steps: Vec<Self> = (0..steps).map(|step| Self::of_step(&of_step(step), batch_size)).collect();
        Self::median(&steps)
    }

    fn of_step(ranks: &[Times], batch_size: u64) -> Self {
        let greatest = |part: &dyn Fn(&Times) -> f64| ranks.iter().map(part).fold(0.0, f64::max);
        let least_inside = ranks.iter().map(|own| own[2]).fold(f64::INFINITY, f64::min);
        let mean_inside = ranks.iter().map(|own| own[2]).sum::<f64>() / ranks.len() as f64;
        let step_seconds = greatest(&|own| own[0]);
        let optimiser_seconds = greatest(&|own| own[3]);
        Self {
            step_seconds,
            data_wait_seconds: greatest(&|own| own[1]),
            forward_backward_seconds: greatest(&|own| own[0] - own[1] - own[2] - own[3]),
            exposed_seconds: least_inside,
            imbalance_seconds: mean_inside - least_inside,
            optimiser_seconds,
            bytes: greatest(&|own| own[4]),
            collectives: greatest(&|own| own[5]),
            images_per_second: batch_size as f64 / step_seconds,
        }
    }

    fn median(all: &[Self]) -> Self {
        Self {
            step_seconds: median_of(all, |f| f.step_seconds),
            data_wait_seconds: median_of(all, |f| f.data_wait_seconds),
            forward_backward_seconds: median_of(all, |f| f.forward_backward_seconds),
            exposed_seconds: median_of(all, |f| f.exposed_seconds),
            imbalance_seconds: median_of(all, |f| f.imbalance_seconds),
            optimiser_seconds: median_of(all, |f| f.optimiser_seconds),
            bytes: median_of(all, |f| f.bytes),
            collectives: median_of(all, |f| f.collectives),
            images_per_second: median_of(all, |f| f.images_per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ranks, two steps. Rank 1 is slower, so rank 0 waits for it.
    #[test]
    fn of_ranks_the_slowest_counts_and_of_communication_the_one_that_waits_for_no_other() {
        let fast = [1.0, 0.1, 0.5, 0.05, 80.0, 3.0];
        let slow = [1.0, 0.2, 0.25, 0.05, 80.0, 3.0];
        let ranks = [[fast, fast].as_flattened().to_vec(), [slow, slow].as_flattened().to_vec()];
        let figures = StepFigures::of_ranks(&ranks, 64);
        assert_eq!((figures.step_seconds, figures.data_wait_seconds), (1.0, 0.2));
        assert_eq!((figures.exposed_seconds, figures.imbalance_seconds), (0.25, 0.125));
        assert!((figures.forward_backward_seconds - 0.5).abs() < 1e-12);
        assert_eq!((figures.bytes, figures.images_per_second), (80.0, 64.0));
    }

    #[test]
    fn one_disturbed_step_changes_nothing() {
        let rounds =
            [1.0, 50.0, 1.5].map(|step_seconds| StepFigures { step_seconds, ..StepFigures::default() });
        assert_eq!(StepFigures::median(&rounds).step_seconds, 1.5);
    }
}

//! Training as a configuration describes it, from its start or from a checkpoint, to the last evaluation.

use crate::config::{AccumulationName, BestMetric, Config, NonFinite, ScheduleName, SelectedNames, Wire};
use crate::engine::eval::bad_images::{BadImageLimit, BadImages};
use crate::engine::eval::evaluate::{CropBatch, Evaluation, EvaluationCounts};
use crate::engine::eval::kept_logits::KeptLogits;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::{Session, shard_tree};
use crate::engine::step::batch_plan::BatchPlan;
use crate::engine::step::classifier::Classifier;
use crate::engine::step::device_loader::DeviceLoader;
use crate::engine::step::gradient_sync::SyncOptions;
use crate::engine::step::schedule::{LearningRate, Schedule};
use crate::engine::step::step_parts::{Accumulation, Reduction, StepParts};
use crate::engine::step::stepper::Stepper;
use crate::engine::training::contention::Contention;
use crate::engine::training::final_weights;
use crate::engine::training::progress::{Progress, RunState};
use crate::engine::training::restoring::{RestoredRun, discard_after, restore};
use crate::engine::training::run_log::RunLog;
use crate::engine::training::saver::{SaveReason, Saver};
use crate::engine::training::train::{LoopEnd, Training};
use crate::run::checkpoint::CheckpointReader;
use crate::run::{
    EvalRecord, ProgressOutput, ProgressPlan, Reporter, RunFolder, StopRequest, Summary, Views,
};
use protocol::{Outcome, Phase};
use std::rc::Rc;
use std::sync::Arc;
use tch::Kind;

/// What trains.
#[derive(Clone, Copy)]
pub struct TrainingRun<'a> {
    /// Data and model.
    pub session: &'a Session,
    /// This process.
    pub rank: &'a Rank,
    /// How progress is shown.
    pub output: ProgressOutput,
    /// Rank 0's run folder.
    pub folder: Option<&'a RunFolder>,
    /// What it is a run of.
    pub names: &'a SelectedNames,
    /// Where the logits of the last evaluation are kept, on request.
    pub kept: Option<&'a KeptLogits>,
}

/// How far training came, and how it ended.
pub struct TrainingOutcome {
    /// How far it came.
    pub progress: Progress,
    /// How it ended.
    pub end: TrainingFinish,
}

/// How a training run ended.
pub enum TrainingFinish {
    /// With the last evaluation.
    Evaluated(EvaluationCounts),
    /// On request.
    Stopped(StopRequest),
}

impl TrainingRun<'_> {
    /// Evaluates the start, or what was loaded.
    pub fn evaluate_only(self, record: &mut RunLog) -> Result<TrainingOutcome, Failure> {
        let mut reporter = Reporter::new(self.output, progress_plan(self, 0));
        let mut progress = self.fresh();
        let evaluated = self.evaluate(record, &mut reporter, &mut progress.left_out_images)?;
        Ok(TrainingOutcome { progress, end: TrainingFinish::Evaluated(evaluated) })
    }

    /// Trains from the start or from `restored`, and evaluates.
    pub fn train(
        self,
        configuration: String,
        record: &mut RunLog,
        restored: Option<RestoredRun>,
    ) -> Result<TrainingOutcome, Failure> {
        let (session, rank) = (self.session, self.rank);
        let (config, plan) = (&session.config, session.plan(rank));
        let classifier = session.classifier(rank, plan.most_at_once());
        let mut stepper = Stepper::new(parts(session, rank, &classifier));
        let mut progress = self.fresh();
        if let Some(RestoredRun { state, tensors }) = restored {
            restore(session, stepper.momentum(), tensors.as_deref(), rank)?;
            progress = state.progress;
            progress.left_out_images.join(&session.bad_images);
            if progress.in_epoch > 0 && progress.is_between_epochs() {
                // Where the size of a batch was changed, the same epoch has another number of steps.
                progress.in_epoch = plan.steps(progress.epoch);
            }
        }
        let mut reporter = Reporter::new(self.output, progress_plan(self, progress.steps));
        let identity = session.identity(configuration);
        loop {
            let mut saver =
                agreed(&rank.control, || Saver::start(config, rank, identity.clone(), self.folder))?;
            record.phase(Phase::Training);
            rank.begin("training");
            let end =
                self.train_on(&plan, &mut stepper, &mut progress, &mut saver, (record, &mut reporter))?;
            match end {
                TrainEnd::Rollback => {
                    rank.begin("going back");
                    agreed(&rank.control, || saver.close())?;
                    progress = self.roll_back(&stepper, &progress, record)?;
                }
                TrainEnd::Finished(end) => {
                    tracing::info!(
                        "{:.3} s of {:.1} s went into checkpoints",
                        saver.seconds(),
                        progress.seconds
                    );
                    rank.begin("saving");
                    agreed(&rank.control, || saver.close())?;
                    return Ok(TrainingOutcome { progress, end });
                }
            }
        }
    }

    fn fresh(self) -> Progress {
        Progress { left_out_images: self.session.bad_images.clone(), ..Progress::default() }
    }

    /// One stretch of training, up to the end, a stop or a rollback.
    fn train_on(
        self,
        plan: &BatchPlan,
        stepper: &mut Stepper<'_>,
        progress: &mut Progress,
        saver: &mut Saver<'_>,
        (run_log, reporter): (&mut RunLog, &mut Reporter),
    ) -> Result<TrainEnd, Failure> {
        let (session, rank) = (self.session, self.rank);
        let (config, model) = (&session.config, &session.model);
        let loader = self.loader(plan, progress)?;
        let mut training = Training {
            rank,
            model,
            stepper,
            progress,
            plan: plan.clone(),
            rate: learning_rate(config, plan),
            max_steps: config.train.max_steps,
            check_every: config.distributed.check_every_steps,
            limit: BadImageLimit::within(config),
            non_finite: (config.train.non_finite, config.train.max_non_finite),
            frozen: &session.frozen,
            loss: &|epoch| session.loss(epoch),
            saver,
            run_log,
            reporter,
            clock: Rank::step_clock(config.distributed.stall_seconds),
            contention: Contention::start(),
        };
        if config.train.non_finite == NonFinite::Rollback && training.progress.steps == 0 {
            training.save(SaveReason::Regular)?;
        }
        let Training { saver, stepper, progress, run_log, .. } = &mut training;
        saver.keep_last_step(model.trainables(), stepper.momentum(), progress, run_log);
        let every = config.eval.every_epochs;
        let end = training.run(loader, &mut |progress, reporter| {
            let (epoch, step) = (progress.epoch, progress.steps);
            if every == 0 || !epoch.is_multiple_of(every) {
                return Ok(None);
            }
            rank.begin("evaluating");
            let evaluated = evaluation(session, rank).run(rank, reporter, &mut progress.left_out_images)?;
            rank.begin("training");
            let summary = summarise(&evaluated, session)?;
            let metric = best_metric(config.checkpoint.best, &summary);
            Ok(Some((eval_record(session, (epoch, step), summary, evaluated.seconds), metric)))
        })?;
        match end {
            LoopEnd::Rollback => return Ok(TrainEnd::Rollback),
            LoopEnd::Stopped(request) => return Ok(TrainEnd::Finished(TrainingFinish::Stopped(request))),
            LoopEnd::Complete => {}
        }
        if training.saver.is_regular() {
            training.save(SaveReason::Regular)?;
        }
        if training.progress.in_epoch > 0 {
            // After the checkpoint: a run with more steps continues in this epoch.
            training.record_epoch();
        }
        training.reporter.finish();
        match self.evaluate(training.run_log, training.reporter, &mut training.progress.left_out_images) {
            Ok(evaluated) => {
                if let Some(metric) = best_metric(config.checkpoint.best, &summarise(&evaluated, session)?) {
                    training.save(SaveReason::Evaluated(metric))?;
                }
                Ok(TrainEnd::Finished(TrainingFinish::Evaluated(evaluated)))
            }
            Err(failure) if matches!(failure.outcome, Outcome::Preempted | Outcome::Interrupted) => {
                let request = training.stop()?;
                request.map(|request| TrainEnd::Finished(TrainingFinish::Stopped(request))).ok_or(failure)
            }
            Err(failure) => Err(training.save_before(failure)),
        }
    }

    /// The last evaluation. What was trained is on disk before it: that a test image is broken must not cost it.
    fn evaluate(
        self,
        record: &mut RunLog,
        reporter: &mut Reporter,
        bad: &mut BadImages,
    ) -> Result<EvaluationCounts, Failure> {
        self.rank.begin("saving");
        final_weights::write(self.session, self.names, self.folder, self.rank)?;
        record.phase(Phase::Evaluating);
        self.rank.begin("evaluating");
        let kept = self.kept;
        Evaluation { kept, ..evaluation(self.session, self.rank) }.run(self.rank, reporter, bad)
    }

    fn loader(self, plan: &BatchPlan, progress: &Progress) -> Result<DeviceLoader, Failure> {
        let (session, rank) = (self.session, self.rank);
        let loader = session.loader(session.train_view(), rank);
        let requests = plan.requests(progress.epoch, progress.in_epoch);
        agreed(&rank.control, || loader.start(Arc::clone(&session.train), requests, rank.device))
    }

    /// Puts the last checkpoint's values back, on every rank.
    fn roll_back(
        self,
        stepper: &Stepper<'_>,
        now: &Progress,
        record: &mut RunLog,
    ) -> Result<Progress, Failure> {
        let control = &self.rank.control;
        let found = agreed(control, || {
            let Some(folder) = self.folder else { return Ok(None) };
            let found =
                CheckpointReader::new(&folder.checkpoints()).newest::<RunState>().map_err(Failure::run)?;
            let found = found.ok_or_else(|| Failure::run("there is no checkpoint to go back to"))?;
            discard_after(folder, found.snapshot.step)?;
            Ok(Some(found))
        })?;
        let state = found.as_ref().map(|found| serde_json::to_vec(&found.snapshot.state));
        let bytes = control.broadcast(state.transpose().map_err(Failure::run)?.unwrap_or_default(), 0)?;
        let state: RunState = serde_json::from_slice(&bytes).map_err(Failure::run)?;
        let tensors = found.as_ref().map(|found| found.snapshot.tensors.as_slice());
        restore(self.session, stepper.momentum(), tensors, self.rank)?;
        agreed(control, || record.cut_metrics(state.mark()))?;
        let (non_finite, skipped_steps) = (now.non_finite, now.skipped_steps.clone());
        let left_out_images = now.left_out_images.clone();
        Ok(Progress { left_out_images, non_finite, skipped_steps, ..state.progress })
    }
}

enum TrainEnd {
    Rollback,
    Finished(TrainingFinish),
}

/// What a step of this run consists of on this rank, before the first one.
pub fn parts<'a>(session: &'a Session, rank: &Rank, classifier: &'a Classifier) -> StepParts<'a> {
    let config = &session.config;
    StepParts {
        pass: session.pass(),
        classifier,
        loss: session.loss(0),
        group: Rc::clone(&rank.group),
        reduction: reduction(config, rank),
        accumulation: accumulation(config),
        optimiser: (config.train.momentum, config.train.weight_decay),
        cuda_graphs: config.train.cuda_graphs,
    }
}

/// The evaluation that a session's configuration describes.
pub fn evaluation<'a>(session: &'a Session, rank: &Rank) -> Evaluation<'a> {
    let view = session.eval_view();
    let (split, images) = session.evaluated();
    let batch = CropBatch { crops: view.crops() as u64, at_once: session.config.eval.batch_size };
    Evaluation {
        pass: session.pass(),
        classifier: session.classifier(rank, batch.most()),
        loader: session.loader(view, rank),
        limit: BadImageLimit::within(&session.config),
        split: Arc::clone(split),
        images,
        classes: session.class_names.len(),
        batch,
        kept: None,
    }
}

/// The line of an evaluation after so many epochs and steps.
pub fn eval_record(
    session: &Session,
    (epoch, step): (u64, u64),
    summary: Summary,
    seconds: f64,
) -> EvalRecord {
    let Views { split, crops, .. } = session.views();
    EvalRecord { epoch, step, split, crops, summary, seconds }
}

/// Percentages from counts.
pub fn summarise(evaluated: &EvaluationCounts, session: &Session) -> Result<Summary, Failure> {
    let limits = session.config.eval.limits();
    Summary::new(&evaluated.counts, &session.train_counts(), limits).map_err(Failure::run)
}

fn best_metric(which: BestMetric, summary: &Summary) -> Option<f64> {
    match which {
        BestMetric::None => None,
        BestMetric::Accuracy => summary.accuracy,
        BestMetric::MeanClassAccuracy => summary.mean_class_accuracy,
        BestMetric::Few => summary.few,
        BestMetric::MacroF1 => summary.macro_f1,
    }
}

fn accumulation(config: &Config) -> Accumulation {
    let train = &config.train;
    match train.accumulation {
        AccumulationName::Exact => Accumulation::Exact,
        AccumulationName::Official => {
            Accumulation::Official { micro_batches: train.batch_size.div_ceil(train.images_at_once()) }
        }
    }
}

fn learning_rate(config: &Config, plan: &BatchPlan) -> LearningRate {
    let train = &config.train;
    let schedule = match train.schedule {
        ScheduleName::CosinePerEpoch => Schedule::CosinePerEpoch,
        ScheduleName::CosinePerStep => Schedule::CosinePerStep,
        ScheduleName::Constant => Schedule::Constant,
    };
    LearningRate { schedule, base: train.learning_rate, epochs: train.epochs, steps: plan.total_steps() }
}

/// How gradients of ranks become one.
fn reduction(config: &Config, rank: &Rank) -> Reduction {
    if let Some(tree) = shard_tree(config, rank) {
        return Reduction::FixedTree(tree);
    }
    let options = &config.distributed;
    Reduction::Buckets(SyncOptions {
        bucket_bytes: (options.bucket_megabytes * 1e6) as usize,
        overlap: options.overlap,
        wire: match options.wire {
            Wire::Fp32 => None,
            Wire::Bf16 => Some(Kind::BFloat16),
        },
    })
}

fn progress_plan(run: TrainingRun<'_>, steps_done: u64) -> ProgressPlan {
    let train = &run.session.config.train;
    let all = run.session.plan(run.rank).total_steps();
    let steps = if train.max_steps > 0 { all.min(train.max_steps) } else { all };
    ProgressPlan { epochs: train.epochs, steps, steps_done, steps_per_line: 0 }
}

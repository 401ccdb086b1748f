//! One run from configuration to result: session, run folder, training, evaluation, files.

use super::evaluate::{Evaluated, Evaluation};
use super::failure::{Failure, agreed};
use super::feed::Plan;
use super::rank::Rank;
use super::schedule::{LearningRate, Schedule};
use super::session::{Session, shard_tree};
use super::step::{Accumulation, Parts, Reduction, Stepper};
use super::sync::SyncOptions;
use super::train::{Trained, Training};
use super::whole::whole_tensors;
use crate::config::{Accumulation as AccumulationName, Config, Resolved, Schedule as ScheduleName, Wire};
use crate::data::loader::BadImages;
use crate::run::{
    ClassResult, EvalRecord, Logging, MetricsWriter, Output, Place, Plan as ProgressPlan, Record, Reporter,
    RunFolder, RunResult, Start, Summary,
};
use crate::weights::trained::{self, FINGERPRINT_KEY, TrainedFile};
use launcher::protocol::{Outcome, Phase, Status};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// What to run, and where it goes.
pub struct Experiment<'a> {
    /// The configuration.
    pub resolved: &'a Resolved,
    /// This process.
    pub rank: &'a Rank,
    /// This rank's log.
    pub logging: &'a Logging,
    /// Where the run folder is to be; nowhere for an evaluation that only prints.
    pub place: Option<Place>,
    /// Trained tensors to start from, instead of the first values.
    pub weights: Option<&'a Path>,
    /// Where to write the predicted classes, one a line.
    pub predictions: Option<&'a Path>,
    /// How progress is shown.
    pub output: Output,
}

/// How a run ended.
pub enum Ended {
    /// With a result, the same on every rank; and the folder that holds it.
    Done(Box<RunResult>, PathBuf),
    /// On request, before its end.
    Stopped(Outcome),
}

impl Experiment<'_> {
    /// Trains and evaluates. What is wrong with the input is found before a run folder exists.
    pub fn run(&mut self) -> Result<Ended, Failure> {
        let start = Instant::now();
        let session = Session::open(self.resolved, self.rank)?;
        let backbone = Some(session.weights_fingerprint.as_str());
        if let Some(file) = self.weights {
            agreed(&self.rank.control, || load(file, &session, backbone))?;
        }
        let folder = self.create_folder()?;
        let mut record = Recorder::open(folder.as_ref(), self.rank)?;
        let result = self.work(&session, start, folder.as_ref(), &mut record);
        record.end(&result);
        match result? {
            Work::Stopped(outcome) => Ok(Ended::Stopped(outcome)),
            Work::Done(result) => {
                let path = folder.map(|folder| folder.path().to_owned()).unwrap_or_default();
                Ok(Ended::Done(result, path))
            }
        }
    }

    /// Rank 0 creates and locks the folder; every rank logs into it.
    fn create_folder(&self) -> Result<Option<RunFolder>, Failure> {
        let Some(place) = &self.place else { return Ok(None) };
        let leads = self.rank.leads();
        let folder = agreed(&self.rank.control, || {
            let text = self.resolved.to_toml();
            let create = || RunFolder::create(place, &text, Start::Fresh).map_err(Failure::input);
            leads.then(create).transpose()
        })?;
        let own = folder.as_ref().map(|folder| folder.logs().display().to_string()).unwrap_or_default();
        let logs = self.rank.control.broadcast(own.into_bytes(), 0)?;
        let logs = PathBuf::from(String::from_utf8_lossy(&logs).into_owned());
        agreed(&self.rank.control, || self.logging.attach(&logs).map_err(Failure::input))?;
        Ok(folder)
    }

    fn work(
        &mut self,
        session: &Session,
        start: Instant,
        folder: Option<&RunFolder>,
        record: &mut Recorder,
    ) -> Result<Work, Failure> {
        let mut reporter = Reporter::new(self.output, progress_plan(session, self.rank));
        let trained = self.train(session, record, &mut reporter)?;
        if let Some(request) = trained.stopped {
            return Ok(Work::Stopped(request.outcome()));
        }
        record.phase(Phase::Evaluating)?;
        let evaluated = evaluation(session, self.rank).run(self.rank, &mut reporter)?;
        let summary = summarise(&evaluated, session)?;
        let done = EvalRecord {
            epoch: if trained.steps > 0 { session.config.train.epochs } else { 0 },
            step: trained.steps,
            split: "test".to_owned(),
            summary: summary.clone(),
            seconds: evaluated.seconds,
        };
        record.evaluation(done)?;
        let result = self.result(session, &trained, evaluated, summary, start)?;
        let trainables = session.model.trainables();
        let tensors = whole_tensors(trainables, &trainables.flat(), self.rank.group.as_ref())?;
        agreed(&self.rank.control, || self.write(session, &tensors, &result, folder))?;
        Ok(Work::Done(Box::new(result)))
    }

    fn train(
        &self,
        session: &Session,
        record: &mut Recorder,
        reporter: &mut Reporter,
    ) -> Result<Trained, Failure> {
        let (config, rank) = (&session.config, self.rank);
        if config.train.epochs == 0 || self.weights.is_some() {
            return Ok(Trained::default());
        }
        record.phase(Phase::Training)?;
        let plan = session.plan(rank);
        let policy = if config.data.max_bad_images > 0 { BadImages::Skip } else { BadImages::Stop };
        let loader = session.loader(session.train_view(), policy, rank);
        let loader = agreed(&rank.control, || loader.start(Arc::clone(&session.train), plan.requests(0, 0)))?;
        let optimiser = (config.train.momentum, config.train.weight_decay);
        let model = &session.model;
        let most = config.train.batch_size.div_ceil(plan.shards).min(config.train.micro_batch_size);
        let classifier = session.classifier(rank, most);
        let mut stepper = Stepper::new(Parts {
            pass: session.pass(),
            classifier: &classifier,
            loss: session.loss(0),
            group: Rc::clone(&rank.group),
            reduction: reduction(config, rank),
            accumulation: accumulation(session),
            optimiser,
        });
        let mut training = Training {
            rank,
            rate: learning_rate(session, &plan),
            plan,
            check_every: config.distributed.check_every_steps,
            max_steps: config.train.max_steps,
            max_bad_images: config.data.max_bad_images,
            loss: &|epoch| session.loss(epoch),
            metrics: record.metrics.as_mut(),
            reporter,
        };
        let every = config.eval.every_epochs;
        training.run(model, &mut stepper, loader, |epoch, step, reporter| {
            if every == 0 || (epoch + 1) % every != 0 {
                return Ok(None);
            }
            let evaluated = evaluation(session, rank).run(rank, reporter)?;
            let summary = summarise(&evaluated, session)?;
            let (split, seconds) = ("test".to_owned(), evaluated.seconds);
            Ok(Some(EvalRecord { epoch: epoch + 1, step, split, summary, seconds }))
        })
    }

    fn result(
        &self,
        session: &Session,
        trained: &Trained,
        evaluated: Evaluated,
        summary: Summary,
        start: Instant,
    ) -> Result<RunResult, Failure> {
        let (config, names) = (&session.config, &self.resolved.names);
        let frozen_fingerprint = session.pass().frozen_fingerprint()?;
        let count = |shape: &Vec<i64>| shape.iter().product::<i64>() as u64;
        let trainable_parameters = session.model.trainables().shapes().map(|(_, shape)| count(&shape)).sum();
        let per_class = ClassResult::of_all(&session.class_names, &session.train_counts(), &evaluated.counts);
        let speed = trained.samples as f64 / trained.elapsed.as_secs_f64();
        Ok(RunResult {
            data: names.data.clone(),
            model: names.model.clone(),
            method: names.method.clone(),
            seed: config.train.seed,
            world_size: self.rank.world_size(),
            device: if self.rank.device == Device::Cpu { "cpu".to_owned() } else { "cuda".to_owned() },
            precision: config.train.precision.to_string(),
            filter: config.model.filter.to_string(),
            weights_fingerprint: session.weights_fingerprint.clone(),
            frozen_fingerprint,
            summary,
            trainable_parameters,
            images_per_second: (trained.steps > 0).then_some(speed),
            seconds: start.elapsed().as_secs_f64(),
            bad_images: trained.bad_images,
            per_class: per_class.map_err(Failure::run)?,
            predictions: self.predictions.map(|_| evaluated.predictions),
        })
    }

    /// Rank 0's files of a finished run.
    fn write(
        &self,
        session: &Session,
        tensors: &[(String, Tensor)],
        result: &RunResult,
        folder: Option<&RunFolder>,
    ) -> Result<(), Failure> {
        let Some(folder) = folder else { return Ok(()) };
        let names = &self.resolved.names;
        let metadata = [
            ("data", names.data.clone()),
            ("model", names.model.clone()),
            ("method", names.method.clone()),
            (FINGERPRINT_KEY, session.weights_fingerprint.clone()),
        ];
        let metadata: BTreeMap<String, String> =
            metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let kind = session.model.precision().parameters;
        let kind = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        trained::write(&folder.final_weights(), tensors, kind, metadata).map_err(Failure::run)?;
        if let (Some(path), Some(classes)) = (self.predictions, &result.predictions) {
            write_predictions(path, classes)?;
        }
        result.write(folder.path()).map_err(Failure::run)
    }
}

enum Work {
    Done(Box<RunResult>),
    Stopped(Outcome),
}

fn load(file: &Path, session: &Session, backbone: Option<&str>) -> Result<(), Failure> {
    let file = TrainedFile::read(file).map_err(Failure::input)?;
    file.load_into(session.model.trainables(), backbone).map_err(Failure::input)
}

/// The evaluation of the test set that a session's configuration describes.
pub fn evaluation<'a>(session: &'a Session, rank: &Rank) -> Evaluation<'a> {
    Evaluation {
        pass: session.pass(),
        classifier: session.classifier(rank, session.config.eval.batch_size),
        loader: session.loader(session.test_view(), BadImages::Stop, rank),
        split: Arc::clone(&session.test),
        classes: session.class_names.len(),
        batch_size: session.config.eval.batch_size,
    }
}

/// Percentages from counts.
pub fn summarise(evaluated: &Evaluated, session: &Session) -> Result<Summary, Failure> {
    Summary::new(&evaluated.counts, &session.train_counts()).map_err(Failure::run)
}

fn write_predictions(path: &Path, classes: &[i64]) -> Result<(), Failure> {
    let lines: Vec<String> = classes.iter().map(ToString::to_string).collect();
    let text = lines.join("\n") + "\n";
    let written = launcher::protocol::write_atomically(path, text.as_bytes());
    written
        .map_err(|error| Failure::run(format!("cannot write the predictions `{}`: {error}", path.display())))
}

fn accumulation(session: &Session) -> Accumulation {
    let train = &session.config.train;
    match train.accumulation {
        AccumulationName::Exact => Accumulation::Exact,
        AccumulationName::Official => {
            Accumulation::Official { micro_batches: train.batch_size.div_ceil(train.micro_batch_size) }
        }
    }
}

fn learning_rate(session: &Session, plan: &Plan) -> LearningRate {
    let train = &session.config.train;
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

fn progress_plan(session: &Session, rank: &Rank) -> ProgressPlan {
    let train = &session.config.train;
    let all = session.plan(rank).total_steps();
    let steps = if train.max_steps > 0 { all.min(train.max_steps) } else { all };
    ProgressPlan { epochs: train.epochs, steps, steps_done: 0, steps_per_line: 0 }
}

/// Rank 0's running record: metrics and status. On other ranks it does nothing.
struct Recorder {
    metrics: Option<MetricsWriter>,
    status: Option<(Status, PathBuf)>,
}

impl Recorder {
    fn open(folder: Option<&RunFolder>, rank: &Rank) -> Result<Self, Failure> {
        let opened = agreed(&rank.control, || {
            let Some(folder) = folder else { return Ok(None) };
            let metrics = MetricsWriter::create(&folder.metrics()).map_err(Failure::input)?;
            let mut status = Status::starting(rank.world_size());
            status.write(folder.path()).map_err(Failure::input)?;
            Ok(Some((metrics, status, folder.path().to_owned())))
        })?;
        Ok(match opened {
            None => Self { metrics: None, status: None },
            Some((metrics, status, path)) => Self { metrics: Some(metrics), status: Some((status, path)) },
        })
    }

    fn phase(&mut self, phase: Phase) -> Result<(), Failure> {
        let Some((status, path)) = &mut self.status else { return Ok(()) };
        status.phase = phase;
        status.write(path).map_err(Failure::run)
    }

    fn evaluation(&mut self, evaluation: EvalRecord) -> Result<(), Failure> {
        if let Some((status, _)) = &mut self.status {
            (status.epoch, status.step) = (evaluation.epoch, evaluation.step);
        }
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        metrics.append(&Record::Eval(evaluation)).map_err(Failure::run)
    }

    /// The last word: how the run ended. That this cannot be written must not hide why.
    fn end(&mut self, result: &Result<Work, Failure>) {
        if let Some(metrics) = &mut self.metrics
            && let Err(error) = metrics.flush()
        {
            tracing::error!("{error}");
        }
        let Some((status, path)) = &mut self.status else { return };
        match result {
            Ok(Work::Done(_)) => status.end(Outcome::Done, None),
            Ok(Work::Stopped(outcome)) => status.end(*outcome, Some("stopped on request".to_owned())),
            Err(failure) => status.end(failure.outcome, Some(failure.message.clone())),
        }
        if let Err(error) = status.write(path) {
            tracing::error!("{error}");
        }
    }
}

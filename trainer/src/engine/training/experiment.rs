//! One run from configuration to result: session, run folder, training, evaluation, files.

use crate::config::{AttentionName, Config, FrozenProductsName, MicroBatchSize, Resolved};
use crate::engine::eval::evaluate::EvaluationCounts;
use crate::engine::eval::kept_logits::KeptLogits;
use crate::engine::eval::thumbnails;
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::memory::peaks_of_all_ranks;
use crate::engine::rank::Rank;
use crate::engine::setup::session::{Session, SessionPurpose};
use crate::engine::setup::trained_weights::TrainedWeights;
use crate::engine::training::progress::{Progress, RunState};
use crate::engine::training::restoring::{RestoredRun, check, open_folder};
use crate::engine::training::resume::{Resume, ResumeDecision, ResumePoint, ResumeRequest};
use crate::engine::training::run_log::RunLog;
use crate::engine::training::training_run::{TrainingFinish, TrainingRun, eval_record, summarise};
use crate::engine::writable;
use crate::run::{
    Claim, ClassResult, Evaluated, Logging, MOST_MISTAKES, MetricsRecord, ProgressOutput, RunDestination,
    RunFolder, RunResult, RunStart, StopRequest, Summary, final_status, read_metrics, resume_command, say,
    write_evaluation,
};
use protocol::evaluation::EvaluationRecord;
use protocol::{Outcome, Phase, Status, layout};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run: its configuration, destination and output.
pub struct Experiment<'a> {
    /// The configuration.
    pub resolved: &'a Resolved,
    /// This process.
    pub rank: &'a Rank,
    /// This rank's log.
    pub logging: &'a Logging,
    /// Destination of the run folder; none for an evaluation that only prints.
    pub place: Option<RunDestination>,
    /// The checkpoint to resume from.
    pub resume: ResumeRequest,
    /// Trained tensors to start from, instead of the first values.
    pub weights: Option<&'a Path>,
    /// File for the predicted classes, one per line.
    pub predictions: Option<&'a Path>,
    /// Where the logits of the last evaluation are kept, on request.
    pub kept: Option<&'a KeptLogits>,
    /// How progress is shown.
    pub output: ProgressOutput,
}

/// How a run ended.
pub enum RunEnd {
    /// With a result, the same on every rank, and the folder that contains it.
    Done(Box<RunResult>, PathBuf),
    /// The run had already finished; its result is in the folder.
    Finished(PathBuf),
    /// Stopped on request before its end.
    Stopped(Outcome),
}

impl Experiment<'_> {
    /// Trains and evaluates. Errors in the input are detected before a run folder exists.
    pub fn run(&mut self) -> Result<RunEnd, Failure> {
        let result = self.run_all();
        if result.as_ref().is_err_and(|failure| !failure.common) {
            self.rank.stay_watched();
        }
        result
    }

    fn run_all(&mut self) -> Result<RunEnd, Failure> {
        let start = Instant::now();
        let found = match self.decide()? {
            ResumeDecision::Finished(folder) => {
                self.confirm(&folder);
                return Ok(RunEnd::Finished(folder));
            }
            ResumeDecision::Fresh => None,
            ResumeDecision::GoOn(found) => Some(*found),
        };
        let state = self.share_state(found.as_ref())?;
        let predictions = self.predictions.filter(|_| self.rank.leads());
        agreed(&self.rank.control, || {
            predictions.map_or(Ok(()), |path| writable::check("--predictions", path))
        })?;
        self.rank.begin("init");
        let open = |path| TrainedWeights::open(path, &self.resolved.config, self.rank);
        let trained = self.weights.map(open).transpose()?;
        let purpose = match (self.weights, &state) {
            (Some(_), _) => SessionPurpose::Evaluate,
            (None, Some(_)) => SessionPurpose::Resume,
            (None, None) => SessionPurpose::Train,
        };
        let session = self.session(purpose, state.as_ref())?;
        if let Some(state) = &state {
            // Before any file of the run is changed.
            let tensors = found.as_ref().map(|found| found.snapshot.tensors.as_slice());
            check(&session, state, tensors, self.rank)?;
        }
        self.print_notes(&session.notes);
        if let Some(trained) = &trained {
            trained.load_into(&session, self.rank)?;
        }
        let (folder, path) = self.open_folder(found.as_ref(), &session)?;
        if let Some(path) = &path {
            final_status::set_folder(path);
            let trains = self.weights.is_none();
            self.rank.stopping.set_resume(resume_command(path).filter(|_| trains));
        }
        let restored =
            state.map(|state| RestoredRun { state, tensors: found.map(|found| found.snapshot.tensors) });
        let result = self.recorded(&session, start, folder.as_ref(), restored);
        if let (Err(Failure { outcome: Outcome::WrongInput, .. }), Some(folder)) = (&result, folder) {
            // The user can correct the command and run it again.
            folder.abandon();
        }
        match result? {
            ExperimentWork::Stopped(request, _) => Ok(RunEnd::Stopped(request.outcome())),
            ExperimentWork::Done(result) => Ok(RunEnd::Done(result, path.unwrap_or_default())),
        }
    }

    /// Opens the session. A run that resumes keeps what it found for `auto`, on which its rounding depends.
    fn session(&self, purpose: SessionPurpose, state: Option<&RunState>) -> Result<Session, Failure> {
        let mut resolved = self.resolved.clone();
        if let Some(state) = state {
            let theirs = Config::from_run_folder(&state.identity.config).map_err(Failure::input)?;
            let ours = &mut resolved.config.train;
            if ours.micro_batch_size == MicroBatchSize::Auto {
                ours.micro_batch_size = theirs.train.micro_batch_size;
            }
            if ours.attention == AttentionName::Auto {
                ours.attention = theirs.train.attention;
            }
            if ours.frozen_products == FrozenProductsName::Auto {
                ours.frozen_products = theirs.train.frozen_products;
            }
        }
        Session::open(&resolved, self.rank, purpose, &|note| self.print_notes(&[note.to_owned()]))
    }

    /// The configuration with what `auto` stands for in this run.
    fn settled(&self, session: &Session) -> Resolved {
        let mut resolved = self.resolved.clone();
        let (ours, found) = (&mut resolved.config.train, &session.config.train);
        ours.micro_batch_size = found.micro_batch_size;
        ours.attention = found.attention;
        ours.frozen_products = found.frozen_products;
        resolved
    }

    /// Runs the experiment, with its first and its final status in the folder.
    fn recorded(
        &mut self,
        session: &Session,
        start: Instant,
        folder: Option<&RunFolder>,
        restored: Option<RestoredRun>,
    ) -> Result<ExperimentWork, Failure> {
        let mark = restored.as_ref().map(|restored| restored.state.mark());
        let mut record = RunLog::open(folder, self.rank, mark, session.config.train.tensorboard)?;
        let result = self.work(session, start, folder, &mut record, restored);
        let (outcome, message) = match &result {
            Ok(ExperimentWork::Done(_)) => (Outcome::Done, None),
            Ok(ExperimentWork::Stopped(request, step)) => {
                let how = format!("and saved after step {step}");
                (request.outcome(), Some(self.rank.stopping.words(*request, &how)))
            }
            Err(failure) => (failure.outcome, Some(failure.message.clone())),
        };
        record.end(outcome, message.as_deref());
        result
    }

    /// A run may have been killed between its result and its final status.
    fn confirm(&self, folder: &Path) {
        let Ok(mut status) = Status::read(folder) else { return };
        if !self.rank.leads() || status.phase == Phase::Done {
            return;
        }
        // The new owner of the folder writes its status.
        let Ok(_claim) = Claim::take(folder) else { return };
        status.end(Outcome::Done, None);
        // Its last heartbeat may be from an earlier step.
        let metrics = read_metrics(&folder.join(layout::METRICS)).unwrap_or_default();
        if let Some(MetricsRecord::Eval(last)) = metrics.records.last() {
            (status.epoch, status.step) = (last.epoch, last.step);
        }
        if let Err(error) = status.write(folder) {
            tracing::warn!("{error}");
        }
    }

    /// Rank 0 searches for the checkpoint to resume from; every rank reports its errors.
    fn decide(&self) -> Result<ResumeDecision, Failure> {
        let Some(place) = &self.place else { return Ok(ResumeDecision::Fresh) };
        let leads = self.rank.leads();
        let decision = agreed(&self.rank.control, || {
            if leads { self.resume.decide(place, self.resolved) } else { Ok(ResumeDecision::Fresh) }
        })?;
        let finished = match &decision {
            ResumeDecision::Finished(folder) => folder.display().to_string(),
            _ => String::new(),
        };
        let finished = self.rank.control.broadcast(finished.into_bytes(), 0)?;
        if finished.is_empty() {
            return Ok(decision);
        }
        Ok(ResumeDecision::Finished(PathBuf::from(String::from_utf8_lossy(&finished).into_owned())))
    }

    /// Broadcasts the state that rank 0 found.
    fn share_state(&self, found: Option<&ResumePoint>) -> Result<Option<RunState>, Failure> {
        let encoded = found.map(|found| serde_json::to_vec(&found.snapshot.state)).transpose();
        let bytes = self.rank.control.broadcast(encoded.map_err(Failure::run)?.unwrap_or_default(), 0)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(Failure::run)
    }

    fn print_notes(&self, notes: &[String]) {
        for note in notes.iter().filter(|_| self.rank.leads() && self.output != ProgressOutput::Quiet) {
            say(note);
        }
    }

    /// Rank 0 creates or reopens the folder and locks it; every rank receives its path and logs into it.
    fn open_folder(
        &self,
        found: Option<&ResumePoint>,
        session: &Session,
    ) -> Result<(Option<RunFolder>, Option<PathBuf>), Failure> {
        let Some(place) = &self.place else { return Ok((None, None)) };
        let leads = self.rank.leads();
        let folder = agreed(&self.rank.control, || {
            let text = self.settled(session).to_toml();
            let open = || match found {
                Some(found) => open_folder(place, found, &text, self.start(place)),
                None => RunFolder::create(place, &text, self.start(place)).map_err(Failure::of_folder),
            };
            leads.then(open).transpose()
        })?;
        let own = folder.as_ref().map(|folder| folder.path().display().to_string()).unwrap_or_default();
        let path = self.rank.control.broadcast(own.into_bytes(), 0)?;
        let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
        let logs = path.join(layout::LOGS);
        agreed(&self.rank.control, || self.logging.attach(&logs).map_err(Failure::of_folder))?;
        Ok((folder, Some(path)))
    }

    /// A restarted job may find the files that it left before its first checkpoint.
    fn start(&self, place: &RunDestination) -> RunStart {
        let goes_on = self.resume.from == Resume::Auto || self.resume.restarted;
        if goes_on && place.latest().is_some() { RunStart::Again } else { RunStart::Fresh }
    }

    fn work(
        &mut self,
        session: &Session,
        start: Instant,
        folder: Option<&RunFolder>,
        record: &mut RunLog,
        restored: Option<RestoredRun>,
    ) -> Result<ExperimentWork, Failure> {
        let trains = session.config.train.epochs > 0 && self.weights.is_none();
        let names = &self.resolved.names;
        let run =
            TrainingRun { session, rank: self.rank, output: self.output, folder, names, kept: self.kept };
        let trained = if trains {
            run.train(self.settled(session).to_toml(), record, restored)?
        } else {
            run.evaluate_only(record)?
        };
        let evaluated = match trained.end {
            TrainingFinish::Evaluated(evaluated) => evaluated,
            TrainingFinish::Stopped(request) => {
                return Ok(ExperimentWork::Stopped(request, trained.progress.steps));
            }
        };
        // From here on, a request to stop has no effect: the run finishes.
        self.rank.stopping.acknowledge();
        let summary = summarise(&evaluated, session)?;
        let progress = &trained.progress;
        let after = (progress.epoch, progress.steps);
        record.evaluation(eval_record(session, after, summary.clone(), evaluated.seconds));
        let details = folder.map(|folder| details(session, &evaluated, folder));
        let result = self.result(session, &trained.progress, evaluated, summary, start)?;
        // A result marks the run as finished, so everything else must be written before it.
        agreed(&self.rank.control, || {
            record.secure_metrics()?;
            if let Some((folder, details)) = folder.zip(details.as_ref()) {
                folder.check().map_err(Failure::run)?;
                write_evaluation(details, folder.path()).map_err(Failure::run)?;
            }
            self.write(&result, folder)
        })?;
        Ok(ExperimentWork::Done(Box::new(result)))
    }

    fn result(
        &self,
        session: &Session,
        progress: &Progress,
        evaluated: EvaluationCounts,
        summary: Summary,
        start: Instant,
    ) -> Result<RunResult, Failure> {
        let (config, names) = (&session.config, &self.resolved.names);
        session.frozen.check(&session.model, self.rank, progress.steps)?;
        let frozen_fingerprint = session.pass().frozen_fingerprint()?;
        let count = |shape: &Vec<i64>| shape.iter().product::<i64>() as u64;
        let trainable_parameters = session.model.trainables().shapes().map(|(_, shape)| count(&shape)).sum();
        let per_class = ClassResult::of_all(&session.class_names, &session.train_counts(), &evaluated.counts)
            .map_err(Failure::run)?;
        let speed = progress.samples as f64 / progress.seconds;
        Ok(RunResult {
            data: names.data.clone(),
            model: names.model.clone(),
            method: names.method.clone(),
            seed: config.train.seed,
            world_size: self.rank.world_size(),
            device: self.rank.device_name().to_owned(),
            precision: config.train.precision.to_string(),
            filter: config.model.filter.to_string(),
            weights_fingerprint: session.weights_fingerprint.clone(),
            frozen_fingerprint,
            evaluation: session.views(),
            summary,
            trainable_parameters,
            images_per_second: (progress.steps > 0).then_some(speed),
            gpu_memory: peaks_of_all_ranks(self.rank)?,
            seconds: start.elapsed().as_secs_f64(),
            bad_images: progress.left_out_images.count(),
            absent_classes: ClassResult::absent(&per_class),
            groups: config.eval.limits(),
            per_class,
            predictions: self.predictions.map(|_| evaluated.predictions),
            calibration: None,
        })
    }

    /// Rank 0 writes the result if there is a folder, and the predictions if they were requested.
    fn write(&self, result: &RunResult, folder: Option<&RunFolder>) -> Result<(), Failure> {
        let predictions = self.predictions.zip(result.predictions.as_ref());
        if let Some((path, classes)) = predictions.filter(|_| self.rank.leads()) {
            write_predictions(path, classes)?;
        }
        let Some(folder) = folder else { return Ok(()) };
        folder.check().map_err(Failure::run)?;
        result.write(folder.path()).map_err(Failure::run)
    }
}

/// What `evaluation.json` tells; with the pictures of mistakes, which are written here.
fn details(session: &Session, evaluated: &EvaluationCounts, folder: &RunFolder) -> EvaluationRecord {
    let (split, _) = session.evaluated();
    let pictures = session.config.eval.thumbnails as usize;
    let mut record = Evaluated {
        predictions: &evaluated.predictions,
        confidences: &evaluated.confidences,
        labels: split.labels(),
        train_counts: &session.train_counts(),
        limits: session.config.eval.limits(),
    }
    .record(pictures.max(MOST_MISTAKES), |image| split.name(image));
    thumbnails::write(&mut record, split, pictures, folder);
    record
}

enum ExperimentWork {
    Done(Box<RunResult>),
    Stopped(StopRequest, u64),
}

fn write_predictions(path: &Path, classes: &[i64]) -> Result<(), Failure> {
    let lines: Vec<String> = classes.iter().map(ToString::to_string).collect();
    let text = lines.join("\n") + "\n";
    let written = protocol::write_atomically(path, text.as_bytes());
    written
        .map_err(|error| Failure::run(format!("cannot write the predictions `{}`: {error}", path.display())))
}

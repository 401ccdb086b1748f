//! Our own side: steps on one batch, and the matrix products of a step alone.

use crate::aten;
use crate::bench::collectives::settle;
use crate::bench::memory::{Resident, forget_peak};
use crate::config::Resolved;
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::memory::peaks_of_all_ranks;
use crate::engine::rank::Rank;
use crate::engine::setup::session::{Session, SessionPurpose};
use crate::engine::step::local_batch::LocalBatch;
use crate::engine::step::scalar_row::StepFlags;
use crate::engine::step::stepper::Stepper;
use crate::engine::training::training_run::parts;
use crate::model::Model;
use crate::model::block::OutputRows;
use crate::weights::trained;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad};

/// Rows of the products whose rate is measured: those of eight images.
const IMAGES: i64 = 8;
/// Measurements of a product, of which the fastest counts.
const TIMES: usize = 3;

/// Writes what the peers read into `folder`, and answers each line of standard input, a number of steps, with their times.
pub fn serve(resolved: &Resolved, rank: &Rank, folder: &Path) -> Result<(), Failure> {
    if rank.world_size() > 1 {
        let ranks = rank.world_size();
        let message = format!("`--peer` compares one rank, found {ranks}\nhint: start it without mpirun");
        return Err(Failure::input(message).on_all_ranks());
    }
    let session = Session::open(resolved, rank, SessionPurpose::Train, &|_| ())?;
    let work = one_batch(&session, rank)?;
    share(&session, &work, folder)?;
    let plan = session.plan(rank);
    let classifier = session.classifier(rank, plan.most_at_once());
    let mut stepper = Stepper::new(parts(&session, rank, &classifier));
    let bound = Bound::of(&session.model);
    forget_peak();
    let outcome = stepper.reduced_gradient(&work, StepFlags::default())?;
    let (fastest, plain) = bound.measure();
    say(&json!({
        "loss": outcome.loss,
        "batch": plan.batch_size,
        "bound_images_per_second": fastest,
        "plain_bound_images_per_second": plain,
    }))?;
    for line in stdin().lock().lines() {
        let line = line.map_err(Failure::run)?;
        let steps: usize = line
            .trim()
            .parse()
            .map_err(|_| Failure::input(format!("a side expects a number of steps, found `{line}`")))?;
        let mut seconds = Vec::new();
        for _ in 0..steps {
            let start = Instant::now();
            let outcome = stepper.reduced_gradient(&work, StepFlags::default())?;
            stepper.update(&outcome, 0.0);
            settle(rank.device);
            seconds.push(start.elapsed().as_secs_f64());
        }
        let gpu = peaks_of_all_ranks(rank)?.map(|memory| memory.peak_allocated_bytes);
        let peak = gpu.or_else(|| Resident::read().map(|memory| memory.peak)).unwrap_or_default();
        let (fastest, plain) = bound.measure();
        say(&json!({
            "seconds": seconds,
            "peak_bytes": peak,
            "bound_images_per_second": fastest,
            "plain_bound_images_per_second": plain,
        }))?;
    }
    Ok(())
}

fn say(answer: &serde_json::Value) -> Result<(), Failure> {
    protocol::terminal::print_json(&format!("{answer}\n")).map(drop).map_err(Failure::run)
}

/// The first batch of training.
fn one_batch(session: &Session, rank: &Rank) -> Result<LocalBatch, Failure> {
    let plan = session.plan(rank);
    let loader = session.loader(session.train_view(), rank);
    let loader =
        agreed(&rank.control, || loader.start(Arc::clone(&session.train), plan.requests(0, 0), rank.device));
    let batch = loader?.next().ok_or_else(|| Failure::input("the training data has no image"))?;
    Ok(plan.work((0, 0), Some(&batch.map_err(Failure::run)?)))
}

/// The batch, the initial trained tensors and the settings, for the peers.
fn share(session: &Session, work: &LocalBatch, folder: &Path) -> Result<(), Failure> {
    let parts: Vec<_> = work.shards.iter().flatten().collect();
    let joined = |of: &dyn Fn(usize) -> Tensor| Tensor::cat(&(0..parts.len()).map(of).collect::<Vec<_>>(), 0);
    let counts: Vec<f64> = session.train_counts().iter().map(|&count| count as f64).collect();
    let counts = Tensor::from_slice(&counts);
    let prior = (&counts / counts.sum(Kind::Double)).log().to_kind(Kind::Float);
    let batch = [
        ("images", joined(&|n| parts[n].bytes.to_device(Device::Cpu))),
        ("labels", joined(&|n| parts[n].labels.to_device(Device::Cpu))),
        ("log_prior", prior),
    ];
    Tensor::write_safetensors(&batch, folder.join("batch.safetensors")).map_err(Failure::run)?;
    let trainables = session.model.trainables();
    let tensors: Vec<_> =
        trainables.iter().map(|(name, tensor)| (name.to_owned(), tensor.to_device(Device::Cpu))).collect();
    trained::write(&folder.join("trained.safetensors"), &tensors, Kind::Float, BTreeMap::new())
        .map_err(Failure::run)?;
    let train = &session.config.train;
    let settings = json!({
        "weights": session.config.model.weights,
        "threads": tch::get_num_threads(),
        "device": if session.model.device().is_cuda() { "cuda" } else { "cpu" },
        "momentum": train.momentum,
        "weight_decay": train.weight_decay,
    });
    std::fs::write(folder.join("settings.json"), settings.to_string()).map_err(Failure::run)
}

/// The matrix products of a step: those of the frozen layers and of attention, forward and backward. The products of
/// tuner and head are left out.
struct Bound {
    /// Inputs and outputs of the layers of a block.
    layers: [[i64; 2]; 4],
    rows: i64,
    kind: Kind,
    device: Device,
    flops_per_image: f64,
}

impl Bound {
    fn of(model: &Model) -> Self {
        let shape = model.tower().shape();
        let (width, hidden) = (shape.width, shape.hidden);
        let layers = [[width, 3 * width], [width, width], [width, hidden], [hidden, width]];
        Self {
            layers,
            rows: IMAGES * shape.tokens,
            kind: model.precision().compute,
            device: model.device(),
            flops_per_image: flops_per_image(model),
        }
    }

    /// Images a second at the rate of the products of a block: the best one, and that of libtorch by itself.
    fn measure(&self) -> (f64, f64) {
        let (mut flops, mut fastest, mut plain) = (0.0, 0.0, 0.0);
        for [inputs, outputs] in self.layers {
            flops += 2.0 * (self.rows * inputs * outputs) as f64;
            let (by_libtorch, by_one_dnn) = self.seconds(inputs, outputs);
            plain += by_libtorch;
            fastest += by_libtorch.min(by_one_dnn);
        }
        let images_per_second = |seconds: f64| flops / seconds / self.flops_per_image;
        (images_per_second(fastest), images_per_second(plain))
    }

    /// Seconds of one product: as libtorch computes it by itself, and by oneDNN.
    fn seconds(&self, inputs: i64, outputs: i64) -> (f64, f64) {
        let random = |shape: [i64; 2]| Tensor::randn(shape, (self.kind, self.device));
        let (x, weight) = (random([self.rows, inputs]), random([outputs, inputs]));
        let packed = if self.device == Device::Cpu { aten::packed(&weight, self.rows).ok() } else { None };
        let plain = || drop(no_grad(|| x.linear(&weight, None::<&Tensor>)));
        let as_it_lies = || drop(aten::product(&x, &weight, None));
        let by_packed = || drop(packed.as_ref().map(|packed| aten::product(&x, packed, None)));
        let timed = |work: &dyn Fn()| {
            let once = || {
                let start = Instant::now();
                work();
                settle(self.device);
                start.elapsed().as_secs_f64()
            };
            once();
            (0..TIMES).map(|_| once()).fold(f64::INFINITY, f64::min)
        };
        let of_one_dnn =
            if packed.is_some() { timed(&by_packed).min(timed(&as_it_lies)) } else { f64::INFINITY };
        (timed(&plain), of_one_dnn)
    }
}

/// Operations of the products of one image. A last block of which one token is read computes only that token after its keys
/// and values. The gradient of the input of a frozen layer costs as much as its output. Attention has two products forward and
/// four backward. The first tuned block is counted without a backward pass, because a tuner may need none of its products.
fn flops_per_image(model: &Model) -> f64 {
    let shape = model.tower().shape();
    let [tokens, width, hidden] = [shape.tokens, shape.width, shape.hidden].map(|n| n as f64);
    let patches = shape.patches() as f64 * 3.0 * (shape.patch * shape.patch) as f64 * width;
    let block = |queries: f64| {
        let layers = 2.0 * tokens * width * width + queries * (2.0 * width * width + 2.0 * width * hidden);
        (layers, 2.0 * queries * tokens * width)
    };
    let mut products = patches;
    for index in 0..shape.layers {
        let last = index + 1 == shape.layers && model.tower().last_rows() == OutputRows::First;
        let (layers, attention) = block(if last { 1.0 } else { tokens });
        products += layers + attention;
        if index > model.first_tuned() {
            products += layers + 2.0 * attention;
        }
    }
    2.0 * products
}

//! Checks laws 2 and 3 on several ranks, with many random cases per start: `laws_over_ranks SEED`.
//!
//! Law 3: for random data sets, samplers, batches and resume points, the ranks together receive the same samples as one
//! process. Law 2: for random test sets, the counts over all ranks equal those of one process.

use collectives::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use trainer::config::{Config, DistributedOptions, Selection};
use trainer::data::order::{Order, Sampler};
use trainer::data::source::Split;
use trainer::engine::eval::bad_images::BadImages;
use trainer::engine::failure::Failure;
use trainer::engine::rank::Rank;
use trainer::engine::setup::device::DeviceChoice;
use trainer::engine::setup::session::{Session, SessionPurpose};
use trainer::engine::step::batch_plan::BatchPlan;
use trainer::engine::training::replica_check::check_agreement;
use trainer::engine::training::stopping::StopListener;
use trainer::engine::training::training_run::evaluation;
use trainer::run::{ClassCounts, ProgressOutput, ProgressPlan, Reporter};

const ORDERS: usize = 300;
const TEST_SETS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed: u64 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let world = World::start()?;
    // Only replicated tensors are compared over ranks.
    let set = vec!["head.placement=replicated".to_owned()];
    let selection = Selection { data: "demo".into(), model: "demo".into(), method: "lift".into(), set };
    let mut resolved = Config::resolve(&selection)?;
    resolved.config.train.threads = 1;
    let options: &DistributedOptions = &resolved.config.distributed;
    let rank = Rank::open(&world, DeviceChoice::Cpu, 1, StopListener::start()?, options)?;
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..ORDERS {
        check_order(&rank, &mut rng)?;
    }
    let session = Session::open(&resolved, &rank, SessionPurpose::Train, &|_| ())?;
    check_test_sets(&session, &rank, &mut rng)?;
    check_replica_check(&session, &rank)?;
    if rank.leads() {
        println!("{ORDERS} orders and {TEST_SETS} test sets are those of one process");
    }
    Ok(())
}

/// One random case: compares the requests of all ranks from a random step on, joined step by step, with the order.
fn check_order(rank: &Rank, rng: &mut StdRng) -> Result<(), Failure> {
    let classes = rng.random_range(1..40usize);
    let samples = rng.random_range(classes..400);
    let labels: Vec<u32> = (0..samples)
        .map(|i| if i < classes { i as u32 } else { rng.random_range(0..classes) as u32 })
        .collect();
    let (epochs, batch_size) = (rng.random_range(1..4u64), rng.random_range(1..97u64));
    let sampler = match rng.random_range(0..7) {
        0 => Sampler::Instance,
        1 => Sampler::ClassAware { samples_per_class: rng.random_range(1..5) },
        2 => Sampler::ClassBalanced,
        3 => Sampler::SquareRoot,
        4 => Sampler::RepeatFactor { threshold: 0.05 },
        5 => Sampler::Progressive { epochs },
        _ => Sampler::NShot { shots: rng.random_range(1..8) },
    };
    let order = Arc::new(Order::new(sampler, &labels, classes, rng.random()).map_err(Failure::run)?);
    let number = rank.number() as u64;
    let plan = BatchPlan {
        order: Arc::clone(&order),
        batch_size,
        epochs,
        micro_batch_size: 8,
        shards: rank.world_size() as u64,
        own: number..number + 1,
        most: 1,
    };
    let epoch = rng.random_range(0..epochs);
    let step = rng.random_range(0..plan.steps(epoch).max(1));
    for (at, request) in plan.requests(epoch, step).enumerate() {
        let own: Vec<u64> = request.items.iter().flat_map(|item| [item.position, item.sample]).collect();
        let parts = rank.control.all_gather(bytemuck::cast_slice(&own))?;
        let numbers =
            parts.iter().flat_map(|part| part.as_chunks().0).map(|bytes| u64::from_ne_bytes(*bytes));
        let joined: Vec<u64> = numbers.collect();
        let expected = positions_of_step(&order, &plan, (epoch, step), at as u64);
        assert_eq!(joined, expected, "step {at} after epoch {epoch}, step {step} of {sampler:?}");
    }
    Ok(())
}

/// Positions and samples of the step that is `ahead` steps after the given one, found by counting single steps.
fn positions_of_step(
    order: &Order,
    plan: &BatchPlan,
    (mut epoch, mut step): (u64, u64),
    ahead: u64,
) -> Vec<u64> {
    for _ in 0..ahead {
        step += 1;
        while step >= order.len(epoch).div_ceil(plan.batch_size) {
            (epoch, step) = (epoch + 1, 0);
        }
    }
    let start = step * plan.batch_size;
    let end = (start + plan.batch_size).min(order.len(epoch));
    (start..end).flat_map(|position| [position, order.sample_at(epoch, position)]).collect()
}

fn check_test_sets(session: &Session, rank: &Rank, rng: &mut StdRng) -> Result<(), Failure> {
    let plan = ProgressPlan { epochs: 0, steps: 0, steps_done: 0, steps_per_line: 0 };
    let mut reporter = Reporter::new(ProgressOutput::Quiet, plan);
    let mut evaluation = evaluation(session, rank);
    let whole = evaluation.run(rank, &mut reporter, &mut BadImages::default())?.predictions;
    for _ in 0..TEST_SETS {
        let len = rng.random_range(0..session.test.len().min(60));
        evaluation.batch.at_once = rng.random_range(1..32);
        let reader = Arc::clone(&session.test);
        let labels = session.test.labels()[..len].to_vec();
        evaluation.split = Arc::new(Split::from_parts(labels.clone(), Box::new(Prefix(reader))));
        let found = evaluation.run(rank, &mut reporter, &mut BadImages::default())?;
        let mut expected = ClassCounts::new(session.class_names.len());
        let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
        expected.add(&whole[..len], &labels).map_err(Failure::run)?;
        assert_eq!(found.predictions, whole[..len], "{len} images");
        assert_eq!(found.counts, expected, "{len} images");
    }
    Ok(())
}

/// Changes one value on the last rank, and checks that every rank reports that rank and the tensor.
fn check_replica_check(session: &Session, rank: &Rank) -> Result<(), Failure> {
    let trainables = session.model.trainables();
    check_agreement(trainables, rank, 1)?;
    let last = rank.world_size() - 1;
    let (name, range, ..) = trainables.layout().last().expect("there is a trainable tensor");
    if rank.number() == last {
        let mut number = trainables.flat().get(range.end - 1);
        let _ = tch::no_grad(|| number.g_add_scalar_(1e-3)).shallow_clone();
    }
    let found =
        check_agreement(trainables, rank, 2).map_or_else(|failure| failure.message, |()| String::new());
    let expected = format!("rank {last} has other values in `{name}`");
    assert!(last == 0 || found.starts_with(&expected), "{expected:?}, found {found:?}");
    Ok(())
}

/// An image reader that reads from another list, for a split that contains only its first images.
struct Prefix(Arc<Split>);

impl trainer::data::source::ImageReader for Prefix {
    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn read(&self, index: usize) -> Result<trainer::data::decode::RgbImage, trainer::data::DataError> {
        self.0.read(index)
    }
}

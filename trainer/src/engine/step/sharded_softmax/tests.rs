//! A softmax over classes in parts, on ranks that are threads, against the whole one under autograd.

use super::*;
use crate::model::losses::{Frequencies, LossContext, Losses, lade};
use crate::options::{Registry, Values};
use collectives::Pending;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use tch::{Device, Kind};

/// Ranks that are threads of this process. A softmax calls `all_reduce` alone.
struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    values: Mutex<Vec<Tensor>>,
    barrier: Barrier,
    size: usize,
}

impl Threads {
    /// What `work` gives on each rank.
    fn run<T: Send>(size: usize, work: impl Fn(&Self) -> T + Sync) -> Vec<T> {
        let empty = (0..size).map(|_| Tensor::new()).collect();
        let shared = Arc::new(Shared { values: Mutex::new(empty), barrier: Barrier::new(size), size });
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..size)
                .map(|rank| {
                    let group = Self { rank, shared: Arc::clone(&shared) };
                    scope.spawn(move || work(&group))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }
}

impl ProcessGroup for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn backend(&self) -> &'static str {
        "threads"
    }

    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError> {
        self.shared.values.lock().unwrap()[self.rank] = tensor.copy();
        self.shared.barrier.wait();
        let values = Tensor::stack(&self.shared.values.lock().unwrap(), 0);
        self.shared.barrier.wait();
        let result = match op {
            ReduceOp::Sum => values.sum_dim_intlist([0i64].as_slice(), false, values.kind()),
            ReduceOp::Max => values.amax([0i64].as_slice(), false),
            ReduceOp::Min => values.amin([0i64].as_slice(), false),
        };
        tensor.copy_(&result);
        Ok(())
    }

    fn start_all_reduce(&self, _: &Tensor, _: ReduceOp) -> Result<Pending, CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn start_all_gather(&self, _: &Tensor, _: &Tensor) -> Result<Pending, CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn broadcast(&self, _: &mut Tensor, _: usize) -> Result<(), CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn all_gather(&self, _: &Tensor, _: &mut Tensor) -> Result<(), CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn reduce_scatter(&self, _: &Tensor, _: &mut Tensor) -> Result<(), CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn barrier_within(&self, _: Duration) -> Result<(), CollectiveError> {
        unreachable!("no softmax calls it")
    }

    fn split(&self, _: usize, _: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        unreachable!("no softmax calls it")
    }
}

/// Seven classes over three ranks, one of them never seen in training, and two rows that hold no sample.
#[test]
fn every_loss_but_lade_is_the_same_on_sharded_classes() {
    const PARTS: [Range<i64>; 3] = [0..3, 3..5, 5..7];
    let frequencies = &|_| Frequencies::new(&[90.0, 40.0, 20.0, 0.0, 9.0, 4.0, 1.0]);
    let logits = (Tensor::arange(5 * 7, (Kind::Double, Device::Cpu)) * 1.7).sin().view([5, 7]) * 4.0;
    let labels = Tensor::from_slice(&[0_i64, 4, NO_SAMPLE, 6, NO_SAMPLE]);
    let sampled = Tensor::from_slice(&[0_i64, 1, 3]);
    for entry in Losses::METHODS.iter().filter(|entry| entry.word != lade::METHOD.word) {
        let build = || {
            (entry.make)(
                &Values::default(),
                &LossContext { frequencies, kind: Kind::Double, device: Device::Cpu },
            )
        };
        let whole = logits.copy().set_requires_grad(true);
        let expected = build().forward(&whole.index_select(0, &sampled), &labels.index_select(0, &sampled));
        expected.sum.backward();
        let inputs = Mutex::new((logits.copy(), labels.copy()));
        let found = Threads::run(3, |group| {
            let (logits, labels) = {
                let inputs = inputs.lock().unwrap();
                (inputs.0.copy(), inputs.1.copy())
            };
            let (own, loss) = (PARTS[group.rank].clone(), build());
            let logits = logits.narrow(1, own.start, own.end - own.start);
            let logits = loss.adjust(logits, &labels, &own);
            ShardedSoftmax { group, loss: loss.as_ref(), own }.losses(&logits, &labels).unwrap()
        });
        let gradients: Vec<_> = found.iter().map(|(_, gradient)| gradient).collect();
        let error = (Tensor::cat(&gradients, 1) - whole.grad()).abs().max().double_value(&[]);
        assert!(error < 1e-12, "{}: gradient differs by {error}", entry.word);
        for (losses, _) in &found {
            let error = (losses.sum(Kind::Double) - &expected.sum).abs().double_value(&[]);
            assert!(error < 1e-12, "{}: loss differs by {error}", entry.word);
        }
    }
}

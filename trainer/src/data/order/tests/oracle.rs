//! A plain one-process oracle: it walks whole runs from epoch 0 with lists and cursors, as a textbook sampler
//! would, and knows no position arithmetic. It shares the keyed draws with the code under test, nothing else.

use proptest::prelude::*;

use super::super::key::{Key, KeyPurpose, below, mix};
use super::super::permutation::Permutation;
use super::super::shard::{step_slice, steps_per_epoch};
use super::super::{Order, Sampler};

/// All epochs up to and including `last`, walked from the start.
fn walk(sampler: Sampler, labels: &[u32], classes: usize, seed: u64, last: u64) -> Vec<Vec<u64>> {
    let lists: Vec<Vec<u64>> =
        by_class(labels, classes).into_iter().filter(|list| !list.is_empty()).collect();
    let n = labels.len();
    let all: Vec<u64> = (0..n as u64).collect();
    let epochs = 0..=last;
    match sampler {
        Sampler::Instance => epochs.map(|e| shuffled(&all, instance_key(seed, e))).collect(),
        Sampler::ClassAware { samples_per_class } => {
            class_aware(&lists, samples_per_class as usize, seed, last)
        }
        Sampler::ClassBalanced => epochs.map(|e| balanced(&lists, n, seed, e)).collect(),
        Sampler::SquareRoot => unreachable!("drawn through a table; its distribution is tested instead"),
        Sampler::RepeatFactor { threshold } => {
            epochs.map(|e| repeated(&lists, n, threshold, seed, e)).collect()
        }
        Sampler::Progressive { epochs: total } => {
            let mixed = |e| {
                let t = if e == 0 { 0.0 } else { (e as f64 / (total.max(2) - 1) as f64).min(1.0) };
                let (a, b) = (shuffled(&all, instance_key(seed, e)), balanced(&lists, n, seed, e));
                let coin =
                    |p| Key::new(seed, KeyPurpose::Mixture).with(e).with(p).bits() as f64 / 2_f64.powi(64);
                (0..n).map(|p| if t >= 1.0 || coin(p as u64) < t { b[p] } else { a[p] }).collect()
            };
            epochs.map(mixed).collect()
        }
        Sampler::NShot { shots } => {
            let key = Key::new(seed, KeyPurpose::Shots);
            let mut kept: Vec<u64> = (0..)
                .zip(&lists)
                .flat_map(|(row, list)| shuffled(list, key.with(row)).into_iter().take(shots as usize))
                .collect();
            kept.sort_unstable();
            epochs.map(|e| shuffled(&kept, instance_key(seed, e))).collect()
        }
    }
}

fn by_class(labels: &[u32], classes: usize) -> Vec<Vec<u64>> {
    let mut lists = vec![Vec::new(); classes];
    (0..).zip(labels).for_each(|(sample, &label)| lists[label as usize].push(sample));
    lists
}

fn instance_key(seed: u64, epoch: u64) -> Key {
    Key::new(seed, KeyPurpose::Instance).with(epoch)
}

fn shuffled<T: Copy>(list: &[T], key: Key) -> Vec<T> {
    let permutation = Permutation::new(list.len() as u64, key);
    (0..list.len() as u64).map(|place| list[permutation.at(place) as usize]).collect()
}

/// A list that is gone through again and again, newly shuffled each time.
struct Cycle {
    list: Vec<u64>,
    key: Key,
    pass: u64,
    rest: Vec<u64>,
}

impl Cycle {
    fn new(list: Vec<u64>, key: Key) -> Self {
        Self { list, key, pass: 0, rest: Vec::new() }
    }

    fn next(&mut self) -> u64 {
        if self.rest.is_empty() {
            self.rest = shuffled(&self.list, self.key.with(self.pass));
            self.rest.reverse();
            self.pass += 1;
        }
        self.rest.pop().expect("a class has images")
    }
}

/// LIFT's rule: a visit takes `per_visit` images at once, of which the epoch's last one may use only some.
fn class_aware(lists: &[Vec<u64>], per_visit: usize, seed: u64, last: u64) -> Vec<Vec<u64>> {
    let len = lists.iter().map(Vec::len).max().unwrap_or(0) * lists.len();
    let pass = Key::new(seed, KeyPurpose::ClassPass);
    let mut classes = Cycle::new((0..lists.len() as u64).collect(), Key::new(seed, KeyPurpose::ClassCycle));
    let mut images: Vec<Cycle> =
        (0..).zip(lists).map(|(row, list)| Cycle::new(list.clone(), pass.with(row))).collect();
    let mut epochs = Vec::new();
    for _ in 0..=last {
        let mut epoch = Vec::new();
        while epoch.len() < len {
            let class = &mut images[classes.next() as usize];
            epoch.extend((0..per_visit).map(|_| class.next()));
        }
        epoch.truncate(len);
        epochs.push(epoch);
    }
    epochs
}

fn balanced(lists: &[Vec<u64>], n: usize, seed: u64, epoch: u64) -> Vec<u64> {
    let key = Key::new(seed, KeyPurpose::Draw).with(epoch);
    (0..n as u64)
        .map(|position| {
            let bits = key.with(position).bits();
            let list = &lists[below(bits, lists.len() as u64) as usize];
            list[below(mix(bits), list.len() as u64) as usize]
        })
        .collect()
}

/// Goes along the line of images and cuts off a slot whenever a grid point is passed.
fn repeated(lists: &[Vec<u64>], n: usize, threshold: f64, seed: u64, epoch: u64) -> Vec<u64> {
    let unit = 1 << 20;
    let key = Key::new(seed, KeyPurpose::RepeatOrder).with(epoch);
    let mut next_point = below(Key::new(seed, KeyPurpose::RepeatOffset).with(epoch).bits(), unit);
    let (mut end, mut slots) = (0, Vec::new());
    for (row, list) in (0..).zip(lists) {
        let frequency = list.len() as f64 / n as f64;
        let repeats = ((threshold / frequency).sqrt().max(1.0) * unit as f64).round() as u64;
        for sample in shuffled(list, key.with(row)) {
            end += repeats;
            while next_point < end {
                slots.push(sample);
                next_point += unit;
            }
        }
    }
    shuffled(&slots, key)
}

fn samplers() -> impl Strategy<Value = Sampler> {
    prop_oneof![
        Just(Sampler::Instance),
        (1_u32..9).prop_map(|samples_per_class| Sampler::ClassAware { samples_per_class }),
        (1_u32..9).prop_map(|samples_per_class| Sampler::ClassAware { samples_per_class }),
        Just(Sampler::ClassBalanced),
        (0.001_f64..=1.0).prop_map(|threshold| Sampler::RepeatFactor { threshold }),
        (1_u64..6).prop_map(|epochs| Sampler::Progressive { epochs }),
        (1_u32..12).prop_map(|shots| Sampler::NShot { shots }),
    ]
}

/// Labels with a long tail and often with classes that have no images.
fn labels() -> impl Strategy<Value = (Vec<u32>, usize)> {
    (1_usize..24, 1_usize..160, 0.3_f64..3.0).prop_flat_map(|(classes, samples, skew)| {
        let label = (0.0_f64..1.0).prop_map(move |u| (u.powf(skew) * classes as f64) as u32);
        (proptest::collection::vec(label, samples), Just(classes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The run that a world of ranks makes, stopped and resumed somewhere with another world, is the oracle's
    /// run.
    #[test]
    fn any_world_and_resume_point_gives_the_walked_run(
        (labels, classes) in labels(),
        sampler in samplers(),
        seed: u64,
        batch in 1_u64..50,
        (world, resumed_world) in (1_u64..9, 1_u64..9),
        epochs in 1_u64..5,
        resume in 0.0_f64..1.0,
    ) {
        let expected = walk(sampler, &labels, classes, seed, epochs - 1);
        let order = Order::new(sampler, &labels, classes, seed).expect("valid");
        let total: u64 = (0..epochs).map(|e| steps_per_epoch(order.len(e), batch)).sum();
        let resume_at = (resume * total as f64) as u64;
        let (mut step, mut slice) = (0, Vec::new());
        for (epoch, expected) in (0..).zip(&expected) {
            let len = order.len(epoch);
            prop_assert_eq!(len, expected.len() as u64);
            let mut trained = Vec::new();
            for step_in_epoch in 0..steps_per_epoch(len, batch) {
                // A resumed rank builds everything again and starts in the middle.
                let (order, world) = if step < resume_at {
                    (&order, world)
                } else {
                    (&Order::new(sampler, &labels, classes, seed).expect("valid"), resumed_world)
                };
                for rank in 0..world {
                    order.fill(epoch, step_slice(len, batch, step_in_epoch, world, rank), &mut slice);
                    trained.extend_from_slice(&slice);
                }
                step += 1;
            }
            prop_assert_eq!(&trained, expected);
        }
    }

    /// Single positions, asked in any order, are those of the walk.
    #[test]
    fn any_position_is_reached_without_walking(
        (labels, classes) in labels(),
        sampler in samplers(),
        seed: u64,
        asked in proptest::collection::vec((0_u64..4, 0.0_f64..1.0), 1..40),
    ) {
        let expected = walk(sampler, &labels, classes, seed, 3);
        let order = Order::new(sampler, &labels, classes, seed).expect("valid");
        for (epoch, place) in asked {
            let walked = &expected[epoch as usize];
            let position = (place * walked.len() as f64) as usize;
            prop_assert_eq!(order.sample_at(epoch, position as u64), walked[position]);
        }
    }
}

//! What each sampler promises, seen from outside.

use super::super::{Order, Sampler};
use super::statistics::{chi_squared, chi_squared_uniform};
use super::{SAMPLERS, class_counts, epoch, labels_of};

const TAIL: [u32; 8] = [90, 0, 40, 21, 20, 7, 2, 1];

fn order(sampler: Sampler, seed: u64) -> (Order, Vec<u32>) {
    let labels = labels_of(&TAIL);
    (Order::new(sampler, &labels, TAIL.len(), seed).expect("valid"), labels)
}

#[test]
fn classes_come_as_often_as_the_distribution_says() {
    for sampler in SAMPLERS {
        for e in 0..5 {
            let (mut seen, mut expected) = (vec![0; TAIL.len()], vec![0.0; TAIL.len()]);
            for seed in 0..400 {
                let (order, labels) = order(sampler, seed);
                let counts = class_counts(&epoch(&order, e), &labels, TAIL.len());
                let distribution = order.distribution(e);
                assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                for class in 0..TAIL.len() {
                    seen[class] += counts[class];
                    expected[class] += distribution[class] * order.len(e) as f64;
                }
            }
            // Not below: orders without replacement keep closer to their distribution than chance would.
            let score = chi_squared(&seen, &expected);
            assert!(score < 4.0, "{sampler:?}, epoch {e}: {score} sigma, {seen:?}, {expected:?}");
        }
    }
}

#[test]
fn images_of_a_class_come_equally_often() {
    for sampler in SAMPLERS {
        let mut seen = vec![0; labels_of(&TAIL).len()];
        for seed in 0..1500 {
            let (order, _) = order(sampler, seed);
            for sample in epoch(&order, seed % 5) {
                seen[sample as usize] += 1;
            }
        }
        let mut start = 0;
        for count in TAIL {
            let end = start + count as usize;
            let score = if count > 1 { chi_squared_uniform(&seen[start..end]) } else { 0.0 };
            assert!(score < 4.0, "{sampler:?}, the class of {count}: {score} sigma, {:?}", &seen[start..end]);
            start = end;
        }
    }
}

#[test]
fn seeds_and_epochs_have_orders_of_their_own() {
    for sampler in SAMPLERS {
        let (order, _) = order(sampler, 1);
        let (other, _) = super::behaviour::order(sampler, 2);
        assert_eq!(epoch(&order, 3), epoch(&order, 3));
        assert_ne!(epoch(&order, 3), epoch(&order, 4), "{sampler:?}");
        assert_ne!(epoch(&order, 3), epoch(&other, 3), "{sampler:?}");
    }
}

/// An order made again, asked for one position, or for a range, answers as the one that gave the epoch.
#[test]
fn lone_positions_and_ranges_agree_with_the_epoch() {
    let mut samples = Vec::new();
    for sampler in SAMPLERS {
        let (order, labels) = order(sampler, 6);
        let whole = epoch(&order, 2);
        let fresh = Order::new(sampler, &labels, TAIL.len(), 6).expect("valid");
        for position in (0..whole.len()).rev() {
            assert_eq!(fresh.sample_at(2, position as u64), whole[position], "{sampler:?}, {position}");
        }
        for start in (0..whole.len()).step_by(17) {
            let end = whole.len().min(start + 23);
            fresh.fill(2, start as u64..end as u64, &mut samples);
            assert_eq!(samples, whole[start..end], "{sampler:?}, {start}..{end}");
        }
    }
}

#[test]
fn instance_order_has_each_image_once() {
    for n in (1..50).chain([1000]) {
        let order = Order::new(Sampler::Instance, &vec![0; n], 1, 5).expect("valid");
        for e in 0..4 {
            let mut samples = epoch(&order, e);
            samples.sort_unstable();
            assert!(samples.into_iter().eq(0..n as u64));
        }
    }
}

#[test]
fn class_aware_visits_are_whole_and_cycles_complete() {
    let (order, labels) = order(Sampler::ClassAware { samples_per_class: 4 }, 8);
    assert_eq!(order.len(0), 90 * 7, "the empty class has no share");
    let classes: Vec<u32> = epoch(&order, 0).iter().map(|&sample| labels[sample as usize]).collect();
    let visits: Vec<u32> = classes.chunks(4).map(|visit| visit[0]).collect();
    assert!(classes.chunks(4).all(|visit| visit.iter().all(|class| *class == visit[0])));
    let mut cycles = std::collections::HashSet::new();
    for cycle in visits.chunks_exact(7) {
        let mut sorted = cycle.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 2, 3, 4, 5, 6, 7]);
        cycles.insert(cycle.to_vec());
    }
    assert!(cycles.len() > 15, "cycles are shuffled anew");
}

/// Within a class every pass has each image once, over the visits and the epochs.
#[test]
fn class_aware_passes_have_each_image_once() {
    let (order, labels) = order(Sampler::ClassAware { samples_per_class: 5 }, 8);
    assert_eq!(order.len(0) % 5, 0, "no visit is cut short");
    let run: Vec<u64> = (0..3).flat_map(|e| epoch(&order, e)).collect();
    for (class, count) in (0..).zip(TAIL).filter(|(_, count)| *count > 0) {
        let drawn: Vec<u64> =
            run.iter().copied().filter(|&sample| labels[sample as usize] == class).collect();
        for pass in drawn.chunks_exact(count as usize) {
            let distinct: std::collections::HashSet<_> = pass.iter().collect();
            assert_eq!(distinct.len(), count as usize, "class {class}");
        }
    }
}

#[test]
fn progressive_starts_as_instance_and_ends_as_class_balanced() {
    let (progressive, _) = order(Sampler::Progressive { epochs: 5 }, 3);
    let (instance, _) = order(Sampler::Instance, 3);
    let (balanced, _) = order(Sampler::ClassBalanced, 3);
    assert_eq!(epoch(&progressive, 0), epoch(&instance, 0));
    for e in [4, 5, 100] {
        assert_eq!(epoch(&progressive, e), epoch(&balanced, e));
    }
    let (first, last) = (instance.distribution(0), balanced.distribution(0));
    for (e, t) in [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0), (9, 1.0)] {
        for (class, ours) in progressive.distribution(e).into_iter().enumerate() {
            let expected = (1.0 - t) * first[class] + t * last[class];
            assert!((ours - expected).abs() < 1e-14, "epoch {e}, class {class}: {ours}, {expected} expected");
        }
    }
    let (single, _) = order(Sampler::Progressive { epochs: 1 }, 3);
    assert_eq!(epoch(&single, 0), epoch(&instance, 0));
}

#[test]
fn n_shot_keeps_the_same_images_in_all_epochs() {
    let (order, labels) = order(Sampler::NShot { shots: 7 }, 3);
    let sorted = |e| {
        let mut samples = epoch(&order, e);
        samples.sort_unstable();
        samples
    };
    assert!((1..5).all(|e| sorted(e) == sorted(0)));
    assert_eq!(class_counts(&sorted(0), &labels, TAIL.len()), [7, 0, 7, 7, 7, 7, 2, 1]);
    let (all, _) = super::behaviour::order(Sampler::NShot { shots: 90 }, 3);
    let (instance, _) = super::behaviour::order(Sampler::Instance, 3);
    assert_eq!(epoch(&all, 2), epoch(&instance, 2), "with all images kept it is the instance order");
}

/// LVIS's rule, image by image: floor(r) or ceil(r) times, r on average, class totals rounded.
#[test]
fn repeat_factor_repeats_by_the_rule() {
    let threshold = 0.1;
    let labels = labels_of(&TAIL);
    let epochs = 2000;
    let order = Order::new(Sampler::RepeatFactor { threshold }, &labels, TAIL.len(), 3).expect("valid");
    let mut total = vec![0_u64; TAIL.len()];
    let r = TAIL.map(|count| (threshold / (f64::from(count) / labels.len() as f64)).sqrt().max(1.0));
    for e in 0..epochs {
        let samples = epoch(&order, e);
        let mut times = vec![0_u32; labels.len()];
        for &sample in &samples {
            times[sample as usize] += 1;
        }
        for (&times, &label) in times.iter().zip(&labels) {
            let r = r[label as usize];
            assert!(
                f64::from(times) >= r.floor() && f64::from(times) <= r.ceil(),
                "{times} times for r = {r}"
            );
        }
        for (class, count) in class_counts(&samples, &labels, TAIL.len()).into_iter().enumerate() {
            let exact = if TAIL[class] == 0 { 0.0 } else { r[class] * f64::from(TAIL[class]) };
            assert!((count as f64 - exact).abs() < 1.001, "class {class}: {count} for {exact}");
            total[class] += count;
        }
    }
    for class in (0..TAIL.len()).filter(|&class| TAIL[class] > 0) {
        let mean = total[class] as f64 / epochs as f64 / f64::from(TAIL[class]);
        assert!(
            (mean - r[class]).abs() < 0.02,
            "class {class}: {mean} repeats on average, {} expected",
            r[class]
        );
    }
}

/// Orders are part of a run's identity: these must never change, on any machine.
#[test]
fn orders_are_those_of_every_other_machine() {
    let first = |sampler| {
        let (order, _) = order(sampler, 42);
        [0, 1, 2, 100].map(|position| order.sample_at(1, position.min(order.len(1) - 1)))
    };
    assert_eq!(SAMPLERS.map(first), PINNED);
}

const PINNED: [[u64; 4]; 7] = [
    [131, 82, 116, 60],
    [179, 178, 179, 178],
    [158, 116, 153, 131],
    [158, 116, 133, 131],
    [89, 152, 179, 172],
    [158, 82, 116, 60],
    [75, 132, 175, 85],
];

#[test]
fn far_epochs_and_seeds_are_no_exception() {
    for sampler in SAMPLERS {
        let (order, labels) = order(sampler, u64::MAX);
        for e in [u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            assert!(epoch(&order, e).into_iter().all(|sample| sample < labels.len() as u64));
        }
    }
}

#[test]
fn a_single_sample_is_an_order() {
    for sampler in SAMPLERS {
        let order = Order::new(sampler, &[2], 4, 0).expect("valid");
        assert!(order.len(0) >= 1);
        assert!(epoch(&order, 7).into_iter().all(|sample| sample == 0));
        assert_eq!(order.distribution(0), [0.0, 0.0, 1.0, 0.0]);
    }
}

//! Calibration of simulated images whose probabilities are known.

use super::*;
use rand::RngExt;

/// Class sizes in training: of each group two classes.
const TRAIN: [u64; 6] = [500, 200, 60, 40, 10, 5];
const CLASSES: usize = TRAIN.len();

/// Logits of an image; those of a class lie within its spread.
fn draw(random: &mut ChaCha8Rng, spreads: [f64; CLASSES]) -> Vec<f64> {
    spreads.map(|spread| (random.random::<f64>() - 0.5) * 2.0 * spread).to_vec()
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// A class, drawn from these shares.
fn draw_class(random: &mut ChaCha8Rng, shares: &[f64]) -> usize {
    let mut draw = random.random::<f64>();
    let found = shares.iter().position(|share| {
        draw -= share;
        draw < 0.0
    });
    found.unwrap_or(CLASSES - 1)
}

fn push(table: &mut LogitsTable, logits: &[f64], label: usize) {
    table.names.push(format!("{}.jpg", table.labels.len()));
    table.logits.extend(logits.iter().map(|&logit| logit as f32));
    table.labels.push(label as i64);
}

/// Images whose labels are drawn from `softmax(logits / temperature)`. Rare classes have flatter logits, so one threshold for
/// all covers them less.
fn simulated(images: usize, temperature: f64, seed: u64) -> LogitsTable {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut table = LogitsTable { classes: CLASSES, ..LogitsTable::default() };
    for _ in 0..images {
        let logits = draw(&mut random, TRAIN.map(|count| if count > 100 { 6.0 } else { 3.0 }));
        let label = draw_class(&mut random, &probabilities(&logits));
        let logits: Vec<f64> = logits.iter().map(|logit| logit * temperature).collect();
        push(&mut table, &logits, label);
    }
    table
}

/// Images of these shares of classes, whose logits are right for equal shares: a class is drawn first, and then an image of
/// it, by rejection from images of all classes.
fn of_shares(images: usize, shares: &[f64], seed: u64) -> LogitsTable {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut table = LogitsTable { classes: CLASSES, ..LogitsTable::default() };
    for _ in 0..images {
        let label = draw_class(&mut random, shares);
        loop {
            let logits = draw(&mut random, [3.0; CLASSES]);
            if random.random::<f64>() < probabilities(&logits)[label] {
                push(&mut table, &logits, label);
                break;
            }
        }
    }
    table
}

fn plan(seed: u64) -> CalibrationPlan {
    let limits = ShotLimits::default();
    CalibrationPlan {
        fit_share: 0.5,
        seed,
        coverage: 0.9,
        score: Score::Lac,
        shift: None,
        limits,
        temperature: None,
    }
}

/// Four standard deviations of a share of `images`, in percent, for thresholds from `fitted` images.
fn noise(images: usize, fitted: usize) -> f64 {
    400.0 * (0.09 / images as f64 + 0.09 / fitted as f64).sqrt()
}

#[test]
fn the_temperature_of_the_simulation_is_found() {
    for (temperature, seed) in [(0.5, 1), (1.0, 2), (2.5, 3)] {
        let found = plan(0).run(&simulated(20_000, temperature, seed), &TRAIN).unwrap();
        assert!((found.temperature / temperature - 1.0).abs() < 0.06, "{temperature}: {}", found.temperature);
        let (before, after) = (found.before.all.unwrap(), found.after.all.unwrap());
        assert!(after.ece < 2.0, "calibrated probabilities have an error of {} %", after.ece);
        assert_eq!(before.accuracy, after.accuracy, "a temperature changes no prediction");
        // Chance alone explains most of what is left, and little of the error before.
        let chance = after.ece_by_chance.unwrap();
        assert!(after.ece < 2.0 * chance, "{temperature}: {} % and {chance} % by chance", after.ece);
        if temperature != 1.0 {
            assert!(before.ece > 4.0 * chance, "{temperature}: {before:?}");
            assert!(after.ece < before.ece && after.nll < before.nll, "{temperature}: {before:?} {after:?}");
        }
    }
}

/// Coverage is within the noise of the binomial distribution: of all images with any partition, of each group with sets by
/// group and by class.
#[test]
fn sets_cover_the_label_as_often_as_wanted() {
    for score in [Score::Lac, Score::Aps, Score::Raps] {
        for seed in 0..4 {
            let table = simulated(8000, 1.7, 10 + seed);
            let found = CalibrationPlan { score, ..plan(seed) }.run(&table, &TRAIN).unwrap();
            let (fitted, reported) = (found.parts.thresholds, found.parts.reported);
            for (sets, name) in
                [(&found.marginal, "marginal"), (&found.by_group, "by group"), (&found.by_class, "by class")]
            {
                let coverage = sets.all.unwrap().coverage;
                let allowed = noise(reported, fitted);
                assert!((coverage - 90.0).abs() < allowed, "{score} {name} {seed}: {coverage} +- {allowed}");
                if name == "marginal" {
                    continue;
                }
                let images = [found.after.many, found.after.medium, found.after.few];
                for (group, images) in [sets.many, sets.medium, sets.few].iter().zip(images) {
                    let images = images.unwrap().images;
                    let allowed = noise(images, images * fitted / reported);
                    let coverage = group.unwrap().coverage;
                    // Thresholds of two classes are rounded up twice.
                    let least = 90.0 - allowed;
                    let most = 90.0 + allowed + 200.0 / (images as f64 / 2.0);
                    assert!(coverage > least && coverage < most, "{score} {name}: {coverage}");
                }
            }
            assert_eq!(found.by_class.without_threshold, 0);
        }
    }
}

#[test]
fn sets_by_group_repair_what_one_threshold_does_to_a_group() {
    let found = plan(0).run(&simulated(20_000, 1.0, 5), &TRAIN).unwrap();
    let gap = |sets: &crate::run::ConformalFigures| {
        (sets.many.unwrap().coverage - sets.few.unwrap().coverage).abs()
    };
    assert!(gap(&found.marginal) > 3.0, "{:?}", found.marginal);
    assert!(gap(&found.by_group) < 2.5, "{:?}", found.by_group);
}

/// Logits for equal classes, images of unequal ones: the correction makes the probabilities right again.
#[test]
fn the_correction_of_the_class_distribution_is_bayes_rule() {
    let prior = Distribution::of_counts(&TRAIN);
    let table = of_shares(20_000, prior.shares(), 9);
    let uniform = Distribution::uniform(CLASSES);
    let shifted = CalibrationPlan { shift: Some(("train".to_owned(), prior.clone(), uniform)), ..plan(1) };
    let (plain, shifted) = (plan(1).run(&table, &TRAIN).unwrap(), shifted.run(&table, &TRAIN).unwrap());
    let (before, after) = (plain.after.all.unwrap(), shifted.after.all.unwrap());
    assert!(after.accuracy > before.accuracy + 1.0, "{before:?} {after:?}");
    assert!(after.ece < 2.5 && after.nll < before.nll - 0.05, "{before:?} {after:?}");
    assert!((shifted.temperature - 1.0).abs() < 0.1, "{}", shifted.temperature);
    let expected: Vec<f64> = prior.shares().iter().map(|share| (share * 6.0).ln()).collect();
    let found = shifted.log_prior.unwrap();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
}

/// The recorded thresholds give the sets whose figures are recorded, also for classes without a threshold.
#[test]
fn recorded_thresholds_make_the_reported_sets() {
    let table = simulated(300, 1.5, 4);
    for score in [Score::Lac, Score::Aps, Score::Raps] {
        let plan = CalibrationPlan { score, temperature: Some(1.5), ..plan(2) };
        let found = plan.run(&table, &TRAIN).unwrap();
        assert_eq!((found.temperature, found.parts.temperature, found.parts.thresholds), (1.5, 0, 150));
        let [_, _, reported] = plan.divide(table.len()).unwrap();
        let calibrated = Calibrated { table: &table, scale: 1.0 / found.temperature, offset: None };
        for (partition, figures) in
            Partition::ALL.into_iter().zip([found.marginal, found.by_group, found.by_class])
        {
            let maker = SetMaker::of(&found, partition, CLASSES).unwrap();
            let mut row = Vec::new();
            let sizes = reported.iter().map(|&image| {
                calibrated.of(image, &mut row);
                maker.set(&row).len()
            });
            let mean = sizes.sum::<usize>() as f64 / reported.len() as f64;
            let expected = figures.all.unwrap().mean_size;
            assert!((mean - expected).abs() < 1e-9, "{score} {partition:?}: {mean} {expected}");
        }
        let old = Calibration { thresholds: None, ..found.clone() };
        let error = SetMaker::of(&old, Partition::Marginal, CLASSES).unwrap_err().to_string();
        assert_eq!(error, "the recorded calibration has no thresholds for sets of its 6 classes");
        assert!(SetMaker::of(&found, Partition::ByClass, 5).is_err());
    }
}

#[test]
fn the_threshold_is_the_score_that_the_finite_sample_needs() {
    let groups = [Shot::Many];
    let fit = |images: usize, coverage: f64| {
        let scores: Vec<(usize, f64)> = (0..images).rev().map(|score| (0, score as f64)).collect();
        SetRule::fit(&scores, Partition::Marginal, &groups, (coverage, &[1.0])).thresholds()[0]
    };
    // The ceil((n + 1) coverage)-th smallest of 0, 1, 2, ...
    assert_eq!(fit(9, 0.9), 8.0);
    assert_eq!(fit(19, 0.9), 17.0);
    assert_eq!(fit(100, 0.9), 90.0);
    assert_eq!(fit(8, 0.9), f64::INFINITY, "eight images cannot show a coverage of 90 %");
    assert_eq!(fit(0, 0.5), f64::INFINITY);
}

#[test]
fn every_image_is_in_one_part_and_the_seed_chooses_which() {
    let parts = plan(3).divide(103).unwrap();
    let mut all = parts.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..103));
    assert_eq!(parts.each_ref().map(Vec::len), [10, 42, 51]);
    assert_eq!(plan(3).divide(103).unwrap(), parts);
    assert_ne!(plan(4).divide(103).unwrap(), parts);
    assert_eq!(
        plan(0).divide(2).unwrap_err().to_string(),
        "2 images are too few to fit on 1 and report on the rest; expected at least one in each of the three parts\n\
         hint: evaluate more images, or set --fit-share"
    );
}

#[test]
fn tables_without_meaning_are_refused() {
    let good = simulated(40, 1.0, 0);
    let error = |table: &LogitsTable, counts: &[u64]| plan(0).run(table, counts).unwrap_err().to_string();
    let expected =
        "the logits are of 6 classes and the run has 2\nhint: give logits that this run's model made";
    assert_eq!(error(&good, &[1, 1]), expected);
    let mut table = good.clone();
    table.labels[7] = -1;
    assert_eq!(error(&table, &TRAIN), "image 7 has the label -1; expected 0 to 5");
    let mut table = good;
    table.logits[6 * 3] = f32::NAN;
    let expected = "image 3 has a logit that is not finite, so its probabilities are not defined";
    assert_eq!(error(&table, &TRAIN), expected);
}

//! Several runs: seeds of one setting together, and settings against each other.

use crate::records::RunRecords;
use crate::records::result::ResultRecord;
use std::collections::BTreeMap;

/// Settings that tell runs of one setting apart, but are no part of it: seeds.
const SEEDS: [&str; 2] = ["train.seed", "data.demo_seed"];
/// Settings that do not change results, beside those of whole sections: places, speed, output.
const WITHOUT_EFFECT: [&str; 10] = [
    "data.root",
    "data.workers",
    "data.prefetch",
    "model.weights",
    "train.threads",
    "train.device",
    "train.log_every",
    "train.tensorboard",
    "eval.batch_size",
    "eval.thumbnails",
];
/// Sections that do not change results.
const SECTIONS_WITHOUT_EFFECT: [&str; 2] = ["checkpoint.", "distributed."];

/// The origin of a default.
const BASE: &str = "configs/base.toml";

/// 97.5 % quantiles of Student's distribution for 1, 2, ... degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// The same quantile of the normal distribution.
const NORMAL: f64 = 1.960;

/// A figure of a result.
pub type Figure = fn(&ResultRecord) -> Option<f64>;

/// The figures that are compared, with their names.
pub const FIGURES: [(&str, Figure); 5] = [
    ("overall", |result| result.accuracy),
    ("many", |result| result.many),
    ("medium", |result| result.medium),
    ("few", |result| result.few),
    ("mean class", |result| result.mean_class_accuracy),
];

/// Runs that differ in their seeds only.
#[derive(Debug)]
pub struct Setting<'a> {
    /// A name that tells it from the others.
    pub name: String,
    /// Its finished runs.
    pub runs: Vec<&'a RunRecords>,
}

/// A mean over runs, and their sample standard deviation if there are at least two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: Option<f64>,
}

/// The difference of two settings in one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean over the common seeds.
    pub mean: f64,
    /// Half the width of the 95 % interval around zero in which a difference is noise.
    pub band: f64,
    /// Number of common seeds. The band of one seed is that of the test images.
    pub seeds: usize,
}

impl Difference {
    /// Whether the difference is not told from zero.
    pub fn is_noise(&self) -> bool {
        self.mean.abs() <= self.band
    }
}

/// Groups finished runs by their settings, in the order of the first run of each. Of several runs of one seed, the first counts.
pub fn settings(runs: &[RunRecords]) -> Vec<Setting<'_>> {
    let mut groups: Vec<(BTreeMap<String, String>, Vec<&RunRecords>)> = Vec::new();
    let finished: Vec<&RunRecords> = runs.iter().filter(|run| run.result.is_some()).collect();
    for &run in &finished {
        let key = key(run, &finished);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, runs)) if runs.iter().any(|other| seed(other) == seed(run)) => {}
            Some((_, runs)) => runs.push(run),
            None => groups.push((key, vec![run])),
        }
    }
    let keys: Vec<&BTreeMap<String, String>> = groups.iter().map(|(key, _)| key).collect();
    let names: Vec<String> = keys.iter().map(|key| name(key, &keys)).collect();
    groups.into_iter().zip(names).map(|((_, runs), name)| Setting { name, runs }).collect()
}

/// Finished runs that [`settings`] leaves out, because another one has their settings and seed.
pub fn repeated(runs: &[RunRecords]) -> Vec<&RunRecords> {
    let settings = settings(runs);
    let is_counted = |run: &&RunRecords| {
        settings.iter().flat_map(|setting| &setting.runs).any(|&other| std::ptr::eq(other, *run))
    };
    runs.iter().filter(|run| run.result.is_some()).filter(|run| !is_counted(run)).collect()
}

/// Everything of a run that may change its results, but for seeds. A setting that a run of an older version does not know has
/// its default there, so it tells nothing apart where it has its default.
fn key(run: &RunRecords, all: &[&RunRecords]) -> BTreeMap<String, String> {
    let mut key = BTreeMap::new();
    if let Some(settings) = &run.settings {
        let matters = |name: &str| {
            !SEEDS.contains(&name)
                && !WITHOUT_EFFECT.contains(&name)
                && !SECTIONS_WITHOUT_EFFECT.iter().any(|section| name.starts_with(section))
        };
        let is_default = |name: &str| settings.origins.get(name).is_some_and(|origin| origin == BASE);
        let known = all.iter().filter_map(|run| run.settings.as_ref());
        let is_known = |name: &str| known.clone().all(|other| other.values.contains_key(name));
        let values =
            settings.values.iter().filter(|(name, _)| matters(name) && (!is_default(name) || is_known(name)));
        key.extend(values.map(|(name, value)| (name.clone(), value.clone())));
    }
    if let Some(result) = &run.result {
        for (name, value) in
            [("0 method", &result.method), ("1 model", &result.model), ("2 data", &result.data)]
        {
            key.insert(name.to_owned(), value.clone());
        }
    }
    key
}

/// The method, model and data, if they differ, and whatever else differs from another setting of the same three.
fn name(key: &BTreeMap<String, String>, all: &[&BTreeMap<String, String>]) -> String {
    let method = "0 method";
    let mut parts = vec![key.get(method).cloned().unwrap_or_default()];
    let presets = [method, "1 model", "2 data"];
    let alike: Vec<_> =
        all.iter().filter(|other| presets.iter().all(|name| other.get(*name) == key.get(*name))).collect();
    for (name, value) in key.iter().filter(|(name, _)| *name != method) {
        let is_preset = name.starts_with(|letter: char| letter.is_ascii_digit());
        // Presets differ in many values, which their names stand for.
        let others = if is_preset { all.iter().collect() } else { alike.clone() };
        if others.iter().any(|other| other.get(name) != Some(value)) {
            parts.push(if is_preset { value.clone() } else { format!("{name}={value}") });
        }
    }
    parts.join(", ")
}

/// The seeds of a run.
fn seed(run: &RunRecords) -> Vec<String> {
    let of = |name: &&str| run.settings.as_ref().and_then(|settings| settings.values.get(*name)).cloned();
    let seeds: Vec<String> = SEEDS.iter().filter_map(of).collect();
    if seeds.is_empty() {
        return run.result.iter().map(|result| result.seed.to_string()).collect();
    }
    seeds
}

/// Mean and deviation; none if a run lacks the figure.
pub fn spread(runs: &[&RunRecords], figure: Figure) -> Option<Spread> {
    let values: Option<Vec<f64>> = runs.iter().map(|run| run.result.as_ref().and_then(figure)).collect();
    spread_of(&values?)
}

fn spread_of(values: &[f64]) -> Option<Spread> {
    let number = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / number;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(Spread { mean, deviation: (values.len() > 1).then(|| (squares / (number - 1.0)).sqrt()) })
}

/// The difference `other - base` over common seeds; none without one, or if the runs have other classes or images.
pub fn difference(
    base: &Setting<'_>,
    other: &Setting<'_>,
    (name, figure): (&str, Figure),
) -> Option<Difference> {
    let mut pairs = Vec::new();
    for run in &other.runs {
        let twin = base.runs.iter().find(|twin| seed(twin) == seed(run));
        if let Some((one, two)) = twin.and_then(|twin| twin.result.as_ref()).zip(run.result.as_ref())
            && are_comparable(one, two)
        {
            pairs.push((one, two, figure(two)? - figure(one)?));
        }
    }
    let differences: Vec<f64> = pairs.iter().map(|(.., difference)| *difference).collect();
    let Spread { mean, deviation } = spread_of(&differences)?;
    let seeds = differences.len();
    let band = if let Some(deviation) = deviation {
        STUDENT.get(seeds - 2).copied().unwrap_or(NORMAL) * deviation / (seeds as f64).sqrt()
    } else {
        let (one, two, _) = pairs[0];
        NORMAL * (variance(one, name) + variance(two, name)).sqrt()
    };
    Some(Difference { mean, band, seeds })
}

/// Whether two results are over the same classes and equally many test images of each.
fn are_comparable(one: &ResultRecord, two: &ResultRecord) -> bool {
    let images = |result: &ResultRecord| -> Vec<u64> {
        result.per_class.iter().map(|class| class.test_count).collect()
    };
    one.data == two.data && images(one) == images(two)
}

/// Sampling variance of a figure over the test images, in squared percent, with the images of each class independent.
fn variance(result: &ResultRecord, figure: &str) -> f64 {
    use protocol::evaluation::Shot;
    let classes = result.per_class.iter().filter(|class| class.test_count > 0);
    let of_class = |class: &crate::records::result::ClassRecord| {
        let (images, share) = (class.test_count as f64, class.correct as f64 / class.test_count as f64);
        (images, 1e4 * share * (1.0 - share) / images)
    };
    let group = Shot::ALL.into_iter().find(|group| group.word() == figure);
    let chosen =
        classes.filter(|class| group.is_none_or(|group| result.groups.group(class.train_count) == group));
    let of_classes: Vec<(f64, f64)> = chosen.map(of_class).collect();
    if figure == "overall" {
        // Each class counts by its images.
        let all: f64 = of_classes.iter().map(|(images, _)| images).sum();
        return of_classes.iter().map(|(images, variance)| variance * (images / all).powi(2)).sum();
    }
    let number = of_classes.len() as f64;
    of_classes.iter().map(|(_, variance)| variance / (number * number)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn run(method: &str, seed: u64, accuracy: f64) -> RunRecords {
        let mut run = fixtures::run("runs/x");
        let result = run.result.as_mut().unwrap();
        (result.method, result.seed, result.accuracy) = (method.to_owned(), seed, Some(accuracy));
        run.settings.as_mut().unwrap().values.insert("train.seed".into(), seed.to_string());
        run
    }

    #[test]
    fn seeds_of_one_setting_are_one_row_with_mean_and_deviation() {
        let mut other = run("lift", 0, 50.0);
        other.settings.as_mut().unwrap().values.insert("train.epochs".into(), "9".into());
        let mut elsewhere = run("lift", 2, 72.0);
        elsewhere.settings.as_mut().unwrap().values.insert("checkpoint.keep".into(), "9".into());
        let runs = [run("lift", 0, 70.0), run("full", 0, 60.0), run("lift", 1, 71.0), other, elsewhere];
        let settings = settings(&runs);
        let found: Vec<_> =
            settings.iter().map(|setting| (setting.name.as_str(), setting.runs.len())).collect();
        assert_eq!(found, [("lift", 3), ("full", 1), ("lift, train.epochs=9", 1)]);
        let spread = spread(&settings[0].runs, FIGURES[0].1).unwrap();
        assert_eq!(spread, Spread { mean: 71.0, deviation: Some(1.0) });
    }

    #[test]
    fn a_seed_counts_once() {
        let runs = [run("lift", 0, 70.0), run("lift", 0, 74.0), run("lift", 1, 71.0)];
        assert_eq!(settings(&runs)[0].runs.len(), 2);
        let repeated: Vec<_> =
            repeated(&runs).iter().map(|run| run.result.as_ref().unwrap().accuracy).collect();
        assert_eq!(repeated, [Some(74.0)]);
    }

    /// The program has learnt an option since: its default tells no runs apart, another value does.
    #[test]
    fn a_run_of_an_older_version_is_of_the_same_setting() {
        let newer = |seed: u64, origin: &str| {
            let mut run = run("lift", seed, 60.0);
            let settings = run.settings.as_mut().unwrap();
            settings.values.insert("eval.groups".into(), "[5, 20]".into());
            settings.origins.insert("eval.groups".into(), origin.into());
            run
        };
        let runs = [run("lift", 0, 60.0), newer(1, BASE)];
        assert_eq!(settings(&runs).len(), 1);
        let runs = [run("lift", 0, 60.0), newer(1, "--set eval.groups=[5, 20]")];
        let names: Vec<String> = settings(&runs).into_iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["lift", "lift, eval.groups=[5, 20]"]);
    }

    #[test]
    fn names_of_data_and_model_stand_for_their_settings() {
        let mut other = run("lift", 0, 50.0);
        other.result.as_mut().unwrap().data = "flowers".into();
        other.settings.as_mut().unwrap().values.insert("data.layout".into(), "\"folders\"".into());
        let runs = [run("lift", 0, 60.0), other];
        let names: Vec<String> = settings(&runs).into_iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["lift, birds", "lift, flowers"]);
    }

    #[test]
    fn differences_are_paired_by_seed() {
        // The seeds differ by far more than the methods do.
        let runs = [
            run("full", 0, 50.0),
            run("full", 1, 60.0),
            run("full", 2, 70.0),
            run("lift", 0, 52.0),
            run("lift", 1, 61.0),
            run("lift", 2, 73.0),
            run("lift", 9, 0.0),
        ];
        let settings = settings(&runs);
        let difference = difference(&settings[0], &settings[1], FIGURES[0]).unwrap();
        assert_eq!((difference.mean, difference.seeds), (2.0, 3));
        assert!((difference.band - 4.303 / 3_f64.sqrt()).abs() < 1e-9 && difference.is_noise());
    }

    #[test]
    fn one_seed_has_the_noise_of_its_images() {
        let runs = [run("full", 0, 50.0), run("lift", 0, 60.0)];
        let settings = settings(&runs);
        let few = difference(&settings[0], &settings[1], FIGURES[3]).unwrap();
        // One class with a quarter of four images correct, twice.
        let expected = 1.960 * (2.0 * 1e4 * 0.25 * 0.75 / 4.0_f64).sqrt();
        assert!((few.band - expected).abs() < 1e-9 && few.is_noise());
    }

    #[test]
    fn runs_over_other_images_are_not_compared() {
        let mut runs = [run("full", 0, 50.0), run("lift", 0, 60.0)];
        runs[1].result.as_mut().unwrap().per_class[0].test_count = 11;
        let settings = settings(&runs);
        assert_eq!(difference(&settings[0], &settings[1], FIGURES[0]), None);
        let seeds = [run("full", 0, 50.0), run("lift", 1, 60.0)];
        let settings = super::settings(&seeds);
        assert_eq!(difference(&settings[0], &settings[1], FIGURES[0]), None);
    }
}

//! The tables of a report.

use super::compare::{FIGURES, Setting, difference, spread};
use super::figures::{
    TakenFor, all_bins, calibration_error, from_worst, outcomes, predicted_counts, taken_for,
};
use super::table::{NONE, Table, duration, percent, share, signed};
use crate::records::RunRecords;
use crate::records::result::ResultRecord;
use protocol::evaluation::EvaluationRecord;
use protocol::evaluation::Shot;
use protocol::numbers::grouped;

/// Classes in the table of the worst ones.
const WORST: usize = 15;
/// Classes that one class is taken for, in that table.
const TAKEN_FOR: usize = 3;

/// A row for each run, also for unfinished ones.
pub fn runs(runs: &[RunRecords]) -> Table {
    let heads = [
        "run",
        "method",
        "#seed",
        "#overall",
        "#many",
        "#medium",
        "#few",
        "#mean class",
        "#macro F1",
        "#trained parameters",
        "#images/s",
        "time",
    ];
    let mut table = Table::new("Runs: accuracy in percent", &heads);
    for run in runs {
        let folder = run.folder.display().to_string();
        let Some(result) = &run.result else {
            table.row(
                [folder, state(run)].into_iter().chain(std::iter::repeat_n(NONE.to_owned(), heads.len() - 2)),
            );
            continue;
        };
        let figures = [
            result.accuracy,
            result.many,
            result.medium,
            result.few,
            result.mean_class_accuracy,
            result.macro_f1,
        ];
        let speed =
            result.images_per_second.map_or_else(|| NONE.to_owned(), |speed| grouped(speed.round() as u64));
        let first = [folder, result.method.clone(), result.seed.to_string()];
        let last = [grouped(result.trainable_parameters), speed, duration(result.seconds)];
        table.row(first.into_iter().chain(figures.map(percent)).chain(last));
    }
    table
}

/// The state of an unfinished run, in words.
pub fn state(run: &RunRecords) -> String {
    let step = run.metrics.steps.last().map_or(0, |step| step.step);
    let phase = run.status.as_ref().and_then(|status| serde_json::to_value(status.phase).ok());
    let phase =
        phase.and_then(|phase| phase.as_str().map(str::to_owned)).unwrap_or_else(|| "no status".to_owned());
    format!("not finished ({phase}, step {step})")
}

/// A row for each setting: means over its seeds, with the sample standard deviation.
pub fn settings(settings: &[Setting<'_>]) -> Table {
    let heads = ["setting", "#seeds", "#overall", "#many", "#medium", "#few", "#mean class"];
    let mut table = Table::new("Settings: mean and standard deviation over seeds, in percent", &heads);
    for setting in settings {
        let figures = FIGURES.iter().map(|(_, figure)| match spread(&setting.runs, *figure) {
            None => NONE.to_owned(),
            Some(spread) => match spread.deviation {
                None => format!("{:.1}", spread.mean),
                Some(deviation) => format!("{:.1} ± {deviation:.1}", spread.mean),
            },
        });
        table.row([setting.name.clone(), setting.runs.len().to_string()].into_iter().chain(figures));
    }
    table
}

/// The differences of each setting to the first one, over common seeds.
pub fn differences(settings: &[Setting<'_>]) -> Option<Table> {
    let (base, others) = settings.split_first()?;
    let heads = ["setting", "#seeds", "#overall", "#many", "#medium", "#few", "#mean class"];
    let mut table = Table::new(&format!("Paired differences to {}, in percent points", base.name), &heads);
    for other in others {
        let found = FIGURES.map(|figure| difference(base, other, figure));
        let seeds = found.iter().flatten().map(|difference| difference.seeds).max().unwrap_or(0);
        let cells = found.map(|difference| match difference {
            None => NONE.to_owned(),
            Some(found) => {
                let mark = if found.is_noise() { "" } else { " *" };
                format!("{} (±{:.1}){mark}", signed(found.mean), found.band)
            }
        });
        table.row([other.name.clone(), seeds.to_string()].into_iter().chain(cells));
    }
    let note = "In brackets: the noise band, half of the 95 % interval. Over several seeds it is that of Student's t of \
                the paired differences; with one seed, the sampling error of the test images. A star marks a difference \
                outside the band. Runs over other test images are not compared.";
    (!table.rows.is_empty()).then(|| table.with_note(note))
}

/// Facts about a finished run.
pub fn facts(run: &RunRecords, result: &ResultRecord) -> Table {
    let mut table = Table::new("Run", &["what", "value"]);
    let mut fact = |what: &str, value: String| table.row([what.to_owned(), value]);
    fact("data, model, method", format!("{}, {}, {}", result.data, result.model, result.method));
    fact("seed", result.seed.to_string());
    fact(
        "ranks, device, precision",
        format!("{}, {}, {}", result.world_size, result.device, result.precision),
    );
    fact(
        "evaluated images",
        format!("{} ({}, {} crop)", grouped(result.total), result.evaluation.split, result.evaluation.crops),
    );
    fact("trained parameters", grouped(result.trainable_parameters));
    fact("steps", grouped(run.metrics.steps.last().map_or(0, |step| step.step)));
    fact("time", duration(result.seconds));
    if result.bad_images > 0 {
        fact("unreadable images, left out", grouped(result.bad_images));
    }
    let absent = result.per_class.iter().filter(|class| class.test_count == 0).count();
    if absent > 0 {
        fact("classes without a test image, in no figure", grouped(absent as u64));
    }
    fact("backbone", result.weights_fingerprint.chars().take(16).collect());
    table
}

/// Accuracy and calibration by group.
pub fn groups(result: &ResultRecord, evaluation: Option<&EvaluationRecord>) -> Table {
    let heads =
        ["classes", "training images", "#classes", "#test images", "#accuracy", "#confidence", "#ECE"];
    let mut table = Table::new("Groups of classes, in percent", &heads);
    let calibration = |bins: &[protocol::evaluation::ReliabilityBin]| {
        let images: u64 = bins.iter().map(|bin| bin.images).sum();
        let confidence: u64 = bins.iter().map(|bin| bin.confidence).sum();
        let mean = (images > 0).then(|| confidence as f64 / images as f64 / 1e4);
        [percent(mean), percent(calibration_error(bins))]
    };
    for group in Shot::ALL {
        let classes = result.per_class.iter().filter(|class| result.groups.group(class.train_count) == group);
        let (number, images) =
            classes.fold((0, 0), |(number, images), class| (number + 1, images + class.test_count));
        let bins = evaluation
            .and_then(|evaluation| evaluation.reliability.iter().find(|bins| bins.group == group.word()))
            .map(|group| calibration(&group.bins));
        let [confidence, error] = bins.unwrap_or_else(|| [NONE, NONE].map(str::to_owned));
        let first = [group.word().to_owned(), result.groups.range(group)];
        table.row(first.into_iter().chain([
            grouped(number),
            grouped(images),
            percent(result.of_group(group)),
            confidence,
            error,
        ]));
    }
    let [confidence, error] = evaluation.map_or_else(
        || [NONE, NONE].map(str::to_owned),
        |evaluation| calibration(&all_bins(&evaluation.reliability)),
    );
    let all = grouped(result.per_class.len() as u64);
    table.row([
        "all".to_owned(),
        "any".to_owned(),
        all,
        grouped(result.total),
        percent(result.accuracy),
        confidence,
        error,
    ]);
    table.with_note(
        "Accuracy of a group is the mean over its classes; that of all is over images. ECE is the expected calibration \
         error over 15 bins of confidence, over the images of the group.",
    )
}

/// Where the images of each group go.
pub fn head_to_tail(result: &ResultRecord, evaluation: &EvaluationRecord) -> Table {
    let heads = ["true class", "#test images", "#correct", "#wrong: many", "#wrong: medium", "#wrong: few"];
    let mut table = Table::new("From head to tail: where the images of each group go, in percent", &heads);
    for (group, outcome) in Shot::ALL.into_iter().zip(outcomes(result, evaluation)) {
        let shares =
            [outcome.correct].into_iter().chain(outcome.wrong).map(|part| share(part, outcome.images));
        table.row([group.word().to_owned(), grouped(outcome.images)].into_iter().chain(shares));
    }
    table.with_note(
        "\"wrong: many\" are images that were taken for another class, which has many training images.",
    )
}

/// The classes of the lowest accuracy, and what they are taken for.
pub fn worst(result: &ResultRecord, evaluation: &EvaluationRecord) -> Table {
    let heads = ["class", "#training images", "#test images", "#accuracy", "taken for"];
    let mut table = Table::new("Classes of the lowest accuracy", &heads);
    let taken = taken_for(evaluation);
    for label in from_worst(result).into_iter().take(WORST) {
        let class = &result.per_class[label];
        let sizes =
            [grouped(class.train_count), grouped(class.test_count), share(class.correct, class.test_count)];
        let names = named(result, &taken[label]);
        table.row([class.name.clone()].into_iter().chain(sizes).chain([names]));
    }
    table
}

fn named(result: &ResultRecord, taken: &TakenFor) -> String {
    let name = |(class, images): &(usize, u64)| format!("{} ({images})", result.per_class[*class].name);
    taken.predicted.iter().take(TAKEN_FOR).map(name).collect::<Vec<_>>().join(", ")
}

/// Every class.
pub fn classes(result: &ResultRecord, evaluation: Option<&EvaluationRecord>) -> Table {
    let heads = [
        "class",
        "group",
        "#training images",
        "#test images",
        "#correct",
        "#accuracy",
        "#predicted",
        "taken for",
    ];
    let mut table = Table::new("Classes", &heads);
    let predicted = evaluation.map(|evaluation| predicted_counts(result, evaluation));
    let taken = evaluation.map(taken_for);
    for (label, class) in result.per_class.iter().enumerate() {
        let predicted =
            predicted.as_ref().map_or_else(|| NONE.to_owned(), |predicted| grouped(predicted[label]));
        let name = |(class, images): &(usize, u64)| format!("{} ({images})", result.per_class[*class].name);
        let taken = taken.as_ref().and_then(|taken| taken[label].predicted.first().map(name));
        table.row([
            class.name.clone(),
            result.groups.group(class.train_count).word().to_owned(),
            grouped(class.train_count),
            grouped(class.test_count),
            grouped(class.correct),
            share(class.correct, class.test_count),
            predicted,
            taken.unwrap_or_else(|| NONE.to_owned()),
        ]);
    }
    table
}

/// Speed and waiting, from the steps.
pub fn throughput(run: &RunRecords) -> Option<Table> {
    let steps = &run.metrics.steps;
    let mut speeds: Vec<f64> = steps.iter().filter_map(|step| step.images_per_second).collect();
    speeds.sort_by(f64::total_cmp);
    let median = *speeds.get(speeds.len() / 2)?;
    let seconds: f64 = steps.iter().filter_map(crate::records::metrics::StepLine::seconds).sum();
    let wait: f64 = steps.iter().filter_map(|step| step.data_wait).sum();
    let mut table = Table::new("Throughput", &["what", "value"]);
    let mut fact = |what: &str, value: String| table.row([what.to_owned(), value]);
    fact("images a second, median of the steps", grouped(median.round() as u64));
    fact("images a second, from slowest to fastest step", {
        let [slowest, fastest] =
            [speeds[0], speeds[speeds.len() - 1]].map(|speed| grouped(speed.round() as u64));
        format!("{slowest} to {fastest}")
    });
    fact("time in steps", duration(seconds));
    fact(
        "rank 0 waited for images, share of that time",
        format!("{:.1} %", 100.0 * wait / seconds.max(1e-9)),
    );
    Some(table)
}

/// The settings that are not those of the presets.
pub fn changed(run: &RunRecords) -> Option<Table> {
    let settings = run.settings.as_ref()?;
    let [data, model, method] = &settings.names;
    let caption = format!("Settings that differ from the presets {data}, {model} and {method}");
    let mut table = Table::new(&caption, &["setting", "value", "preset", "from"]);
    for setting in settings.changed() {
        let preset = setting.preset.unwrap_or_else(|| NONE.to_owned());
        table.row([setting.key, setting.value, preset, setting.origin]);
    }
    Some(if table.rows.is_empty() {
        table.with_note("None: the run has the settings of its presets.")
    } else {
        table
    })
}

#[cfg(test)]
mod tests {
    use super::super::{compare, fixtures};
    use super::*;

    #[test]
    fn an_unfinished_run_has_its_state_and_no_figures() {
        let mut run = fixtures::run("runs/a");
        run.result = None;
        let table = runs(&[run]);
        assert_eq!(table.rows[0][..3], ["runs/a", "not finished (no status, step 20)", "–"]);
        assert_eq!(table.rows[0].len(), table.columns.len());
    }

    #[test]
    fn every_row_fits_its_columns() {
        let runs_read = [fixtures::run("runs/a"), fixtures::run("runs/b")];
        let (run, result, evaluation) = (&runs_read[0], fixtures::result(), fixtures::evaluation());
        let groups_of_runs = compare::settings(&runs_read);
        let tables = [
            runs(&runs_read),
            settings(&groups_of_runs),
            facts(run, &result),
            groups(&result, Some(&evaluation)),
            groups(&result, None),
            head_to_tail(&result, &evaluation),
            worst(&result, &evaluation),
            classes(&result, Some(&evaluation)),
            classes(&result, None),
            throughput(run).unwrap(),
            changed(run).unwrap(),
        ];
        for table in tables {
            assert!(!table.rows.is_empty(), "{}", table.caption);
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.caption);
        }
    }

    #[test]
    fn tables_say_what_was_counted() {
        let (result, evaluation) = (fixtures::result(), fixtures::evaluation());
        let tail = head_to_tail(&result, &evaluation);
        assert_eq!(tail.rows[2], ["few", "4", "25.0", "50.0", "25.0", "0.0"]);
        let groups = groups(&result, Some(&evaluation));
        assert_eq!(groups.rows[2], ["few", "fewer than 20", "2", "4", "25.0", "90.0", "65.0"]);
        let worst = worst(&result, &evaluation);
        assert_eq!(worst.rows[0][..4], ["crane", "5", "4", "25.0"]);
        assert!(worst.rows[0][4].starts_with("wren (2), <img"));
        // The class without a test image is not among them, and has no accuracy.
        assert_eq!(worst.rows.len(), 3);
        assert_eq!(classes(&result, Some(&evaluation)).rows[3][4..], ["0", "–", "0", "–"]);
        let changed = changed(&fixtures::run("runs/a")).unwrap();
        assert_eq!(changed.rows[0], ["train.momentum", "0.5", "0.9", "--set train.momentum=0.5"]);
    }
}

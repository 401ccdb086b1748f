//! The figures of a calibration for people and as JSON.

use crate::engine::calibrate::LogitsTable;
use crate::engine::failure::Failure;
use crate::run::{
    Calibration, CalibrationFigures, ConformalFigures, GroupFigures, GroupSets, TableLook, listing_of,
};
use protocol::command_line::OutputArguments;
use protocol::terminal;
use std::fmt::Write;
use std::path::Path;

/// Prints a table, or with `--json` the part of `result.json`.
pub(super) fn print(calibration: &Calibration, output: OutputArguments) -> Result<(), Failure> {
    let printed = if output.json {
        let text = serde_json::to_string(calibration).map_err(Failure::run)?;
        terminal::print_json(&format!("{text}\n"))
    } else {
        terminal::print_as_is(table(calibration, TableLook::of_stdout()))
    };
    printed.map(drop).map_err(Failure::run)
}

/// Writes a line for each image, in the order of the table: its name, its label, and the part it belongs to.
pub(super) fn write_parts(path: &Path, table: &LogitsTable, parts: &[Vec<usize>; 3]) -> Result<(), Failure> {
    let mut of_image = vec![""; table.len()];
    for (images, name) in parts.iter().zip(["temperature", "thresholds", "reported"]) {
        for &image in images {
            of_image[image] = name;
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(["image", "label", "part"]).and_then(|()| {
        table.names.iter().zip(&table.labels).zip(of_image).try_for_each(|((name, label), part)| {
            writer.write_record([name.as_str(), &label.to_string(), part])
        })
    });
    let failed =
        |error: &dyn std::fmt::Display| Failure::run(format!("cannot write `{}`: {error}", path.display()));
    written.map_err(|error| failed(&error))?;
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    protocol::write_atomically(path, &bytes).map_err(|error| failed(&error))
}

const GROUPS: [&str; 4] = ["all", "many", "medium", "few"];

fn table(calibration: &Calibration, look: TableLook) -> String {
    let Calibration { parts, before, after, marginal, by_group, by_class, .. } = calibration;
    let mut text = String::new();
    let target = match calibration.target.as_str() {
        "none" => String::new(),
        target => format!(", probabilities for the class distribution `{target}`"),
    };
    let origin = match parts.temperature {
        0 => "given".to_owned(),
        images => format!("from {images} images"),
    };
    let _ = writeln!(
        text,
        "temperature {:.4} {origin}{}, thresholds from {}, figures of {} others",
        calibration.temperature,
        protocol::terminal::escaped_line(&target),
        parts.thresholds,
        parts.reported
    );
    let figure = |what: &str, figures: &CalibrationFigures, get: fn(&GroupFigures) -> String| {
        let CalibrationFigures { all, many, medium, few } = figures;
        row(what, [all, many, medium, few].map(|group| group.as_ref().map(get)))
    };
    let ece = |group: &GroupFigures| format!("{:.2} %", group.ece);
    let chance = |group: &GroupFigures| {
        group.ece_by_chance.map_or_else(|| "-".to_owned(), |share| format!("{share:.2} %"))
    };
    let nll = |group: &GroupFigures| format!("{:.4}", group.nll);
    let accuracy = |group: &GroupFigures| format!("{:.2} %", group.accuracy);
    let rows = [
        figure("images", after, |group| group.images.to_string()),
        figure("accuracy before", before, accuracy),
        figure("accuracy after", after, accuracy),
        figure("calibration error before", before, ece),
        figure("calibration error after", after, ece),
        figure("  of which by chance", after, chance),
        figure("negative log-likelihood before", before, nll),
        figure("negative log-likelihood after", after, nll),
    ];
    let headers = ["", GROUPS[0], GROUPS[1], GROUPS[2], GROUPS[3]];
    text.push_str(&listing_of(headers, rows, look));
    let _ = writeln!(
        text,
        "\nsets of classes ({}), wanted coverage {:.1} %",
        calibration.score, calibration.wanted
    );
    let sets = |what: &str, figures: &ConformalFigures| {
        let ConformalFigures { all, many, medium, few, .. } = figures;
        let groups = [all, many, medium, few];
        let covered =
            groups.map(|group| group.as_ref().map(|sets: &GroupSets| format!("{:.2} %", sets.coverage)));
        let size =
            groups.map(|group| group.as_ref().map(|sets: &GroupSets| format!("{:.2}", sets.mean_size)));
        [row(&format!("coverage, {what}"), covered), row(&format!("mean size, {what}"), size)]
    };
    let rows = [sets("one threshold", marginal), sets("by group", by_group), sets("by class", by_class)];
    text.push_str(&listing_of(headers, rows.into_iter().flatten(), look));
    let kinds = [("one threshold", marginal), ("by group", by_group), ("by class", by_class)];
    for (what, figures) in kinds.into_iter().filter(|(_, figures)| figures.without_threshold > 0) {
        let _ = writeln!(
            text,
            "{what}: {} classes are in every set, because too few images could fit their threshold",
            figures.without_threshold
        );
    }
    text
}

fn row(what: &str, values: [Option<String>; 4]) -> [String; 5] {
    let [all, many, medium, few] = values.map(|value| value.unwrap_or_else(|| "-".to_owned()));
    [what.to_owned(), all, many, medium, few]
}

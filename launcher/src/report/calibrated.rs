//! The table of a calibration: probabilities, and conformal sets by group of classes.

use super::table::{NONE, Table, percent};
use crate::records::calibration::{CalibrationRecord, FitRecord, SetsRecord};
use protocol::numbers::grouped;

const HEADS: [&str; 11] = [
    "classes",
    "#images",
    "#ECE before",
    "#ECE after",
    "#by chance",
    "#NLL before",
    "#NLL after",
    "#coverage, one threshold",
    "#set size",
    "#coverage, by group",
    "#set size by group",
];

/// What `lift-trainer calibrate` found.
pub fn table(found: &CalibrationRecord) -> Table {
    let mut table = Table::new("Temperature and conformal sets", &HEADS);
    let groups = found.before.named().into_iter().zip(found.after.named());
    let sets = found.marginal.named().into_iter().zip(found.by_group.named());
    for (((name, before), (_, after)), ((_, one), (_, by_group))) in groups.zip(sets) {
        let ece = |fit: Option<&FitRecord>| percent(fit.map(|fit| fit.ece));
        let nll = |fit: Option<&FitRecord>| of(fit, |fit| format!("{:.3}", fit.nll));
        let coverage = |sets: Option<&SetsRecord>| percent(sets.map(|sets| sets.coverage));
        let size = |sets: Option<&SetsRecord>| of(sets, |sets| format!("{:.1}", sets.mean_size));
        table.row([
            name.to_owned(),
            of(after, |fit| grouped(fit.images)),
            ece(before),
            ece(after),
            percent(after.and_then(|fit| fit.ece_by_chance)),
            nll(before),
            nll(after),
            coverage(one),
            size(one),
            coverage(by_group),
            size(by_group),
        ]);
    }
    let target = match found.target.as_str() {
        "none" => String::new(),
        target => format!(" Probabilities are for the class distribution {target}."),
    };
    table.with_note(&format!(
        "Temperature {:.3}; figures of images on which nothing was fitted.{target} ECE and coverage in percent; \"by chance\" is \
         the ECE after of a model whose probabilities are right; sets ({}) for a coverage of {} %, sizes in classes.",
        found.temperature, found.score, found.wanted
    ))
}

fn of<T>(figures: Option<&T>, text: impl Fn(&T) -> String) -> String {
    figures.map_or_else(|| NONE.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_is_a_row_for_each_group() {
        let fit = serde_json::json!({ "images": 1200, "accuracy": 50.0, "nll": 1.25, "ece": 3.24, "ece_by_chance": 1.0 });
        let old = serde_json::json!({ "images": 1200, "accuracy": 50.0, "nll": 1.25, "ece": 3.24 });
        let sets = serde_json::json!({ "coverage": 89.96, "mean_size": 2.5, "empty": 0.0 });
        let groups = |of: &serde_json::Value| serde_json::json!({ "all": of, "many": of, "medium": null, "few": null });
        let found = serde_json::json!({
            "temperature": 1.5, "target": "train", "score": "raps", "wanted": 90.0, "before": groups(&old),
            "after": groups(&fit), "marginal": groups(&sets), "by_group": groups(&sets), "seed": 0,
        });
        let table = table(&serde_json::from_value(found).unwrap());
        let expected = ["all", "1,200", "3.2", "3.2", "1.0", "1.250", "1.250", "90.0", "2.5", "90.0", "2.5"];
        assert_eq!((table.rows.len(), &table.rows[0][..]), (4, &expected.map(str::to_owned)[..]));
        assert!(table.rows[3][1..].iter().all(|cell| cell == NONE));
        let note = table.note.unwrap();
        assert!(
            note.contains("Temperature 1.500") && note.contains("the class distribution train."),
            "{note}"
        );
    }
}

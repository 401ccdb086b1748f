//! The table in docs/fidelity.md: the compared cases and the maximum error for each option of the official code.
//! `LIFT_UPDATE_DOCS=1` measures and writes it. Otherwise the page is compared with the registries and the cases.

use crate::case::{Case, roots};
use crate::coverage::compared_cases;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use trainer::engine::setup::head_init::HeadInits;
use trainer::model::heads::Heads;
use trainer::model::losses::Losses;
use trainer::model::tuners::Tuners;
use trainer::options::Registry;

/// Maximum errors so far by case and precision, relative to the largest value of the output.
static MAX_ERRORS: Mutex<BTreeMap<(String, String), f64>> = Mutex::new(BTreeMap::new());

/// Records an error of a case that is within the tolerance.
pub fn record(case: &str, tolerance: &str, error: f64) {
    let mut max_errors = MAX_ERRORS.lock().unwrap();
    let max_errors = max_errors.entry((case.to_owned(), tolerance.to_owned())).or_insert(0.0);
    *max_errors = max_errors.max(error);
}

/// An option of the trainer, the official option, and the cases that use it.
struct Row {
    option: String,
    official: String,
    cases: Vec<String>,
}

const BEGIN: &str = "<!-- table: golden -->\n";
const END: &str = "<!-- end of golden -->\n";

#[test]
fn golden_fidelity_page_names_every_option() {
    let Some(rows) = rows() else {
        eprintln!("skipped: golden_fidelity_page_names_every_option (the complete set is not found)");
        return;
    };
    for row in &rows {
        assert!(!row.cases.is_empty(), "{} ({}) has no compared case", row.option, row.official);
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fidelity.md"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a table");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("LIFT_UPDATE_DOCS").is_some() {
        measure();
        std::fs::write(&path, [before, BEGIN, &format_table(&rows), END, after].concat()).unwrap();
        return;
    }
    for row in &rows {
        let start = format!("| {} | {} | {} |", row.option, row.official, row.cases.len());
        assert!(
            table.lines().any(|line| line.starts_with(&start)),
            "docs/fidelity.md lacks `{start}`\nhint: run `LIFT_UPDATE_DOCS=1 cargo test --release -p trainer --test golden -- \
             fidelity`"
        );
    }
}

/// Runs every comparison that records errors.
fn measure() {
    crate::backbone::golden_backbone();
    crate::classifiers::golden_classifiers();
    crate::losses::golden_losses();
    crate::peft::golden_peft();
    crate::init::golden_init_text();
    crate::image_starts::golden_init_from_images();
    crate::train::golden_train();
    crate::checkpoint::golden_checkpoint();
    crate::crops::golden_eval_crops();
}

fn format_table(rows: &[Row]) -> String {
    let max_errors = MAX_ERRORS.lock().unwrap();
    let mut table = "\n| option | official | cases | worst error, fp64 | worst error, fp32 |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for Row { option, official, cases } in rows {
        let errors = ["fp64", "fp32"].map(|tolerance| {
            let of_case = |case: &String| max_errors.get(&(case.clone(), tolerance.to_owned())).copied();
            let greatest = cases.iter().filter_map(of_case).reduce(f64::max);
            greatest.map_or_else(|| "exact".to_owned(), |error| format!("{error:.0e}"))
        });
        let _ =
            writeln!(table, "| {option} | {official} | {} | {} | {} |", cases.len(), errors[0], errors[1]);
    }
    table.push('\n');
    table
}

/// The rows of all options, from the registries and the cases of the complete set; `None` without that set.
fn rows() -> Option<Vec<Row>> {
    // The first two sets are those of the repository.
    let complete = roots().into_iter().nth(2)?;
    let cases: Vec<(String, Value)> = compared_cases(&complete)
        .into_iter()
        .map(|case| (case.clone(), manifest(&complete, &case)))
        .collect();
    let row = |option: String, official: &str, has: &dyn Fn(&str, &Value) -> bool| {
        let of_row = cases.iter().filter(|(case, manifest)| has(case, &manifest["config"]));
        Row { option, official: official.to_owned(), cases: of_row.map(|(case, _)| case.clone()).collect() }
    };
    let mut rows = Vec::new();
    for method in Tuners::METHODS {
        for official in method.official {
            let option = format!("`tuner.kinds={}`", method.word);
            rows.push(row(option, &format!("`{official}`"), &|_, config| config[*official] == true));
        }
    }
    let named =
        |key: &'static str, official: &'static str| move |_: &str, config: &Value| config[key] == official;
    for method in Losses::METHODS {
        for official in method.official {
            let option = format!("`loss.kind={}`", method.word);
            let has =
                |case: &str, config: &Value| case.starts_with("losses/") && config["loss_type"] == *official;
            rows.push(row(option, &format!("`{official}`"), &has));
        }
    }
    for method in Heads::METHODS {
        for official in method.official {
            let option = format!("`head.kind={}`", method.word);
            let has =
                |case: &str, config: &Value| !case.starts_with("init/") && config["classifier"] == *official;
            rows.push(row(option, &format!("`{official}`"), &has));
        }
    }
    for method in HeadInits::METHODS {
        for official in method.official {
            let option = format!("`head.init={}`", method.word);
            rows.push(row(option, &format!("`{official}`"), &named("init_head", official)));
        }
    }
    for (option, official) in
        [("default", "default"), ("classname", "classname"), ("ensemble", "ensemble"), ("FILE", "descriptor")]
    {
        rows.push(row(
            format!("`head.prompts={option}`"),
            &format!("`{official}`"),
            &named("prompt", official),
        ));
    }
    for (option, official) in [("five", "fivecrop"), ("ten", "tencrop")] {
        rows.push(row(
            format!("`eval.crops={option}`"),
            &format!("`{official}`"),
            &named("tte_mode", official),
        ));
    }
    rows.push(row("`eval.crops=centre`".to_owned(), "no `tte`", &|_, config| config["tte"] == false));
    for (what, folder) in
        [("towers", "backbone/"), ("trajectories of SGD", "train/"), ("checkpoints", "checkpoint/lift")]
    {
        rows.push(row(what.to_owned(), "", &|case, _| case.starts_with(folder)));
    }
    Some(rows)
}

fn manifest(root: &Path, case: &str) -> Value {
    let text = std::fs::read_to_string(root.join(case).join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Case {
    /// Records the error of an output, relative to its largest value.
    pub fn record(&self, tolerance: &str, error: f64, greatest: f64) {
        record(&self.name, tolerance, error / greatest.max(f64::MIN_POSITIVE));
    }
}

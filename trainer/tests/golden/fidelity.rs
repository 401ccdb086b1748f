//! The table of docs/fidelity.md: for each option of the official code the cases that are compared, and the worst error
//! in them. `LIFT_UPDATE_DOCS=1` measures and writes it; else the page is compared with the registries and the cases.

use crate::case::{Case, roots};
use crate::coverage::compared_everywhere;
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

/// Worst errors of the cases compared so far, by case and precision, relative to the greatest number of an output.
static WORST: Mutex<BTreeMap<(String, String), f64>> = Mutex::new(BTreeMap::new());

/// Notes an error of a case that was within its tolerance.
pub fn note(case: &str, tolerance: &str, error: f64) {
    let mut worst = WORST.lock().unwrap();
    let worst = worst.entry((case.to_owned(), tolerance.to_owned())).or_insert(0.0);
    *worst = worst.max(error);
}

/// An option of ours, the official one, and the cases whose configuration names it.
struct Row {
    ours: String,
    official: String,
    cases: Vec<String>,
}

const BEGIN: &str = "<!-- table: golden -->\n";
const END: &str = "<!-- end of golden -->\n";

#[test]
fn golden_fidelity_page_names_every_option() {
    let Some(rows) = rows() else {
        eprintln!("skipped: golden_fidelity_page_names_every_option (the whole set is not here)");
        return;
    };
    for row in &rows {
        assert!(!row.cases.is_empty(), "{} ({}) has no case that is compared", row.ours, row.official);
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fidelity.md"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a table");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("LIFT_UPDATE_DOCS").is_some() {
        measure();
        std::fs::write(&path, [before, BEGIN, &written(&rows), END, after].concat()).unwrap();
        return;
    }
    for row in &rows {
        let start = format!("| {} | {} | {} |", row.ours, row.official, row.cases.len());
        assert!(
            table.lines().any(|line| line.starts_with(&start)),
            "docs/fidelity.md lacks `{start}`\nhint: run `LIFT_UPDATE_DOCS=1 cargo test --release -p trainer --test golden -- \
             fidelity`"
        );
    }
}

/// Runs every comparison whose errors are noted.
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

fn written(rows: &[Row]) -> String {
    let worst = WORST.lock().unwrap();
    let mut table = "\n| option | official | cases | worst error, fp64 | worst error, fp32 |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for Row { ours, official, cases } in rows {
        let errors = ["fp64", "fp32"].map(|tolerance| {
            let of_case = |case: &String| worst.get(&(case.clone(), tolerance.to_owned())).copied();
            let greatest = cases.iter().filter_map(of_case).reduce(f64::max);
            greatest.map_or_else(|| "exact".to_owned(), |error| format!("{error:.0e}"))
        });
        let _ = writeln!(table, "| {ours} | {official} | {} | {} | {} |", cases.len(), errors[0], errors[1]);
    }
    table.push('\n');
    table
}

/// The rows of all options, from the registries and from the cases of the whole set; nothing without that set.
fn rows() -> Option<Vec<Row>> {
    // After the two sets that are kept here.
    let whole = roots().into_iter().nth(2)?;
    let cases: Vec<(String, Value)> =
        compared_everywhere(&whole).into_iter().map(|case| (case.clone(), manifest(&whole, &case))).collect();
    let row = |ours: String, official: &str, has: &dyn Fn(&str, &Value) -> bool| {
        let of_row = cases.iter().filter(|(case, manifest)| has(case, &manifest["config"]));
        Row { ours, official: official.to_owned(), cases: of_row.map(|(case, _)| case.clone()).collect() }
    };
    let mut rows = Vec::new();
    for method in Tuners::METHODS {
        for official in method.official {
            let ours = format!("`tuner.kinds={}`", method.word);
            rows.push(row(ours, &format!("`{official}`"), &|_, config| config[*official] == true));
        }
    }
    let named =
        |key: &'static str, official: &'static str| move |_: &str, config: &Value| config[key] == official;
    for method in Losses::METHODS {
        for official in method.official {
            let ours = format!("`loss.kind={}`", method.word);
            let has =
                |case: &str, config: &Value| case.starts_with("losses/") && config["loss_type"] == *official;
            rows.push(row(ours, &format!("`{official}`"), &has));
        }
    }
    for method in Heads::METHODS {
        for official in method.official {
            let ours = format!("`head.kind={}`", method.word);
            let has =
                |case: &str, config: &Value| !case.starts_with("init/") && config["classifier"] == *official;
            rows.push(row(ours, &format!("`{official}`"), &has));
        }
    }
    for method in HeadInits::METHODS {
        for official in method.official {
            let ours = format!("`head.init={}`", method.word);
            rows.push(row(ours, &format!("`{official}`"), &named("init_head", official)));
        }
    }
    for (ours, official) in
        [("default", "default"), ("classname", "classname"), ("ensemble", "ensemble"), ("FILE", "descriptor")]
    {
        rows.push(row(
            format!("`head.prompts={ours}`"),
            &format!("`{official}`"),
            &named("prompt", official),
        ));
    }
    for (ours, official) in [("five", "fivecrop"), ("ten", "tencrop")] {
        rows.push(row(
            format!("`eval.crops={ours}`"),
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
    /// Notes how far an output is off, relative to its greatest number.
    pub fn note(&self, tolerance: &str, error: f64, greatest: f64) {
        note(&self.name, tolerance, error / greatest.max(f64::MIN_POSITIVE));
    }
}

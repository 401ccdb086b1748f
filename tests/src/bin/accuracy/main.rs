//! Compares accuracies with the official figures (`make accuracy`): predictions of official checkpoints, and
//! trainings of two and of ten epochs.
//!
//!     accuracy [checkpoints] [two-epochs] [ten-epochs]        without names: all of them
//!
//! The runs are in `runs/accuracy/`; finished runs are not repeated. Each table is written into `docs/fidelity.md`,
//! between its two markers. The exit code is 1 if a difference exceeds its limit.

mod checkpoints;
mod ten_epochs;
mod training;
mod two_epochs;

use std::path::Path;
use std::process::ExitCode;
use tests::official::Official;

/// A part of the comparison.
struct ComparedPart {
    name: &'static str,
    compare: fn(&Official, &Path) -> Compared,
}

/// The result of a part.
struct Compared {
    /// The table, as Markdown.
    table: Vec<String>,
    /// The differences that exceed their limits, one sentence each.
    excessive: Vec<String>,
}

const PARTS: [ComparedPart; 3] = [
    ComparedPart { name: "checkpoints", compare: |official, _| checkpoints::compare(official) },
    ComparedPart { name: "two-epochs", compare: two_epochs::compare },
    ComparedPart { name: "ten-epochs", compare: ten_epochs::compare },
];

fn main() -> ExitCode {
    let requested: Vec<String> = std::env::args().skip(1).collect();
    let names = PARTS.map(|part| part.name);
    if let Some(other) = requested.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("error: no part `{other}`; expected some of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let Some(official) = Official::find("accuracy") else { return ExitCode::from(2) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut excessive = Vec::new();
    for part in &PARTS {
        if requested.is_empty() || requested.iter().any(|name| name == part.name) {
            let found = (part.compare)(&official, &root.join("runs/accuracy"));
            let table = found.table.join("\n");
            println!("{table}\n");
            write_page(&root.join("docs/fidelity.md"), part.name, &table);
            excessive.extend(found.excessive);
        }
    }
    for difference in &excessive {
        println!("too different: {difference}");
    }
    ExitCode::from(u8::from(!excessive.is_empty()))
}

/// Replaces a table of the page, between its markers.
fn write_page(page: &Path, name: &str, table: &str) {
    let markers = [format!("<!-- table: accuracy {name} -->"), format!("<!-- end of {name} -->")];
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (before, rest) = text.split_once(&markers[0]).expect("the page has a marker before its table");
    let (_, after) = rest.split_once(&markers[1]).expect("the page has a marker after its table");
    let text = format!("{before}{}\n\n{table}\n\n{}{after}", markers[0], markers[1]);
    std::fs::write(page, text).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
}

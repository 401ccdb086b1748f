//! Compares with the official figures and prints ours beside them (`make accuracy`): the answers that official checkpoints
//! give here, and what training reaches in two and in ten epochs.
//!
//!     accuracy [checkpoints] [two-epochs] [ten-epochs]        all of them where none is named
//!
//! Runs lie in `runs/accuracy/`; those that are finished are not made again. Each table goes into `docs/fidelity.md`,
//! between its two marks. The exit code is 1 where something is too far apart.

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

/// What a part found.
struct Compared {
    /// The table, as Markdown.
    table: Vec<String>,
    /// What is too far apart, a sentence each.
    apart: Vec<String>,
}

const PARTS: [ComparedPart; 3] = [
    ComparedPart { name: "checkpoints", compare: |official, _| checkpoints::compare(official) },
    ComparedPart { name: "two-epochs", compare: two_epochs::compare },
    ComparedPart { name: "ten-epochs", compare: ten_epochs::compare },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let names = PARTS.map(|part| part.name);
    if let Some(other) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("error: no part `{other}`; expected some of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let Some(official) = Official::find("accuracy") else { return ExitCode::from(2) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut apart = Vec::new();
    for part in &PARTS {
        if wanted.is_empty() || wanted.iter().any(|name| name == part.name) {
            let found = (part.compare)(&official, &root.join("runs/accuracy"));
            let table = found.table.join("\n");
            println!("{table}\n");
            write_page(&root.join("docs/fidelity.md"), part.name, &table);
            apart.extend(found.apart);
        }
    }
    for difference in &apart {
        println!("apart: {difference}");
    }
    ExitCode::from(u8::from(!apart.is_empty()))
}

/// Replaces a table of the page, between its marks.
fn write_page(page: &Path, name: &str, table: &str) {
    let marks = [format!("<!-- table: accuracy {name} -->"), format!("<!-- end of {name} -->")];
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (before, rest) = text.split_once(&marks[0]).expect("the page has a mark before its table");
    let (_, after) = rest.split_once(&marks[1]).expect("the page has a mark after its table");
    let text = format!("{before}{}\n\n{table}\n\n{}{after}", marks[0], marks[1]);
    std::fs::write(page, text).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
}

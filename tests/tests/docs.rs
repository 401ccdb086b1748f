//! Pages of docs/ that quote the code.

use std::fs;
use std::path::{Path, PathBuf};

/// Rows such as `| 71 | `code` | text |`, below a line that names the file.
#[test]
fn the_walk_through_the_loop_quotes_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = root.join("docs/architecture.md");
    let found = fs::read_to_string(&page).unwrap();
    let (mut file, mut from, mut rows) = (None::<PathBuf>, 0, 0);
    let lines = found.lines().map(|line| {
        if let Some(path) = line.strip_prefix('`').and_then(|line| line.strip_suffix("`:")) {
            (file, from) = (Some(root.join(path)), 0);
        }
        let Some((code, text)) = quoted(line) else { return line.to_owned() };
        let source = fs::read_to_string(file.as_ref().expect("a file is named first")).unwrap();
        let after = source.lines().skip(from).position(|line| line.contains(code));
        let at = from + after.unwrap_or_else(|| panic!("`{code}` is not in {file:?} below line {from}"));
        (from, rows) = (at + 1, rows + 1);
        format!("| {} | `{code}` | {text}", at + 1)
    });
    let page_now = lines.collect::<Vec<_>>().join("\n") + "\n";
    assert!(rows > 20, "{rows} rows");
    if std::env::var_os("LIFT_UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&page, page_now).unwrap();
        return;
    }
    assert!(
        found == page_now,
        "{} has other line numbers than the code; run the test with LIFT_UPDATE_DOCS=1",
        page.display()
    );
}

/// Code and text of a row that begins with a number.
fn quoted(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
    number.parse::<u32>().ok()?;
    rest.split_once("` | ")
}

/// Every page is in the book, and the book names no other page. mdbook would create a missing one.
#[test]
fn the_book_has_every_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let linked = summary.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    let mut linked: Vec<String> = linked.collect();
    let pages = fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> =
        pages.filter(|name| name.strip_suffix(".md").is_some_and(|page| page != "SUMMARY")).collect();
    linked.sort();
    pages.sort();
    assert_eq!(linked, pages, "docs/SUMMARY.md lists other pages than docs/");
}

/// Links lead to files, and pages of the book link to nothing outside it.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::canonicalize(root.join("docs")).unwrap();
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "slurm/README.md"].map(|page| root.join(page)).into();
    pages.extend(fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().path()));
    let mut checked = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(page).unwrap();
        // Code has brackets of its own.
        let prose = text.split("```").step_by(2).collect::<String>();
        for link in prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = fs::canonicalize(page.parent().unwrap().join(file));
            let target = target.unwrap_or_else(|_| panic!("{}: `{link}` leads nowhere", page.display()));
            let of_book = page.starts_with(&docs);
            assert!(
                !of_book || target.starts_with(&docs),
                "{}: `{link}` is outside the book",
                page.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} links");
}

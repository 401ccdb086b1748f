//! `lift-trainer list`: complete tables and JSON, without opening data or weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use tests::{run, stderr, succeed, trainer};

const GROUPS: [&str; 7] = ["data", "models", "methods", "tuners", "losses", "heads", "inits"];

fn listed(arguments: &[&str]) -> String {
    let output = succeed(trainer(1).arg("list").args(arguments));
    assert_eq!(stderr(&output), "");
    String::from_utf8(output.stdout).unwrap()
}

fn names(group: &Value) -> Vec<&str> {
    group.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

/// Names of the preset files of a folder, sorted.
fn files(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(folder);
    let name = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".toml").map(str::to_owned);
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().filter_map(|entry| name(&entry.unwrap().path())).collect();
    names.sort();
    names
}

#[test]
fn json_contains_every_preset_and_word_with_its_description() {
    let all: Value = serde_json::from_str(&listed(&["--json"])).unwrap();
    assert_eq!(all.as_object().unwrap().len(), GROUPS.len());
    for group in GROUPS {
        let entries = all[group].as_array().unwrap();
        assert!(!entries.is_empty(), "{group}");
        assert!(entries.iter().all(|entry| !entry["about"].as_str().unwrap().is_empty()), "{group}");
        let alone: Value = serde_json::from_str(&listed(&[group, "--json"])).unwrap();
        assert_eq!(alone, serde_json::json!({ group: entries }));
    }
    for (group, folder) in [("data", "data"), ("models", "model"), ("methods", "method")] {
        assert_eq!(names(&all[group]), files(folder));
    }
    for (group, word) in
        [("tuners", "adaptformer"), ("losses", "logit_adjusted"), ("heads", "cosine"), ("inits", "text")]
    {
        assert!(names(&all[group]).contains(&word), "{group}");
    }
}

#[test]
fn tables_have_one_line_per_name_and_no_colour() {
    let all: Value = serde_json::from_str(&listed(&["--json"])).unwrap();
    let text = listed(&[]);
    assert!(!text.contains('\u{1b}'), "{text}");
    let tables: Vec<_> = text.split("\n\n").collect();
    assert_eq!(tables.len(), GROUPS.len());
    for (group, table) in GROUPS.into_iter().zip(tables) {
        let mut firsts = table.lines().map(|line| line.split_whitespace().next().unwrap());
        assert_eq!(firsts.next(), Some(group));
        assert_eq!(firsts.collect::<Vec<_>>(), names(&all[group]));
        assert_eq!(listed(&[group]).trim_end(), table.trim_end());
    }
    assert!(text.contains("--method NAME") && text.contains("--set loss.kind=NAME"), "{text}");
}

#[test]
fn presets_of_another_folder_are_listed() {
    let own = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    std::fs::copy(configs.join("base.toml"), own.path().join("base.toml")).unwrap();
    for kind in ["data", "model", "method"] {
        std::fs::create_dir(own.path().join(kind)).unwrap();
    }
    std::fs::write(own.path().join("data/pets.toml"), "# Cats and dogs. At home.\n#\n# A note.\n[data]\n")
        .unwrap();
    let output = succeed(trainer(1).args(["list", "data"]).env("LIFT_CONFIGS", own.path()));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "data  -d NAME\npets  Cats and dogs.\n");
    let refused = run(trainer(1).arg("list").env("LIFT_CONFIGS", own.path().join("data")));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("LIFT_CONFIGS"), "{}", stderr(&refused));
}

#[test]
fn an_unknown_group_lists_the_groups() {
    let output = run(trainer(1).args(["list", "loses"]));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(GROUPS.iter().all(|group| messages.contains(group)), "{messages}");
    let help = String::from_utf8(succeed(trainer(1).args(["list", "--help"])).stdout).unwrap();
    assert!(help.contains("lift-trainer list methods"), "{help}");
}

#[test]
fn several_ranks_print_one_table_and_respect_no_color() {
    let alone: Value = serde_json::from_str(&listed(&["heads", "--json"])).unwrap();
    let output_of = |arguments: &[&str]| {
        let mut ranks = trainer(2);
        ranks.env("TERM", "xterm").arg("list").args(arguments);
        String::from_utf8(succeed(&mut ranks).stdout).unwrap()
    };
    assert_eq!(serde_json::from_str::<Value>(&output_of(&["heads", "--json"])).unwrap(), alone);
    // Open MPI gives the first rank a terminal, so the table has lines; NO_COLOR disables bold text.
    let table = output_of(&["heads"]);
    assert_eq!(table.matches("zero_shot").count(), 1, "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
}

#[test]
fn list_starts_neither_mpi_nor_a_run() {
    // With these variables, `MPI_Init` ends the process.
    let broken = [("OMPI_MCA_pml", "none-such"), ("OMPI_MCA_btl", "none-such")];
    let folder = tempfile::tempdir().unwrap();
    let output = succeed(trainer(1).args(["list", "heads"]).envs(broken).current_dir(folder.path()));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), listed(&["heads"]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

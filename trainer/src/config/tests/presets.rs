//! `base.toml` against the sections, the embedded list against the folder, and the reference page.

use crate::config::layers::{full_name, parse};
use crate::config::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn project(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

#[test]
fn base_has_every_key_with_a_comment() {
    let base = Presets::embedded().base().unwrap().text;
    let table = parse(&base, &Origin::Base).unwrap();
    let expected: BTreeSet<_> = keys().map(|(section, key)| full_name(section, key)).collect();
    let sections = table.iter().flat_map(|(section, values)| {
        values.as_table().unwrap().keys().map(move |key| format!("{section}.{key}"))
    });
    assert_eq!(sections.collect::<BTreeSet<_>>(), expected);
    let mut section = String::new();
    for line in base.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if let Some((key, rest)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(rest.contains(" # ") && rest.len() > rest.find(" # ").unwrap() + 4, "{section} {key}");
        }
    }
}

#[test]
fn the_struct_has_every_key() {
    let table = toml::Table::try_from(super::resolved(&super::demo("lift", &[])).config).unwrap();
    let sections: BTreeSet<_> = table.keys().map(String::as_str).collect();
    assert_eq!(sections, SECTIONS.iter().map(|section| section.name).collect());
    for section in SECTIONS {
        let fields: BTreeSet<_> =
            table[section.name].as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, section.keys.iter().map(|key| key.name).collect(), "{}", section.name);
    }
}

#[test]
fn every_word_of_base_is_listed_beside_it() {
    let base = Presets::embedded().base().unwrap().text;
    for (section, key) in keys().filter(|(_, key)| !key.words.is_empty()) {
        let (_, rest) = base.split_once(&format!("[{}]", section.name)).unwrap();
        let line = rest.lines().find(|line| line.starts_with(&format!("{} = ", key.name))).unwrap();
        for word in key.words {
            assert!(line.split(" # ").nth(1).unwrap().contains(word.word), "{} in: {line}", word.word);
        }
    }
}

#[test]
fn every_file_of_the_folder_is_embedded() {
    let embedded = Presets::embedded();
    let folder = Presets::find_from(Some(project("configs").into()), None).unwrap();
    assert_eq!(folder.base().unwrap().text, embedded.base().unwrap().text);
    for kind in PresetKind::ALL {
        let names = folder.names(kind).unwrap();
        assert_eq!(names, embedded.names(kind).unwrap());
        for name in names {
            assert_eq!(folder.read(kind, &name).unwrap().text, embedded.read(kind, &name).unwrap().text);
        }
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let (path, page) = (project("docs/configuration.md"), Config::reference_markdown());
    if std::env::var_os("LIFT_UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "{} is out of date; run the test with LIFT_UPDATE_DOCS=1", path.display());
}

#[test]
fn the_reference_page_names_every_key_and_word() {
    let page = Config::reference_markdown();
    for (section, key) in keys() {
        assert!(page.contains(&format!("| `{}` |", full_name(section, key))), "{}", full_name(section, key));
        assert!(!key.about.is_empty());
        for word in key.words {
            assert!(
                page.contains(&format!("- `{}`: ", word.word)) && !word.about.is_empty(),
                "{}",
                word.word
            );
        }
    }
}

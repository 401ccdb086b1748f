//! `base.toml` and the reference page against the declarations, and the embedded list against the folder.

use crate::config::layers::parse;
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
    let expected: BTreeSet<_> = keys().map(|key| key.name.to_owned()).collect();
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
    assert_eq!(sections, tables().iter().map(|table| table.name).collect());
    for Table { name, keys, .. } in tables() {
        let fields: BTreeSet<_> = table[*name].as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, keys.iter().map(|key| key.short).collect(), "{name}");
    }
}

#[test]
fn every_word_of_base_is_listed_beside_it() {
    let base = Presets::embedded().base().unwrap().text;
    for key in keys() {
        let (section, name) = key.name.split_once('.').unwrap();
        let (_, rest) = base.split_once(&format!("[{section}]")).unwrap();
        let line = rest.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        for word in (key.words)() {
            assert!(line.split(" # ").nth(1).unwrap().contains(word.word), "{} in: {line}", word.word);
        }
    }
}

#[test]
fn every_file_of_the_folder_is_embedded() {
    let embedded = Presets::embedded();
    let folder = Presets::find_from(Some(project("configs").into()), None).unwrap();
    for kind in PresetKind::ALL {
        let names = folder.names(kind).unwrap();
        assert_eq!(names, embedded.names(kind).unwrap());
        for name in names {
            assert_eq!(folder.read(kind, &name).unwrap().text, embedded.read(kind, &name).unwrap().text);
        }
    }
}

#[test]
fn generated_files_are_up_to_date() {
    let base = Presets::embedded().base().unwrap().text;
    let files = [("configs/base.toml", base), ("docs/configuration.md", Config::reference_markdown())];
    for (name, text) in files {
        let path = project(name);
        if std::env::var_os("LIFT_UPDATE_DOCS").is_some_and(|value| value == "1") {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{name} is out of date; run the test with LIFT_UPDATE_DOCS=1");
    }
}

#[test]
fn the_reference_page_names_every_key_and_word() {
    let page = Config::reference_markdown();
    for key in keys() {
        assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        assert!(!key.about.is_empty());
        for word in (key.words)() {
            assert!(
                page.contains(&format!("- `{}`: ", word.word)) && !word.about.is_empty(),
                "{}",
                word.word
            );
        }
    }
}

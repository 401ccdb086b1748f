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
    for OptionTable { name, keys, .. } in tables() {
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

/// Methods whose head needs class names as text.
const NEED_TEXT: [&str; 3] = ["prompt_classname", "prompt_ensemble", "zero_shot"];

#[test]
fn every_preset_resolves_with_every_other() {
    let presets = Presets::embedded();
    let names = |kind| presets.names(kind).unwrap();
    let has_text = |model: &str| {
        let set: &[&str] = if model == "demo" { &[] } else { &["model.weights=/w"] };
        super::resolved(&super::select("demo", model, "classifier", set)).config.model.kind.has_text_tower()
    };
    let image_towers = names(PresetKind::Model).iter().filter(|model| !has_text(model)).count();
    let mut resolved = 0;
    for data in names(PresetKind::Data) {
        for model in names(PresetKind::Model) {
            for method in names(PresetKind::Method) {
                let mut set = Vec::new();
                if data != "demo" {
                    set.push("data.root=/d");
                }
                if model != "demo" {
                    set.push("model.weights=/w");
                }
                let selection = super::select(&data, &model, &method, &set);
                if !has_text(&model) && NEED_TEXT.contains(&method.as_str()) {
                    assert!(super::refusal(&selection).contains("no text tower"), "{selection:?}");
                } else {
                    let ended = super::resolve(&selection);
                    assert!(ended.is_ok(), "{selection:?}: {}", ended.unwrap_err());
                    resolved += 1;
                }
            }
        }
    }
    let [data, models, methods] = PresetKind::ALL.map(|kind| names(kind).len());
    assert_eq!(resolved, data * (models * methods - image_towers * NEED_TEXT.len()));
}

/// Commands in the head comments of the method presets: `lift-trainer train -d D -m M --method NAME --set K=V ...`.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("#     lift-trainer train "))
}

#[test]
fn every_method_begins_with_commands_that_resolve() {
    let presets = Presets::embedded();
    for method in presets.names(PresetKind::Method).unwrap() {
        let text = presets.read(PresetKind::Method, &method).unwrap().text;
        assert_ne!(commands(&text).count(), 0, "{method} shows no command");
        for command in commands(&text) {
            let words: Vec<_> = command.split(' ').collect();
            let after = |flag: &str| -> Vec<&str> {
                words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]).collect()
            };
            assert_eq!(after("--method"), [method.as_str()], "{command}");
            let set = [after("--set"), vec!["data.root=/d", "model.weights=/w"]].concat();
            let ended = super::resolve(&super::select(after("-d")[0], after("-m")[0], &method, &set));
            assert!(ended.is_ok(), "{command}: {}", ended.unwrap_err());
        }
    }
}

#[test]
fn the_page_of_the_papers_tables_names_every_method() {
    let page = fs::read_to_string(project("docs/paper.md")).unwrap();
    let presets = Presets::embedded();
    let is_of_the_paper = |method: &String| {
        !presets.read(PresetKind::Method, method).unwrap().text.contains("Not a row of the paper")
    };
    for method in presets.names(PresetKind::Method).unwrap().into_iter().filter(is_of_the_paper) {
        let is_named = page.contains(&format!("--method {method}")) || page.contains(&format!("`{method}`"));
        assert!(is_named, "{method}");
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

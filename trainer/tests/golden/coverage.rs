//! Which cases of the whole set are compared, and which are for later: nothing is left out in silence.

use crate::case::roots;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trainer::engine::head_init::HeadInits;
use trainer::model::heads::Heads;
use trainer::model::losses::Losses;
use trainer::options::Registry;

/// Groups, and whether a case of it is compared by the golden test of its group.
pub fn covered(group: &str, name: &str) -> bool {
    match group {
        "backbone" => !name.contains("-rn"),
        "peft/clip-vit" | "peft/in21k-vit" | "peft/plus-clip-vit" | "peft/plus-in21k-vit" => {
            !group.contains("plus-") || name.starts_with("adaptformer")
        }
        "losses" => name.split('-').nth(1).is_some_and(|official| Losses::of_official(official).is_some()),
        "classifiers" => name.starts_with("lift-") || name.contains("CosineClassifier"),
        "init" => {
            name.starts_with("lift-") && !name.contains("-rn-")
                || name == "plus-in21k-vit-class_mean"
                || name == "plus-clip-vit-class_mean"
        }
        "train" => {
            name.starts_with("plus-adaptformer") || !(name.starts_with("plus-") || name.contains("-rn-"))
        }
        "samplers" => !name.contains("ReSampler"),
        "images" | "images/golden" => !name.starts_with("plus-mda"),
        "checkpoint" => name.starts_with("lift-") && !name.contains("-rn-"),
        "eval" | "tokenizer" | "checkpoint/hostile" => true,
        _ => false,
    }
}

#[test]
fn golden_coverage_is_said_aloud() {
    let mut groups = BTreeMap::new();
    let roots = roots();
    for root in &roots {
        collect(root, root, &roots, &mut groups);
    }
    let (mut compared, mut later) = (0, 0);
    for (group, names) in &groups {
        let (done, open): (Vec<_>, Vec<_>) = names.iter().partition(|name| covered(group, name));
        compared += done.len();
        later += open.len();
        if !open.is_empty() {
            eprintln!("not yet: {group}: {} of {} cases", open.len(), names.len());
        }
    }
    eprintln!("golden cases: {compared} compared, {later} not yet");
    assert!(compared > 0);
}

/// Every head and every start that the official code has is among the compared cases of the whole set.
#[test]
fn golden_coverage_of_heads_and_starts() {
    let roots = roots();
    let mut groups = BTreeMap::new();
    collect(&roots[roots.len() - 1], &roots[roots.len() - 1], &roots, &mut groups);
    let Some(starts) = groups.get("init").filter(|starts| starts.len() > 10) else {
        eprintln!("skipped: golden_coverage_of_heads_and_starts (the whole set is not here)");
        return;
    };
    let compared = |group: &str, names: &[String], ends_with: &str| {
        names.iter().any(|name| name.ends_with(ends_with) && covered(group, name))
    };
    for official in Heads::METHODS.iter().flat_map(|method| method.official) {
        assert!(compared("classifiers", &groups["classifiers"], &format!("lift-{official}")), "{official}");
    }
    for official in HeadInits::METHODS.iter().flat_map(|method| method.official) {
        let name = match *official {
            "text_feat" => "-text-default".to_owned(),
            other => format!("-{other}"),
        };
        assert!(compared("init", starts, &name), "{official}");
    }
}

/// Cases of a set by group, without the sets below it: a case is a folder with a manifest.
fn collect(root: &Path, folder: &Path, roots: &[PathBuf], groups: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.join("manifest.json").exists() {
            let group = folder.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            groups.entry(group).or_default().push(entry.file_name().to_string_lossy().into_owned());
        } else if path.is_dir() && !roots.contains(&path) {
            collect(root, &path, roots, groups);
        }
    }
}

//! The numbers of compared and not yet compared cases in each set, so that no case is skipped silently.

use crate::case::roots;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trainer::model::losses::Losses;
use trainer::options::Registry;

/// Whether the golden test of a group compares this case.
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

/// The groups of each set, with the numbers of compared and not yet compared cases.
const SETS: [&[(&str, usize, usize)]; 3] = [
    &[
        ("backbone", 1, 0),
        ("checkpoint", 1, 0),
        ("checkpoint/hostile", 3, 0),
        ("classifiers", 2, 0),
        ("eval", 4, 0),
        ("images", 1, 0),
        ("images/golden", 4, 0),
        ("init", 2, 0),
        ("losses", 10, 0),
        ("peft/clip-vit", 1, 0),
        ("samplers", 1, 0),
        ("tokenizer", 2, 0),
        ("train", 2, 0),
    ],
    &[
        ("backbone", 2, 0),
        ("checkpoint", 1, 0),
        ("classifiers", 1, 0),
        ("init", 3, 0),
        ("losses", 1, 0),
        ("peft/clip-vit", 1, 0),
        ("peft/in21k-vit", 1, 0),
        ("train", 1, 0),
    ],
    &[
        ("backbone", 6, 4),
        ("checkpoint", 4, 5),
        ("checkpoint/hostile", 19, 0),
        ("classifiers", 9, 3),
        ("eval", 21, 0),
        ("images", 26, 5),
        ("init", 17, 7),
        ("losses", 54, 0),
        ("mixed", 0, 5),
        ("peft/clip-rn", 0, 7),
        ("peft/clip-vit", 34, 0),
        ("peft/in21k-vit", 21, 0),
        ("peft/plus-clip-rn", 0, 4),
        ("peft/plus-clip-vit", 3, 39),
        ("peft/plus-in1k-rn", 0, 4),
        ("peft/plus-in21k-vit", 1, 10),
        ("samplers", 16, 2),
        ("tokenizer", 2, 0),
        ("train", 15, 5),
    ],
];

#[test]
fn golden_coverage_is_as_listed() {
    let roots = roots();
    for (root, expected) in roots.iter().zip(SETS) {
        let mut groups = BTreeMap::new();
        collect(root, root, &roots, &mut groups);
        let count = |(group, names): (&String, &Vec<String>)| {
            let compared = names.iter().filter(|name| covered(group, name)).count();
            (group.clone(), compared, names.len() - compared)
        };
        let found: Vec<_> = groups.iter().map(count).collect();
        let expected: Vec<_> =
            expected.iter().map(|&(group, now, later)| (group.to_owned(), now, later)).collect();
        assert_eq!(found, expected, "groups of {}: compared, not yet", root.display());
        let sum = |of: fn(&(String, usize, usize)) -> usize| found.iter().map(of).sum::<usize>();
        eprintln!("{}: {} cases compared, {} not yet", root.display(), sum(|row| row.1), sum(|row| row.2));
    }
}

/// The compared cases of one set, as `group/name`.
pub fn compared_cases(root: &Path) -> Vec<String> {
    let mut groups = BTreeMap::new();
    collect(root, root, &roots(), &mut groups);
    let of_group = |(group, names): (String, Vec<String>)| {
        let compared = names.into_iter().filter(|name| covered(&group, name)).collect::<Vec<_>>();
        compared.into_iter().map(move |name| format!("{group}/{name}"))
    };
    groups.into_iter().flat_map(of_group).collect()
}

/// Collects the cases of a set by group: a case is a folder with a manifest. Skips nested sets and runs of older
/// versions.
fn collect(root: &Path, folder: &Path, roots: &[PathBuf], groups: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.join("manifest.json").exists() {
            let group = folder.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            groups.entry(group).or_default().push(entry.file_name().to_string_lossy().into_owned());
        } else if path.is_dir() && path != root.join("runs") && !roots.contains(&path) {
            collect(root, &path, roots, groups);
        }
    }
}

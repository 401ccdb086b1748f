//! Each form gives the names it means, and says so; what only looks like a form is doubted aloud.

use super::*;
use crate::data::source::tests::folder;

/// Folders of the labels 0, 1, 2, ...
fn folders(paths: &[&str]) -> Folders {
    let pictures: Vec<String> = paths.iter().map(|path| format!("{path}/1.jpg")).collect();
    Folders::of_list(pictures.iter().map(String::as_str).zip(0..))
}

fn read(name: &str, text: &str, folders: &Folders) -> Result<ClassNames, String> {
    let root = folder(&[(name, text.as_bytes())]);
    let read = read_class_names(&root.path().join(name), folders);
    read.map_err(|error| error.to_string().replace(&root.path().display().to_string(), "ROOT"))
}

/// The names, and whether there is a note or a warning.
fn names(name: &str, text: &str, folders: &Folders) -> (Vec<String>, Option<Severity>) {
    let ClassNames { names, findings } = read(name, text, folders).expect("names");
    assert!(findings.len() <= 1, "{findings:?}");
    (names, findings.first().map(|finding| finding.weight))
}

use crate::data::source::finding::Severity;

const NOTE: Option<Severity> = Some(Severity::Note);
const WARNING: Option<Severity> = Some(Severity::Warning);

#[test]
fn plain_names_stay_what_they_are() {
    let none = Folders::default();
    for text in [
        "tench\ngoldfish\n",
        "class 0\nclass 1\nclass 2\n",
        "African elephant\nIndian elephant",
        "Acalypha rhomboidea\nBuddleja davidii\n",
        "crane, bird\nboxer\nhen, biddy, fowl",
        "737\nmaple 2\n",
        "aquarium_fish\nsea",
    ] {
        let lines: Vec<&str> = text.lines().collect();
        let (found, weight) = names("classnames.txt", text, &none);
        assert_eq!((found.iter().map(String::as_str).collect(), weight), (lines, None), "{text}");
    }
    // A folder is named like the first word of one class, or the rests would be the same.
    let red = folders(&["red", "other"]);
    assert_eq!(
        names("classnames.txt", "red fox\nblue whale", &red),
        (vec!["red fox".into(), "blue whale".into()], None)
    );
    let two = folders(&["African", "Indian"]);
    let elephants = vec!["African elephant".to_owned(), "Indian elephant".to_owned()];
    assert_eq!(names("classnames.txt", &elephants.join("\n"), &two), (elephants, None));
}

/// LIFT's own files, and others with more than a name in each line or in JSON and CSV.
#[test]
fn other_forms_are_understood_and_noted() {
    let none = Folders::default();
    let fish = vec!["tench".to_owned(), "great white shark".to_owned()];
    for (name, text) in [
        ("classnames.txt", "n01440764 tench\nn01484850 great white shark\n"),
        ("classnames.txt", "n01440764\ttench\nn01484850\tgreat white shark\n"),
        ("classnames.txt", "/t/tench tench\n/g/great_white_shark great white shark\n"),
        ("classnames.txt", "tench tench\ngreat_white_shark great white shark\n"),
        ("labels.txt", "0 tench\n1 great white shark\n"),
        ("labels.txt", "1: great white shark\n0: tench\n"),
        ("labels.txt", "001.tench\n002.great white shark\n"),
        ("classes.txt", "1 001.tench\n2 002.great white shark\n"),
        ("labels.txt", "great white shark 1\ntench 0\n"),
        ("names.json", r#"["tench", "great white shark"]"#),
        (
            "categories.json",
            r#"[{"id": 1, "name": "great white shark", "supercategory": "x"}, {"id": 0, "name": "tench"}]"#,
        ),
        (
            "coco.json",
            r#"{"info": {}, "categories": [{"id": 1, "name": "tench"}, {"id": 2, "name": "great white shark"}]}"#,
        ),
        ("index.json", r#"{"0": ["n01440764", "tench"], "1": ["n01484850", "great white shark"]}"#),
        ("index.txt", r#"{"1": "great white shark", "0": "tench"}"#),
        ("class_to_idx.json", r#"{"great white shark": 1, "tench": 0}"#),
        ("names.csv", "name\ntench\ngreat white shark\n"),
        ("names.csv", "id,name\r\n1,great white shark\r\n0,tench\r\n"),
        ("names.txt", "\"label\",\"class_name\"\n1,\"great white shark\"\n0,tench\n"),
        ("names.txt", "0,tench\n1,great white shark\n"),
        ("names.tsv", "wnid\tname\nn01440764\ttench\nn01484850\tgreat white shark\n"),
    ] {
        assert_eq!(names(name, text, &none), (fish.clone(), NOTE), "{name}: {text}");
    }
    let quoted = names("names.csv", "id,name\n0,\"crane, bird\"\n1,\"a \"\"big\"\" one\"\n", &none);
    assert_eq!(quoted, (vec!["crane, bird".into(), "a \"big\" one".into()], NOTE));
    let found =
        read("classnames.txt", "n01440764 tench\nn01484850 great white shark\n", &none).expect("names");
    assert_eq!(
        found.findings[0].text.rsplit_once("classnames.txt").expect("the file").1,
        "`: the first words are WordNet ids, and are left out: `tench`, `great white shark`"
    );
}

/// Ids and folders go by where the images lie, whatever the order of the lines.
#[test]
fn folders_decide_the_order() {
    let labels = folders(&["train/n02", "train/n01", "train/n03"]);
    let expected = (vec!["two".to_owned(), "one".into(), "three".into()], NOTE);
    for (name, text) in [
        ("classnames.txt", "n01 one\nn02 two\nn03 three\nn04 four\n"),
        ("names.json", r#"{"n01": "one", "n02": "two", "n03": "three"}"#),
        ("names.csv", "folder,name\nn03,three\nn02,two\nn01,one\n"),
    ] {
        assert_eq!(names(name, text, &labels), expected, "{text}");
    }
    let nested = folders(&["data/a/airfield", "data/b/apartment_building/outdoor"]);
    let places = "/b/apartment_building/outdoor outdoor block\n/a/airfield airfield\n";
    assert_eq!(
        names("classnames.txt", places, &nested),
        (vec!["airfield".into(), "outdoor block".into()], NOTE)
    );
    // Only the second label has a folder that is known, and it is another line's.
    let half = folders(&["x", "n01440764"]);
    assert_eq!(
        read("classnames.txt", "n01440764 tench\nn01484850 shark\n", &half).expect_err("a refusal"),
        "class names `ROOT/classnames.txt`: the pictures of label 1 lie in `n01440764`, which is `n01440764` here, but \
         not all labels can be matched like that\nhint: give one line a class in the order of the labels"
    );
    let unknown =
        read("names.json", r#"{"n01": "one", "n02": "two"}"#, &Folders::default()).expect_err("a refusal");
    assert!(unknown.contains("`n01`") && unknown.contains("do not hold one for each label"), "{unknown}");
}

#[test]
fn what_looks_like_another_form_is_doubted() {
    let none = Folders::default();
    for text in [
        "c01 cat\nc02 dog\n",
        "n01440764\nn01484850\n",
        "17\n4\n",
        "- cat\n- dog\n",
        "'cat',\n'dog',\n",
        "cat\t5\ndog\t7\n",
        "cat;big\ndog;small\n",
        "cat = 5\ndog = 7\n",
        "name\ncat\ndog\n",
        "cat,big\ndog,small\n",
    ] {
        let lines: Vec<&str> = text.lines().collect();
        let (found, weight) = names("classnames.txt", text, &none);
        assert_eq!((found.iter().map(String::as_str).collect(), weight), (lines, WARNING), "{text}");
    }
}

#[test]
fn other_files_are_refused_as_what_they_are() {
    let none = Folders::default();
    for (name, text, reason) in [
        ("n.txt", "<!DOCTYPE html>\n<html>", "an HTML or XML page"),
        ("n.txt", "version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        ("n.yaml", "names:\n  0: cat\n", "a YAML file"),
        ("n.json", "[\"cat\", ", "begins like JSON, but is not"),
        ("n.json", r#"[{"id": 0, "name": "cat"}, {"name": "dog"}]"#, "some do not"),
        ("n.json", r#"[{"id": 0, "name": "cat"}, {"id": 3, "name": "dog"}]"#, "found 3 where 1 is due"),
        ("n.json", r#"[{"id": 0, "name": "cat"}, {"id": 0, "name": "dog"}]"#, "found 0 where 1 is due"),
        ("n.json", r#"{"0": 1.5}"#, "expected a name for `0`"),
        ("n.csv", "a,b,c\n1,2,3\n", "expected CSV with a header"),
        ("n.csv", "id,name\n0,cat\n1\n", "found 1 in row 3"),
    ] {
        let message = read(name, text, &none).expect_err("a refusal");
        assert!(message.contains(reason), "{message}");
    }
}

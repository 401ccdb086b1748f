//! Each mistake is reported once, by name and with its count; sound lists are silent.

use crate::data::source::tests::{dot, folder, lists, tar_of};
use crate::data::source::{DataSet, DataSpec};

/// Findings of lists over the images `1.bmp` to `6.bmp`, in a folder and in a tar file, which have to agree.
fn findings(train: &str, test: &str, names: &str) -> Vec<String> {
    let image = dot(1, 2, 3);
    let images: Vec<(String, Vec<u8>)> = (1..7).map(|i| (format!("{i}.bmp"), image.clone())).collect();
    let files: Vec<(&str, &[u8])> = images.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let archive = tar_of(&files);
    let root = folder(&files);
    for (name, bytes) in [
        ("train.txt", train.as_bytes()),
        ("test.txt", test.as_bytes()),
        ("n.txt", names.as_bytes()),
        ("i.tar", &archive),
    ] {
        std::fs::write(root.path().join(name), bytes).expect("a file");
    }
    let spec = DataSpec { class_names: Some("n.txt".into()), ..lists(root.path()) };
    let found = |spec: &DataSpec| -> Vec<String> {
        let set = DataSet::open(spec).expect("a data set");
        set.findings.iter().map(ToString::to_string).collect()
    };
    let in_folder = found(&spec);
    if !train.contains("..") {
        assert_eq!(found(&DataSpec { images: Some("i.tar".into()), ..spec }), in_folder);
    }
    in_folder
}

#[test]
fn sound_lists_are_silent() {
    assert_eq!(findings("1.bmp 0\n2.bmp 1\n", "3.bmp 0\n4.bmp 1\n", "cat\ndog\n"), Vec::<String>::new());
}

#[test]
fn classes_without_pictures() {
    assert_eq!(
        findings("1.bmp 0\n", "2.bmp 1\n3.bmp 0\n", "cat\ndog\ncow\n"),
        [
            "warning: 2 classes of 3 without a training picture, which can hardly be learnt: 1 `dog`, 2 `cow`",
            "1 class of 3 without a test picture, left out of the means over classes: 2 `cow`",
        ]
    );
    let from_one = findings("1.bmp 1\n2.bmp 2\n", "3.bmp 1\n4.bmp 2\n", "none\ncat\ndog\n");
    assert_eq!(
        from_one[0],
        "warning: no picture has label 0 (`none`), so the labels seem to be counted from 1; they are counted from 0 \
         here\nhint: if class 1 is not `cat`, set `data.first_label=1`; `lift init-data --first-label 1` does it"
    );
}

#[test]
fn names_used_twice() {
    assert_eq!(
        findings("1.bmp 0\n2.bmp 1\n", "3.bmp 0\n4.bmp 1\n", "crane\ncrane\n"),
        ["warning: 1 class name used twice: `crane` (classes 0 and 1)"]
    );
}

#[test]
fn pictures_listed_again() {
    assert_eq!(
        findings("1.bmp 0\n2.bmp 1\n1.bmp 0\n./1.bmp 0\n", "3.bmp 0\n3.bmp 0\n4.bmp 1\n", "cat\ndog\n"),
        [
            "warning: 2 training lines too many: a picture is listed again under the same label, first `1.bmp`; it is \
             drawn as often as it is listed",
            "warning: 1 test line too many: a picture is listed again under the same label, first `3.bmp`; it counts as \
             often as it is listed",
        ]
    );
}

#[test]
fn pictures_under_two_labels() {
    assert_eq!(
        findings("1.bmp 0\n2.bmp 1\n./2.bmp 0\n", "3.bmp 0\n4.bmp 1\n", "cat\ndog\n"),
        [
            "warning: 1 training line has another label than an earlier line with the same picture: `2.bmp` is of class 1 \
             `dog` and of class 0 `cat`"
        ]
    );
}

/// Also where the path is spelled in another way.
#[test]
fn test_pictures_that_are_trained_on() {
    let expected = [
        "warning: 2 test pictures of 3 also trained on, first `./1.bmp`; the accuracy counts what was seen in training",
    ];
    assert_eq!(findings("1.bmp 0\n2.bmp 1\n", "./1.bmp 0\n2.bmp 1\n4.bmp 1\n", "cat\ndog\n"), expected);
    assert_eq!(findings("x/../1.bmp 0\n2.bmp 1\n", "./1.bmp 0\n2.bmp 1\n4.bmp 1\n", "cat\ndog\n"), expected);
}

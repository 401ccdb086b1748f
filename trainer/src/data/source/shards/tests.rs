//! Shards as `WebDataset` writes them, and refusals.

use super::super::tests::{dot, folder, tar_of};
use super::super::{DataLayout, DataSet, DataSpec};
use super::key_and_ending;

#[test]
fn samples_are_the_members_that_share_a_name() {
    let first = tar_of(&[
        ("000.jpg", &dot(1, 1, 1)),
        ("000.cls", b"1\n"),
        ("a/001.json", b"{\"label\": 0, \"caption\": \"x\"}"),
        ("a/001.seg.png", b"a mask"),
        ("a/001.bmp", &dot(2, 2, 2)),
        ("README", b"text"),
    ]);
    let second = tar_of(&[("000.cls", b"2"), ("000.png", &dot(3, 3, 3))]);
    let root = folder(&[("train-000.tar", &first), ("train-001.tar", &second), ("val/0.tar", &second)]);
    let spec = DataSpec { root: root.path().into(), ..DataSpec::default() };
    for train_list in [None, Some("train-{000..001}.tar".into()), Some("train-*.tar".into())] {
        let layout = if train_list.is_some() { DataLayout::Shards } else { DataLayout::Auto };
        let set = DataSet::open(&DataSpec { layout, train_list, ..spec.clone() }).expect("a data set");
        assert_eq!(set.train.labels(), [1, 0, 2]);
        assert_eq!(
            (set.train.name(1), set.test.name(0)),
            ("train-000.tar/a/001.bmp".into(), "0.tar/000.png".into())
        );
        let levels: Vec<u8> =
            (0..3).map(|index| set.train.read(index).expect("an image").pixels[0]).collect();
        assert_eq!(levels, [1, 2, 3]);
    }
}

#[test]
fn refusals_name_shard_and_sample() {
    let image = dot(1, 1, 1);
    let cases: [(Vec<u8>, &str); 7] = [
        (tar_of(&[("0.cls", b"1")]), "sample `0` has no image (`.jpg`, `.png`, ...)"),
        (tar_of(&[("0.jpg", &image)]), "sample `0` has no label (`.cls` or `.json`)"),
        (tar_of(&[("0.jpg", &image), ("0.cls", b" ")]), "sample `0` has no text in its label"),
        (tar_of(&[("0.jpg", &image), ("0.cls", b"\xff")]), "sample `0`: its label is no UTF-8 text"),
        (
            tar_of(&[("0.jpg", &image), ("0.png", &image), ("0.cls", b"1")]),
            "sample `0` has two members of one kind, the second is \
            `0.png`\nhint: give each sample its own name up to the first dot",
        ),
        (
            tar_of(&[("0.jpg", &image), ("0.cls", b"7")]),
            "sample `0`: label 7 is outside the 1 classes (0 to 0)",
        ),
        (
            tar_of(&[("0.jpg", &image), ("0.cls", b"1")])[..700].to_vec(),
            "at byte 1024: expected a file or the closing block of zeros",
        ),
    ];
    for (test, expected) in cases {
        let root =
            folder(&[("train-0.tar", &tar_of(&[("0.jpg", &image), ("0.cls", b"0")])), ("test-0.tar", &test)]);
        let spec = DataSpec { root: root.path().into(), layout: DataLayout::Shards, ..DataSpec::default() };
        let message = DataSet::open(&spec).expect_err(expected).to_string();
        let home = format!("{}/test-0.tar`: {expected}", root.path().display());
        assert!(message.contains(&home), "{message}\n{expected}");
    }
}

#[test]
fn a_key_ends_at_the_first_dot_of_the_file_name() {
    assert_eq!(key_and_ending("a.b/c.seg.png"), Some(("a.b/c", "seg.png")));
    assert_eq!(key_and_ending("a.b/c"), None);
    assert_eq!(key_and_ending(".hidden"), None);
}

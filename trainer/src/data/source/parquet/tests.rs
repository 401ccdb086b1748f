//! Files that pyarrow wrote (`tests/fixtures/parquet/make.py`), cut short and contradicted.

use super::super::{DataLayout, DataSet, DataSpec};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet")
}

fn spec(train: &str, test: &str) -> DataSpec {
    DataSpec {
        root: fixtures(),
        layout: DataLayout::Parquet,
        train_list: Some(train.into()),
        test_list: Some(test.into()),
        ..DataSpec::default()
    }
}

#[test]
fn any_row_is_read_whatever_pages_and_codec_it_lies_in() {
    for name in ["hugging_face", "plain_pages", "dictionary"] {
        let file = format!("{name}.parquet");
        let set = DataSet::open(&spec(&file, &file)).expect(name);
        assert_eq!(set.class_names, ["ant", "bee", "cat"], "{name}");
        assert_eq!(set.train.labels(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], "{name}");
        for index in [11, 0, 7, 4, 5, 1, 11] {
            let level = index as u8;
            let pixels = set.train.read(index).expect(name).pixels;
            assert_eq!(pixels, [level, 2 * level, 3 * level], "{name} {index}");
        }
        assert_eq!(set.train.name(7), format!("{file}/7"));
    }
    let set = DataSet::open(&spec("*.parquet", "hugging_face.parquet"));
    let error = set.expect_err("other columns").to_string();
    assert!(
        error.ends_with(
            "expected the columns `jpg` and `class` as in the first file, found `image` and `label`"
        ),
        "{error}"
    );
    let both =
        DataSet::open(&spec("{plain_pages,dictionary}.parquet", "dictionary.parquet")).expect("two files");
    assert_eq!((both.train.len(), both.train.name(13)), (24, "dictionary.parquet/1".to_owned()));
    assert_eq!(both.train.read(13).expect("an image").pixels, [1, 2, 3]);
}

#[test]
fn a_gap_fails_by_its_row_and_columns_are_named() {
    let set = DataSet::open(&spec("gap.parquet", "gap.parquet")).expect("a data set");
    let error = set.train.read(1).expect_err("no bytes").to_string();
    assert_eq!(error, "image `gap.parquet/1`: cannot be read (its row has no bytes)");
    assert_eq!(set.train.read(2).expect("an image").pixels, [2, 4, 6]);
    let wrong = |spec: DataSpec| DataSet::open(&spec).expect_err("a refusal").to_string();
    let column = DataSpec { image_column: Some("pixels".into()), ..spec("gap.parquet", "gap.parquet") };
    assert!(
        wrong(column)
            .ends_with("it has no column `pixels` of image bytes (`data.image_column`); found `jpg`")
    );
    let column = DataSpec { label_column: Some("jpg".into()), ..spec("gap.parquet", "gap.parquet") };
    assert!(wrong(column).ends_with("it has no column `jpg` (`data.label_column`); its columns are `class`"));
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    let bytes = std::fs::read(fixtures().join("hugging_face.parquet")).expect("the fixture");
    let folder = tempfile::tempdir().expect("a folder");
    for len in [0, 5, 100, bytes.len() - 1] {
        std::fs::write(folder.path().join("train-0.parquet"), &bytes[..len]).expect("a file");
        let spec =
            DataSpec { root: folder.path().into(), layout: DataLayout::Parquet, ..DataSpec::default() };
        let error = DataSet::open(&spec).expect_err("a refusal").to_string();
        assert!(error.contains("train-0.parquet") && error.ends_with("hint: copy it again"), "{error}");
    }
}

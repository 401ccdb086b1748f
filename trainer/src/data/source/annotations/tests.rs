//! iNaturalist's files, and refusals.

use super::super::tests::{dot, folder};
use super::super::{DataLayout, DataSet, DataSpec};

fn open(train: &str, test: &str) -> Result<DataSet, String> {
    let root = folder(&[
        ("train2018.json", train.as_bytes()),
        ("val2018.json", test.as_bytes()),
        ("a/1.bmp", &dot(1, 2, 3)),
    ]);
    let spec = DataSpec { root: root.path().into(), layout: DataLayout::Auto, ..DataSpec::default() };
    let set = DataSet::open(&spec)
        .map_err(|error| error.to_string().replace(&root.path().display().to_string(), "ROOT"))?;
    assert_eq!(set.train.read(0).expect("an image").pixels, [1, 2, 3]);
    Ok(set)
}

const GOOD: &str = r#"{"info": {}, "images": [{"id": 7, "file_name": "a/1.bmp", "height": 1}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 5}],
    "categories": [{"id": 9, "name": "wren"}, {"id": 5, "name": "owl", "supercategory": "birds"}]}"#;

#[test]
fn categories_are_classes_in_the_order_of_their_ids() {
    let set = open(GOOD, GOOD).unwrap();
    assert_eq!(set.class_names, ["owl", "wren"]);
    assert_eq!((set.train.labels(), set.train.name(0)), (&[0][..], "a/1.bmp".to_owned()));
    assert!(set.findings[0].text.ends_with("they are classes in the order of their ids: id 5 is class 0"));
}

#[test]
fn refusals_say_what_is_missing() {
    let cases = [
        (
            GOOD.replace("annotations", "others"),
            "annotations `ROOT/val2018.json`: it has no `annotations`, so its images have no \
            label\nhint: take a file with labels, such as `val2018.json`",
        ),
        (
            GOOD.replace("categories", "others"),
            "annotations `ROOT/val2018.json`: it has no `categories`, so its classes have no name",
        ),
        (
            GOOD.replace("\"category_id\": 5", "\"category_id\": 6"),
            "annotations `ROOT/val2018.json`: annotation 0: category 6 is not \
            among its `categories`",
        ),
        (
            GOOD.replace("\"image_id\": 7", "\"image_id\": 8"),
            "annotations `ROOT/val2018.json`: image 7 (`a/1.bmp`) has no annotation",
        ),
        (
            GOOD.replace("{\"id\": 1,", "{\"image_id\": 7, \"category_id\": 9}, {\"id\": 1,"),
            "annotations `ROOT/val2018.json`: image 7 has \
            annotations of several categories, as in a file for detection; expected one category an image",
        ),
        (
            GOOD.replace("\"id\": 5", "\"id\": 9"),
            "annotations `ROOT/val2018.json`: two of its `categories` have the same id",
        ),
        (
            GOOD.replace("\"image_id\": 7, \"category_id\": 5", "\"image_id\": 7, \"category_id\": 3")
                .replace("\"id\": 9", "\"id\": 3"),
            "annotations `ROOT/val2018.json`: category 3 (`wren`) is not among the categories of the training file",
        ),
        (
            GOOD[..100].to_owned(),
            "ROOT/val2018.json:2: expected annotations as iNaturalist writes them (`images`, `annotations`, \
            `categories`): EOF while parsing a value",
        ),
    ];
    for (test, expected) in cases {
        assert_eq!(open(GOOD, &test).expect_err(expected), expected);
    }
}

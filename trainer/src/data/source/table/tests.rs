//! Tables as they are found in the wild, and their refusals word for word.

use super::super::tests::{dot, folder};
use super::super::{DataLayout, DataSet, DataSpec};
use std::path::Path;

fn spec(root: &Path) -> DataSpec {
    DataSpec { root: root.into(), layout: DataLayout::Table, ..DataSpec::default() }
}

#[test]
fn hugging_face_metadata_lie_beside_their_images() {
    let root = folder(&[
        ("train/metadata.csv", b"\xef\xbb\xbffile_name,label\r\n\"a, b.bmp\",dog\r\nsub/c.bmp,cat\r\n"),
        ("train/a, b.bmp", &dot(1, 2, 3)),
        ("train/sub/c.bmp", &dot(4, 5, 6)),
        ("test/metadata.jsonl", b"{\"file_name\": \"d.bmp\", \"label\": \"cat\", \"more\": [1]}\n\n"),
        ("test/d.bmp", &dot(7, 8, 9)),
    ]);
    let set = DataSet::open(&DataSpec { layout: DataLayout::Auto, ..spec(root.path()) }).expect("a data set");
    assert_eq!(set.class_names, ["cat", "dog"]);
    assert_eq!((set.train.labels(), set.test.labels()), (&[1, 0][..], &[0][..]));
    assert_eq!(set.train.name(0), "a, b.bmp");
    assert_eq!(set.train.read(1).expect("an image").pixels, [4, 5, 6]);
    assert_eq!(set.test.read(0).expect("an image").pixels, [7, 8, 9]);
}

#[test]
fn kaggle_tables_have_ids_without_endings_and_folders_beside_them() {
    let root = folder(&[
        ("train.csv", b"id;breed\n1.5;7\nb;9\n"),
        ("train_images/1.5.bmp", &dot(1, 1, 1)),
        ("train_images/b.png", b"no image"),
        ("valid.csv", b"id\tbreed\nc\t7.0\n"),
        ("valid/c.bmp", &dot(3, 3, 3)),
        ("names.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"),
    ]);
    let set = DataSet::open(&DataSpec { class_names: Some("names.txt".into()), ..spec(root.path()) });
    let set = set.expect("a data set");
    assert_eq!((set.train.labels(), set.test.labels()), (&[7, 9][..], &[7][..]));
    assert_eq!(
        (set.train.name(0), set.train.name(1), set.test.name(0)),
        ("1.5.bmp".into(), "b.png".into(), "c.bmp".into())
    );
    let notes: Vec<&str> = set.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert!(
        notes
            .iter()
            .any(|note| note.ends_with("2 names without an ending completed by the files that are there"))
    );
}

#[test]
fn refusals_name_file_line_and_columns() {
    let good: &[u8] = b"file_name,label\na.bmp,0\n";
    let utf_16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("file_name,label\n".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    let cases: [(&str, &[u8], &str); 14] = [
        (
            "t.csv",
            b"",
            "table `ROOT/t.csv`: no column is known to hold the images (such as `file_name`, `filename`, \
            `image_path`, `file_path`); its columns are \nhint: name it with `--set data.image_column=NAME`",
        ),
        (
            "t.csv",
            b"picture,label\n",
            "table `ROOT/t.csv`: no column is known to hold the images (such as `file_name`, \
            `filename`, `image_path`, `file_path`); its columns are `picture`, `label`\nhint: name it with `--set \
            data.image_column=NAME`",
        ),
        (
            "t.csv",
            b"file_name,class,target\na,b,c\n",
            "table `ROOT/t.csv`: several columns may hold the labels: `class`, \
            `target`\nhint: name one with `--set data.label_column=NAME`",
        ),
        ("t.csv", b"file_name,label\n", "table `ROOT/t.csv`: it has no row; expected one for each image"),
        (
            "t.csv",
            b"file_name,label\na.bmp,0\nb.bmp\n",
            "ROOT/t.csv:3: expected 2 fields as in the header, found 1\nhint: put \
            fields that contain the separator into quotation marks, and close each of these",
        ),
        ("t.csv", b"file_name,label\na.bmp,\n", "ROOT/t.csv:2: the label in column `label` is empty"),
        (
            "t.csv",
            b"label,file_name\n0,\"a.bmp\n0,b.bmp\n",
            "ROOT/t.csv:2: the image in column `file_name` goes over several \
            lines\nhint: close the quotation mark before it",
        ),
        (
            "t.csv",
            &utf_16,
            "table `ROOT/t.csv`: expected UTF-8 text, found UTF-16\nhint: convert it, e.g. with `iconv -f \
            UTF-16 -t UTF-8`",
        ),
        (
            "t.csv",
            b"file_name,label\na.bmp,0\na.bmp,5\nz.bmp,4000000000\n",
            "ROOT/t.csv:4: the largest label 4000000000 leaves \
            most classes empty\nhint: name the classes in `data.class_names`",
        ),
        (
            "t.csv",
            b"file_name,label\nz.bmp,0\n",
            "ROOT/t.csv:2: the image `z.bmp` is in none of `ROOT`\nhint: name the folder \
            or tar file of the images with `--set data.images=PATH`",
        ),
        (
            "t.jsonl",
            b"[1]\n",
            "ROOT/t.jsonl:1: expected a JSON object, found `[1]` (invalid type: sequence, expected a map at \
            column 0)",
        ),
        (
            "t.jsonl",
            b"{\"file_name\": \"a\", \"label\": 1.5}\n",
            "ROOT/t.jsonl:1: expected a text or a whole number in \
            `label`, found 1.5",
        ),
        (
            "t.jsonl",
            b"{\"file_name\": \"a\", \"label\": 1}\n{\"label\": 1}",
            "ROOT/t.jsonl:2: the object has no `file_name`, \
            which the first one has",
        ),
        ("t.xlsx", b"PK", "table `ROOT/t.xlsx`: expected a table that ends in `.csv`, `.tsv` or `.jsonl`"),
    ];
    for (name, bytes, expected) in cases {
        let root = folder(&[(name, bytes), ("good.csv", good), ("a.bmp", &dot(1, 1, 1))]);
        let spec = DataSpec {
            train_list: Some(name.into()),
            test_list: Some("good.csv".into()),
            ..spec(root.path())
        };
        let message = DataSet::open(&spec).expect_err(expected).to_string();
        assert_eq!(message.replace(&root.path().display().to_string(), "ROOT"), expected);
    }
    let root =
        folder(&[("good.csv", good), ("a.bmp", &dot(1, 1, 1)), ("test.csv", b"file_name,label\na.bmp,1\n")]);
    let named = DataSpec { train_list: Some("good.csv".into()), ..spec(root.path()) };
    let message = DataSet::open(&named).expect_err("a label outside").to_string();
    assert!(message.contains("test.csv:2: label 1 is outside the 1 classes (0 to 0)"), "{message}");
    let column = DataSpec { label_column: Some("lbael".into()), ..named };
    let message = DataSet::open(&column).expect_err("no column").to_string();
    assert!(
        message.ends_with(
            "it has no column `lbael` (`data.label_column`); its columns are `file_name`, `label`"
        ),
        "{message}"
    );
}

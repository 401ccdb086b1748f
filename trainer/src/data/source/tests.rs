//! Layouts made in a temporary folder, refusals word for word, and CIFAR-100 where the shared data are.

use super::cifar_pickle::CifarFile;
use super::longtail::Mt19937;
use super::*;
use crate::data::fixtures;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

/// A 1 x 1 BMP of a colour.
pub(super) fn dot(red: u8, green: u8, blue: u8) -> Vec<u8> {
    let mut file = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    file.extend([0; 24]);
    file.extend([blue, green, red, 0]);
    file
}

pub(super) fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }
    folder
}

pub(super) fn lists(root: &Path) -> DataSpec {
    DataSpec {
        root: root.into(),
        layout: DataLayout::Lists,
        train_list: Some("train.txt".into()),
        test_list: Some("test.txt".into()),
        ..DataSpec::default()
    }
}

/// The message of a refusal, the temporary folder written as ROOT.
fn refusal(spec: &DataSpec) -> String {
    let message = DataSet::open(spec).expect_err("a refusal").to_string();
    message.replace(&spec.root.display().to_string(), "ROOT")
}

#[test]
fn lists_over_a_folder() {
    let root = folder(&[
        ("train.txt", b"\xef\xbb\xbfa b/x y.bmp 0\r\n\r\nz.bmp\t1\n  q.bmp   1 \n"),
        ("test.txt", b"z.bmp 0"),
        ("names.txt", b"cat\ndog\n\n"),
        ("images/a b/x y.bmp", &dot(1, 2, 3)),
        ("images/z.bmp", &dot(4, 5, 6)),
    ]);
    let spec = DataSpec {
        class_names: Some("names.txt".into()),
        images: Some("images".into()),
        ..lists(root.path())
    };
    let set = DataSet::open(&spec).expect("a data set");
    assert_eq!(set.class_names, ["cat", "dog"]);
    assert_eq!(set.train.labels(), [0, 1, 1]);
    assert_eq!(set.train.name(0), "a b/x y.bmp");
    assert_eq!(set.train.read(0).expect("an image").pixels, [1, 2, 3]);
    assert_eq!(set.train.read(1).expect("an image").pixels, [4, 5, 6]);
    let error = set.train.read(2).expect_err("a missing image");
    assert!(error.is_image_failure());
    assert_eq!(error.to_string(), "image `q.bmp`: cannot be read (No such file or directory (os error 2))");
    let missing: Vec<usize> = set.train.missing().iter().map(|missing| missing.index).collect();
    assert_eq!(missing, [2]);
    assert_eq!(set.test.missing(), []);
}

#[test]
fn refusals_of_lists_name_file_and_line() {
    let root = folder(&[
        ("good.txt", b"z.bmp 0\n"),
        ("empty.txt", b"\n\n"),
        ("label.txt", b"z.bmp 0\nz.bmp two\n"),
        ("alone.txt", b"z.bmp\n"),
        ("outside.txt", b"z.bmp 0\n\nz.bmp 1\nz.bmp 7\n"),
        ("huge.txt", b"z.bmp 4000000000\n"),
        ("one.txt", b"z.bmp 1\nx.bmp 2\n"),
        ("comma.txt", b"z.bmp,0\n"),
        ("names.txt", b"cat\ndog\n"),
        ("gap.txt", b"cat\n\ndog\n"),
        ("latin.txt", b"caf\xe9\n"),
        ("a.tar", &tar_of(&[("z.bmp", &dot(1, 1, 1))])),
    ]);
    let with = |train: &str, test: &str, names: Option<&str>| DataSpec {
        train_list: Some(train.into()),
        test_list: Some(test.into()),
        class_names: names.map(Into::into),
        ..lists(root.path())
    };
    let cases = [
        (
            with("empty.txt", "good.txt", None),
            "list `ROOT/empty.txt`: the file is empty; expected `path label` lines",
        ),
        (
            with("label.txt", "good.txt", None),
            "ROOT/label.txt:2: expected a label (0, 1, 2, ...) at the end of the line, found `two`",
        ),
        (with("alone.txt", "good.txt", None), "ROOT/alone.txt:1: expected `path label`, found `z.bmp`"),
        (
            with("good.txt", "outside.txt", None),
            "ROOT/outside.txt:3: label 1 is outside the 1 classes (0 to 0)",
        ),
        (
            with("one.txt", "good.txt", Some("names.txt")),
            "ROOT/one.txt:2: label 2 is outside the 2 classes (0 to 1); labels are counted from 0, and none is 0 here\nhint: \
             set `data.first_label=1`",
        ),
        (
            with("comma.txt", "good.txt", None),
            "ROOT/comma.txt:1: expected `path label` (fields are separated by a space or a tab, not by a comma), found \
             `z.bmp,0`",
        ),
        (
            with("outside.txt", "good.txt", Some("names.txt")),
            "ROOT/outside.txt:4: label 7 is outside the 2 classes (0 to 1)",
        ),
        (
            with("huge.txt", "good.txt", None),
            "list `ROOT/huge.txt`: the largest label 4000000000 leaves most classes empty\nhint: name the classes in \
             `data.class_names`",
        ),
        (
            with("none.txt", "good.txt", None),
            "cannot read list `ROOT/none.txt`: No such file or directory (os error 2)",
        ),
        (with("good.txt", "good.txt", Some("gap.txt")), "ROOT/gap.txt:2: the class name is empty"),
        (
            with("good.txt", "good.txt", Some("empty.txt")),
            "class names `ROOT/empty.txt`: the file is empty; expected one name a line in the order of the labels, `ID name` \
             or `FOLDER name` lines, a JSON list or table of names, or CSV with a header",
        ),
        (
            with("good.txt", "good.txt", Some("latin.txt")),
            "class names `ROOT/latin.txt`: expected UTF-8 text, found another encoding (byte 3)\nhint: convert the file to UTF-8",
        ),
        (
            DataSpec { test_list: None, ..with("good.txt", "good.txt", None) },
            "list files need `data.test_list`, the list of `path label` lines",
        ),
        (
            DataSpec { imbalance: Some(100.0), ..with("good.txt", "good.txt", None) },
            "`imbalance` is for CIFAR-100 only; other data sets are as long-tailed as their lists",
        ),
        (
            DataSpec { root: root.path().join("nowhere"), ..DataSpec::default() },
            "data root `ROOT`: no such folder\nhint: set `data.root` to the folder of the data set",
        ),
        (
            DataSpec { layout: DataLayout::Auto, train_list: None, test_list: None, ..lists(root.path()) },
            "data root `ROOT`: expected `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`), or list files \
             (`data.train_list`), found no folder `train`",
        ),
        (
            DataSpec { layout: DataLayout::Cifar100, ..lists(root.path()) },
            "data root `ROOT`: expected CIFAR-100: `cifar-100-python` (train, test, meta), `cifar-100-binary` \
             (train.bin, test.bin, fine_label_names.txt) or images.tar with test.txt, classnames.txt and \
             train_ir100.txt; found none of them",
        ),
    ];
    for (spec, message) in cases {
        assert_eq!(refusal(&spec), message);
    }
    let missing = folder(&[("train.txt", b"z.bmp 0\nx.bmp 0\n"), ("test.txt", b"z.bmp 0\n")]);
    fs::copy(root.path().join("a.tar"), missing.path().join("a.tar")).expect("a copy");
    let spec = DataSpec { images: Some("a.tar".into()), ..lists(missing.path()) };
    assert_eq!(refusal(&spec), "ROOT/train.txt:2: `x.bmp` is not in `ROOT/a.tar`");
}

pub(super) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).expect("a tar entry");
    }
    builder.into_inner().expect("a tar")
}

/// A ustar file of one entry, its name split over both fields, with a pax header before it.
fn pax_tar(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([("comment", b"a file".as_slice()), ("path", path.as_bytes())])
        .expect("pax");
    let mut header = ::tar::Header::new_ustar();
    header.set_path("short/name.bmp").expect("a path");
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).expect("a tar entry");
    let mut header = ::tar::Header::new_ustar();
    header.set_path(format!("{}/{}.bmp", "p".repeat(120), "n".repeat(60))).expect("a path");
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).expect("a tar entry");
    builder.into_inner().expect("a tar")
}

fn open_tar(bytes: &[u8]) -> Result<tar::TarIndex, DataError> {
    let root = folder(&[("a.tar", bytes)]);
    tar::TarIndex::open(&root.path().join("a.tar"))
}

#[test]
fn tars_of_several_kinds() {
    let long = format!("{}/x.bmp", "long".repeat(60));
    let large = vec![7; 200_000];
    let files: [(&str, &[u8]); 4] =
        [("./a.bmp", b"first"), (&long, b"second"), ("large", &large), ("d/e f.bmp", b"")];
    let index = open_tar(&tar_of(&files)).expect("a tar");
    for (name, bytes) in files {
        let place = index.find(name).expect("a file");
        index.file().with_bytes(place, |found| assert!(found == bytes, "{name}")).expect("bytes");
    }
    assert!(index.find("a.bmp").is_some() && index.find("other").is_none());
    let index = open_tar(&pax_tar(&long, b"pax")).expect("a tar");
    let ustar = format!("{}/{}.bmp", "p".repeat(120), "n".repeat(60));
    assert!(
        index.find(&long).is_some() && index.find(&ustar).is_some() && index.find("short/name.bmp").is_none()
    );
}

/// Also one that ends between two files, which lacks only the closing blocks.
#[test]
fn a_tar_that_ends_early_names_the_place() {
    let whole = tar_of(&[("a", &[1; 700]), ("b", &[2; 100])]);
    // Two files of 512 + 1024 and 512 + 512 bytes, then the first closing block.
    for len in 0..2560 + 512 {
        let text = open_tar(&whole[..len]).expect_err("a refusal").to_string();
        assert!(text.contains("a.tar`: at byte ") && text.ends_with("copy it again"), "{len} bytes: {text}");
    }
    open_tar(&whole[..2560 + 512]).expect("a tar");
    let error = open_tar(&whole[..1000]).expect_err("a refusal").to_string();
    assert!(error.ends_with(
        "at byte 0: the file of 700 bytes whose header is here goes beyond the end of the tar (1000 bytes)\nhint: \
         copy it again"
    ));
    let error = open_tar(&[b'x'; 600]).expect_err("a refusal").to_string();
    assert!(error.ends_with("at byte 0: expected a tar header, found something else (wrong checksum)"));
}

#[test]
fn class_folders_in_byte_order() {
    let image = dot(9, 8, 7);
    let root = folder(&[
        ("train/b/2.bmp", &image),
        ("train/b/1.BMP", &image),
        ("train/Z/1.bmp", &image),
        ("train/a/1.bmp", &image),
        ("train/a/notes.txt", b"notes"),
        ("train/a/.hidden.bmp", b""),
        ("val/b/9.bmp", &image),
    ]);
    let spec = DataSpec { root: root.path().into(), ..DataSpec::default() };
    let set = DataSet::open(&spec).expect("a data set");
    assert_eq!(set.class_names, ["Z", "a", "b"]);
    assert_eq!(set.train.labels(), [0, 1, 2, 2]);
    assert_eq!((set.train.name(2), set.test.name(0)), ("b/1.BMP".into(), "b/9.bmp".into()));
    assert_eq!(set.test.labels(), [2]);
    assert_eq!(set.test.read(0).expect("an image").pixels, [9, 8, 7]);
    assert_eq!(counts(set.train.labels(), 3), [1, 1, 2]);
    assert_eq!(set.train.missing(), []);
    fs::create_dir(root.path().join("val/new")).expect("a folder");
    assert_eq!(refusal(&spec), "test folder `ROOT/val`: `new` is not a class of `ROOT/train`");
    let spec = DataSpec { train_list: Some("x".into()), layout: DataLayout::Folders, ..spec };
    assert_eq!(
        refusal(&spec),
        "`data.train_list` (x) has no effect with class folders\nhint: remove it or use lists"
    );
}

#[test]
fn the_fingerprint_sees_names_labels_and_paths() {
    let print = |train: &[u8], names: &[u8]| {
        let root = folder(&[("train.txt", train), ("test.txt", b"a 0\n"), ("names.txt", names)]);
        let spec = DataSpec { class_names: Some("names.txt".into()), ..lists(root.path()) };
        DataSet::open(&spec).expect("a data set").fingerprint()
    };
    let first = print(b"a 0\nb 1\n", b"x\ny\n");
    assert_eq!(first.len(), 64);
    assert_eq!(first, print(b"a 0\n\nb\t1", b"x\ny"));
    for other in
        [print(b"a 0\nb 0\n", b"x\ny\n"), print(b"a 0\nc 1\n", b"x\ny\n"), print(b"a 0\nb 1\n", b"x\nz\n")]
    {
        assert_ne!(first, other);
    }
}

/// Reference values from `NumPy` 2: `np.random.seed(0)` and `np.random.shuffle`.
#[test]
fn the_generator_is_numpys() {
    let mut generator = Mt19937::new(0);
    assert_eq!([0; 3].map(|_| generator.next_u32()), [2_357_136_044, 2_546_248_239, 3_071_714_933]);
    let mut items: Vec<u32> = (0..10).collect();
    Mt19937::new(0).shuffle(&mut items);
    assert_eq!(items, [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]);
    let labels: Vec<u32> = (0..100).map(|i| i % 5).collect();
    let rows: Vec<u32> = long_tailed_rows(&labels, 5, 10.0).into_iter().map(|(row, _)| row).collect();
    assert_eq!(rows, LONG_TAILED);
}

const LONG_TAILED: [u32; 42] = [
    90, 5, 95, 40, 50, 85, 30, 65, 20, 10, 25, 70, 45, 35, 80, 55, 15, 0, 75, 60, 56, 6, 91, 86, 11, 61, 96,
    81, 51, 1, 16, 77, 67, 62, 27, 57, 12, 93, 3, 68, 39, 9,
];

/// A file in the form of `cifar-100-python`: pickle protocol 2, as Python 2 wrote it. `pixels` rows are
/// written by the caller at the returned place.
fn python_file(path: &Path, labels: &[u32]) -> u64 {
    let len = labels.len() * 3072;
    let mut head = b"\x80\x02}q\x01(U\x0bfine_labelsq\x02]q\x03(".to_vec();
    head.extend(labels.iter().flat_map(|&label| [b'K', label as u8]));
    head.extend(b"eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07");
    head.extend(b"(K\x01J");
    head.extend((labels.len() as u32).to_le_bytes());
    head.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    head.extend((len as u32).to_le_bytes());
    let file = fs::File::create(path).expect("a file");
    file.write_all_at(&head, 0).expect("the head");
    file.write_all_at(b"tbu.", (head.len() + len) as u64).expect("the tail");
    head.len() as u64
}

fn names_file(path: &Path, names: &[String]) {
    let mut file = b"\x80\x02}U\x10fine_label_names](".to_vec();
    for name in names {
        file.extend([b'U', name.len() as u8]);
        file.extend(name.as_bytes());
    }
    file.extend(b"es.");
    fs::write(path, file).expect("names");
}

fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.pixels.iter().skip(channel).step_by(3).copied()).collect()
}

#[test]
fn published_cifar_in_miniature() {
    let root = folder(&[("cifar-100-python/x", b"")]);
    let at = |name: &str| root.path().join("cifar-100-python").join(name);
    let names: Vec<String> = (0..100).map(|i| format!("class_{i}")).collect();
    names_file(&at("meta"), &names);
    let labels: Vec<u32> = (0..200).map(|i| i % 100).collect();
    for (name, len) in [("train", 200), ("test", 3)] {
        let first = python_file(&at(name), &labels[..len]);
        let file = fs::OpenOptions::new().write(true).open(at(name)).expect("the file");
        for row in 0..len as u64 {
            file.write_all_at(&[row as u8; 3072], first + row * 3072).expect("a row");
        }
    }
    let spec = DataSpec { root: root.path().into(), ..DataSpec::default() };
    let set = DataSet::open(&spec).expect("a data set");
    assert_eq!(set.class_names, names);
    assert_eq!(set.train.labels(), labels);
    assert_eq!(set.train.read(150).expect("an image").pixels, vec![150; 3072]);
    assert_eq!(set.test.name(2), "test row 2");
    // Two images a class, and one of the last classes.
    let tail = DataSet::open(&DataSpec { imbalance: Some(2.0), ..spec.clone() }).expect("a data set");
    assert_eq!(tail.train.labels(), [vec![0, 0], (1..100).collect()].concat());
    let image = tail.train.read(5).expect("an image");
    assert_eq!(u32::from(image.pixels[0]) % 100, tail.train.labels()[5]);
    for bad in [0.5, 0.0, f64::NAN] {
        let text = refusal(&DataSpec { imbalance: Some(bad), ..spec.clone() });
        assert_eq!(
            text,
            format!("`imbalance` is {bad}; expected 1 or more (100, 50 or 10 in the benchmarks)")
        );
    }
}

#[test]
fn hostile_pickles_are_refused() {
    let root = folder(&[("meta", b""), ("test", b"")]);
    let whole = {
        python_file(&root.path().join("train"), &[1, 2, 3]);
        fs::read(root.path().join("train")).expect("the file")
    };
    let spec = DataSpec { root: root.path().into(), layout: DataLayout::Cifar100, ..DataSpec::default() };
    let with = |bytes: &[u8]| {
        fs::write(root.path().join("train"), bytes).expect("a file");
        refusal(&spec)
    };
    assert_eq!(
        with(b"cos\nsystem\n(U\x04echotR."),
        "pickle `ROOT/train`: global `os.system` at byte 0 is not allowed in a file of CIFAR-100 (the published \
         `cifar-100-python` holds plain data and a NumPy array alone); no code in it was run\nhint: copy the published file \
         again"
    );
    assert_eq!(
        with(b"\x80\x02Q."),
        "pickle `ROOT/train`: opcode `BINPERSID` (0x51) at byte 2 is not allowed in a file of CIFAR-100; no code in \
         it was run\nhint: copy the published file again"
    );
    assert_eq!(
        with(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"),
        "pickle `ROOT/train`: the pickle ends early: byte 9 needs 18446744073709551615 more bytes, 0 are left; \
         no code in it was run\nhint: copy the published file again"
    );
    assert_eq!(with(b"}."), "CIFAR-100 file `ROOT/train`: expected a list of numbers `fine_labels`");
    // What Python 3 writes for bytes in protocol 2: keys are decoded, pixels do not stand in the file as they are.
    let encoded = |text: &str| {
        let length = (text.len() as u32).to_le_bytes();
        [b"c_codecs\nencode\nX".as_slice(), &length, text.as_bytes(), b"X\x06\0\0\0latin1\x86R"].concat()
    };
    let again = [b"\x80\x02}(".as_slice(), &encoded("fine_labels"), b"](K\x07eu."].concat();
    let file = CifarFile::parse(Path::new("again"), &again).expect("plain data");
    assert_eq!(file.labels("fine_labels"), Some(vec![7]));
    let long = [b"\x80\x02}(".as_slice(), &encoded(&"fine_labels".repeat(30)), b"]u."].concat();
    let file = CifarFile::parse(Path::new("again"), &long).expect("plain data");
    assert_eq!(file.texts(&"fine_labels".repeat(30)), None, "long text is not copied");
    // No cut and no changed byte makes it panic, and no cut passes.
    let path = Path::new("changed");
    for len in 0..whole.len().min(400) {
        assert!(CifarFile::parse(path, &whole[..len]).is_err(), "{len} bytes");
    }
    for at in 0..300 {
        for value in [0, 0x28, 0x2e, 0x52, 0x62, 0x75, 0x81, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(pickle) = CifarFile::parse(path, &changed) {
                let _ = (pickle.labels("fine_labels"), pickle.byte_rows("data"), pickle.texts("data"));
            }
        }
    }
}

/// Labels of all 50,000 training rows, so that the rows of the list are drawn from them. The true labels of
/// rows outside the list are not at hand, but where a class's other rows lie between its known ones is known
/// from the shuffle, and any assignment that keeps to that gives the same draw.
fn plausible_labels(kept: &[(u32, u32)]) -> Vec<u32> {
    const ROWS: u32 = 50_000;
    let mut generator = Mt19937::new(0);
    let mut labels = vec![u32::MAX; ROWS as usize];
    // For each row: how many rows of which class are due after it, and before which row.
    let mut slots: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
    for class in 0..100 {
        let mut order: Vec<usize> = (0..500).collect();
        generator.shuffle(&mut order);
        let known = kept.iter().filter(|(_, label)| *label == class).map(|(row, _)| *row);
        let mut rows: Vec<(usize, u32)> = order.into_iter().zip(known).collect();
        rows.sort_unstable();
        let (mut place, mut after) = (0, 0);
        for (next, row) in rows.into_iter().chain([(500, ROWS)]) {
            assert!(row >= after, "the known rows of class {class} are not in the order of the shuffle");
            slots.entry(after).or_default().extend((place..next).map(|_| (row, class)));
            if let Some(label) = labels.get_mut(row as usize) {
                *label = class;
            }
            (place, after) = (next + 1, row + 1);
        }
    }
    // Earliest deadline first.
    let mut due = std::collections::BinaryHeap::new();
    for row in 0..ROWS {
        due.extend(slots.remove(&row).unwrap_or_default().into_iter().map(std::cmp::Reverse));
        if labels[row as usize] == u32::MAX {
            let std::cmp::Reverse((before, class)) = due.pop().expect("a class that wants a row");
            assert!(row < before, "class {class} lacks a row before {before}");
            labels[row as usize] = class;
        }
    }
    labels
}

/// The published forms, rebuilt from the list's images, give what the list gives.
#[test]
fn cifar_100_long_tailed_in_all_forms() {
    let Some(shared) = fixtures::data("cifar100") else { return };
    let spec = DataSpec { root: shared, imbalance: Some(100.0), ..DataSpec::default() };
    let listed = DataSet::open(&spec).expect("the lists");
    assert_eq!((listed.train.len(), listed.test.len(), listed.class_names.len()), (10_847, 10_000, 100));
    let row = |name: String| name.trim_end_matches(".png").rsplit_once('/').expect("a path").1.parse::<u32>();
    let kept: Vec<(u32, u32)> = (0..listed.train.len())
        .map(|i| (row(listed.train.name(i)).expect("a number"), listed.train.labels()[i]))
        .collect();
    let labels = plausible_labels(&kept);
    assert_eq!(long_tailed_rows(&labels, 100, 100.0), kept);
    assert_eq!(long_tailed_rows(&labels, 100, 50.0).len(), 12_608);
    assert_eq!(long_tailed_rows(&labels, 100, 10.0).len(), 19_573);
    let root = folder(&[("cifar-100-python/x", b""), ("cifar-100-binary/x", b"")]);
    write_published(root.path(), &listed, &kept, &labels);
    for form in ["cifar-100-python", "cifar-100-binary"] {
        let spec = DataSpec { root: root.path().join(form), imbalance: Some(100.0), ..DataSpec::default() };
        let set = DataSet::open(&spec).expect("the published form");
        assert_eq!(set.class_names, listed.class_names);
        assert_eq!(set.train.labels(), listed.train.labels());
        assert_eq!(set.test.labels(), listed.test.labels());
        for i in (0..10_000).step_by(61) {
            assert_eq!(
                set.train.read(i).expect("an image"),
                listed.train.read(i).expect("an image"),
                "{form} {i}"
            );
            assert_eq!(
                set.test.read(i).expect("an image"),
                listed.test.read(i).expect("an image"),
                "{form} {i}"
            );
        }
        println!("{form}: {} training images by the long-tail rule equal the list", set.train.len());
    }
}

/// Writes both published forms; rows outside the list are holes.
fn write_published(root: &Path, listed: &DataSet, kept: &[(u32, u32)], labels: &[u32]) {
    let python = root.join("cifar-100-python");
    let binary = root.join("cifar-100-binary");
    names_file(&python.join("meta"), &listed.class_names);
    fs::write(binary.join("fine_label_names.txt"), listed.class_names.join("\n")).expect("names");
    let train = (0..kept.len()).map(|i| (kept[i].0, i)).collect::<Vec<_>>();
    let test = (0..listed.test.len()).map(|i| (i as u32, i)).collect::<Vec<_>>();
    for (name, split, rows, labels) in
        [("train", &listed.train, train, labels), ("test", &listed.test, test, listed.test.labels())]
    {
        let first = python_file(&python.join(name), labels);
        let pickle = fs::OpenOptions::new().write(true).open(python.join(name)).expect("the pickle");
        let mut records = fs::File::create(binary.join(format!("{name}.bin"))).expect("the records");
        for &label in labels {
            let mut record = [0; 3074];
            record[1] = label as u8;
            records.write_all(&record).expect("a record");
        }
        for (row, index) in rows {
            let planes = planes(&split.read(index).expect("an image"));
            pickle.write_all_at(&planes, first + u64::from(row) * 3072).expect("a row");
            records.write_all_at(&planes, 2 + u64::from(row) * 3074).expect("a row");
        }
    }
}

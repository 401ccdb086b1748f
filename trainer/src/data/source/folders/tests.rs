//! Class folders as people have them: with other endings, subfolders, and what systems leave there.

use super::*;
use crate::data::source::finding::Severity;
use crate::data::source::tests::{dot, folder};
use std::fs;
use std::os::unix::fs::symlink;

fn spec(root: &Path) -> DataSpec {
    DataSpec { root: root.into(), ..DataSpec::default() }
}

fn open(root: &Path) -> (DataSet, Vec<String>) {
    let set = DataSet::open(&spec(root)).expect("a data set");
    let findings =
        set.findings.iter().map(|finding| finding.to_string().replace(&root.display().to_string(), "ROOT"));
    let findings = findings.collect();
    (set, findings)
}

/// The content decides: an image of any ending or none is read, an image that cannot be decoded is told.
#[test]
fn endings_do_not_decide() {
    let image = dot(1, 2, 3);
    let pgm = b"P5 1 1 255 \x07";
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0";
    let root = folder(&[
        ("train/a/1.bmp", &image),
        ("train/a/2", &image),
        ("train/a/3.dat", &image),
        ("train/a/4.pgm", pgm),
        ("train/a/5.pnm", pgm),
        ("train/b/1.bmp", &image),
        ("train/b/2.avif", avif),
        ("train/b/3.avif", avif),
        ("train/b/4.avif", &image),
        ("train/b/notes.txt", b"BMW notes"),
        ("test/a/1.bmp", &image),
        ("test/b/1.bmp", &image),
    ]);
    let (set, findings) = open(root.path());
    let names: Vec<String> = (0..set.train.len()).map(|index| set.train.name(index)).collect();
    assert_eq!(names, ["a/1.bmp", "a/2", "a/3.dat", "a/4.pgm", "a/5.pnm", "b/1.bmp", "b/4.avif"]);
    for index in 0..names.len() {
        set.train.read(index).expect("an image");
    }
    assert_eq!(
        findings,
        [
            "warning: `ROOT/train`: 2 AVIF images left out because the format is not decoded (convert to JPEG or PNG): \
             2 of class `b` (`2.avif`)",
            "`ROOT/train`: 1 file left out, without an image in it: 1 of class `b` (`notes.txt`)",
        ]
    );
}

#[test]
fn subfolders_are_searched_and_litter_is_left_out() {
    let image = dot(1, 2, 3);
    let root = folder(&[
        ("train/a/1.bmp", &image),
        ("train/a/more/2.bmp", &image),
        ("train/a/more/most/3.bmp", &image),
        ("train/a/@eaDir/1.bmp/thumb.bmp", &image),
        ("train/a/.thumbs/1.bmp", &image),
        ("train/b/._1.bmp", &image),
        ("train/b/1.bmp", &image),
        ("train/@eaDir/x.bmp", &image),
        ("train/__MACOSX/a/._1.bmp", &image),
        ("train/lost+found/x", b""),
        ("train/.ipynb_checkpoints/x.bmp", &image),
        ("train/loose.bmp", &image),
        ("train/labels.txt", b"a b"),
        ("test/a/1.bmp", &image),
        ("test/b/1.bmp", &image),
        ("test/@eaDir/x.bmp", &image),
    ]);
    let (set, findings) = open(root.path());
    assert_eq!(set.class_names, ["a", "b"]);
    let names: Vec<String> = (0..set.train.len()).map(|index| set.train.name(index)).collect();
    assert_eq!(names, ["a/1.bmp", "a/more/2.bmp", "a/more/most/3.bmp", "b/1.bmp"]);
    assert_eq!(
        findings,
        [
            "warning: `ROOT/train`: 1 image left out, in no class folder: 1 beside the class folders (`loose.bmp`)",
            "`ROOT/train`: 1 file left out, without an image in it: 1 beside the class folders (`labels.txt`)",
            "`ROOT/train`: 4 folders left out, made by a system beside people's files: 3 beside the class folders \
             (`@eaDir`), 1 of class `a` (`@eaDir`)",
            "`ROOT/train`: 3 left out, with a hidden name: 1 beside the class folders \
             (`.ipynb_checkpoints`), 1 of class `a` (`.thumbs`), 1 of class `b` (`._1.bmp`)",
            "`ROOT/train`: 2 images taken from folders within the class folders: 2 of class `a` (`more/2.bmp`)",
            "`ROOT/test`: 1 folder left out, made by a system beside people's files: 1 beside the class folders (`@eaDir`)",
        ]
    );
}

/// Neither a link to a folder above nor a named pipe keeps the search from its end.
#[test]
fn loops_and_pipes_are_told() {
    let image = dot(1, 2, 3);
    let root = folder(&[("train/a/1.bmp", &image), ("test/a/1.bmp", &image)]);
    symlink("..", root.path().join("train/a/up")).expect("a link");
    nix::unistd::mkfifo(&root.path().join("train/a/pipe.bmp"), nix::sys::stat::Mode::S_IRWXU)
        .expect("a pipe");
    symlink("nowhere", root.path().join("train/a/gone")).expect("a link");
    let (set, findings) = open(root.path());
    // Through `up` the class folder is met again, and nothing of it is taken twice.
    assert_eq!(set.train.len(), 1);
    assert!(
        findings.iter().any(|text| text.starts_with("warning:") && text.contains("(`pipe.bmp`)")),
        "{findings:?}"
    );
    assert!(findings.iter().any(|text| text.contains("leading back to a folder above")), "{findings:?}");
    assert!(
        findings.iter().any(|text| text.contains("not readable: 1 of class `a` (`gone`)")),
        "{findings:?}"
    );
}

#[test]
fn class_folders_get_names() {
    let image = dot(1, 2, 3);
    let root = folder(&[
        ("train/n02/1.bmp", &image),
        ("train/n01/1.bmp", &image),
        ("test/n01/1.bmp", &image),
        ("test/n02/1.bmp", &image),
        ("names.txt", b"n02 dog\nn01 cat\nn03 cow\n"),
    ]);
    let named = DataSpec { class_names: Some("names.txt".into()), ..spec(root.path()) };
    assert_eq!(DataSet::open(&named).expect("a data set").class_names, ["cat", "dog"]);
    fs::rename(root.path().join("train/n02"), root.path().join("train/02")).expect("another name");
    fs::rename(root.path().join("train/n01"), root.path().join("train/01")).expect("another name");
    fs::rename(root.path().join("test/n02"), root.path().join("test/02")).expect("another name");
    fs::rename(root.path().join("test/n01"), root.path().join("test/01")).expect("another name");
    let set = DataSet::open(&spec(root.path())).expect("a data set");
    assert_eq!(set.findings[0].weight, Severity::Warning);
    assert!(set.findings[0].text.starts_with("the class folders are named by ids (`01`, `02`)"));
}

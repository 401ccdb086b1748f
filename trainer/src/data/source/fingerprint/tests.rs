//! The sample sees other files behind the same names, in folders, tar files, CIFAR rows and drawn images.

use super::*;
use crate::data::demo::demo_data_set;
use crate::data::source::tests::{dot, folder, lists, tar_of};
use crate::data::source::{DataSet, DataSpec};

fn opened(bytes: &[u8], other: Option<&[u8]>, in_tar: bool) -> (DataSet, ContentSample) {
    let mut files = vec![("a.bmp", bytes)];
    files.extend(other.map(|other| ("b.bmp", other)));
    let archive = tar_of(&files);
    let root = folder(&files);
    for (name, bytes) in
        [("train.txt", &b"a.bmp 0\nb.bmp 0\n"[..]), ("test.txt", b"a.bmp 0\n"), ("i.tar", &archive)]
    {
        std::fs::write(root.path().join(name), bytes).expect("a file");
    }
    let images = in_tar.then(|| "i.tar".into());
    let set = DataSet::open(&DataSpec { images, ..lists(root.path()) }).expect("a data set");
    let sample = set.content_sample();
    (set, sample)
}

#[test]
fn other_bytes_or_sizes_are_seen() {
    let (one, two) = (dot(1, 2, 3), dot(1, 2, 4));
    let longer = [&one[..], b"x"].concat();
    for in_tar in [false, true] {
        let (set, sample) = opened(&one, Some(&one), in_tar);
        let difference =
            |other: &[u8]| sample.difference(&opened(&one, Some(other), in_tar).1, (&set.train, &set.test));
        assert_eq!(difference(&one), None);
        assert_eq!(difference(&two).unwrap().first, "b.bmp");
        assert_eq!(difference(&longer).unwrap().first, "b.bmp");
    }
    // A file of the size of its sample and one beyond it, changed in its last byte.
    for len in [8192, 100_000] {
        let (one, mut two) = (vec![0; len], vec![0; len]);
        two[len - 1] = 1;
        let (set, sample) = opened(&one, Some(&one), false);
        let other = opened(&one, Some(&two), false).1;
        assert_eq!(sample.difference(&other, (&set.train, &set.test)).unwrap().first, "b.bmp");
    }
}

/// Whoever needs the file will miss it, and a file that comes back is no other data set.
#[test]
fn a_missing_file_is_not_compared() {
    let one = dot(1, 2, 3);
    let (set, sample) = opened(&one, Some(&one), false);
    let missing = opened(&one, None, false).1;
    assert_ne!(sample, missing);
    assert_eq!(sample.difference(&missing, (&set.train, &set.test)), None);
    assert_eq!(missing.difference(&sample, (&set.train, &set.test)), None);
}

/// The first and the last of a list are among the files looked at, which are few however long it is.
#[test]
fn drawn_pictures_have_a_sample() {
    let (one, other) = (demo_data_set(1), demo_data_set(2));
    let sample = one.content_sample();
    assert_eq!(sample.0.len(), 2 * SAMPLED);
    assert_eq!(sample, demo_data_set(1).content_sample());
    let difference = sample.difference(&other.content_sample(), (&one.train, &one.test)).unwrap();
    assert_eq!((difference.first.as_str(), difference.files), ("demo/seed-1/train/0", 2 * SAMPLED));
    assert!(difference.is_another_set());
    let last = places(&one.train, &one.test).nth(SAMPLED - 1).map(|(_, index)| index);
    assert_eq!(last, Some(one.train.len() - 1));
}

#[test]
fn a_few_repaired_files_are_no_other_data_set() {
    let one = demo_data_set(1);
    let sample = one.content_sample();
    let mut repaired = sample.clone();
    for (changed, is_another) in [(1, false), (25, false), (26, true)] {
        repaired.0[..changed].iter_mut().for_each(|text| "new".clone_into(text));
        let difference = sample.difference(&repaired, (&one.train, &one.test)).unwrap();
        assert_eq!((difference.files, difference.compared), (changed, 2 * SAMPLED));
        assert_eq!(difference.is_another_set(), is_another, "{changed}");
    }
}

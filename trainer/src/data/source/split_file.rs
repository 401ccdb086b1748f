//! A split file: which images of one list train and which test. CSV with the columns `half` and `image`, one row for each
//! image of the source, in its order.

use super::finding::{Finding, counted};
use super::{DataSet, Split, read_text};
use crate::data::error::DataError;
use std::path::Path;
use std::sync::Arc;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Training.
    Train,
    /// Test.
    Test,
    /// Nothing: it is unreadable, or a copy of another one.
    Skip,
}

impl Half {
    const ALL: [Self; 3] = [Self::Train, Self::Test, Self::Skip];

    const fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::Skip => "skip",
        }
    }
}

/// The text of a split file.
pub fn write_split(split: &Split, halves: &[Half]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["half", "image"])?;
    for (index, half) in halves.iter().enumerate() {
        writer.write_record([half.word(), &split.name(index)])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// Divides the training images of a set, which are all of its images.
pub(super) fn divide(set: DataSet, path: &Path) -> Result<DataSet, DataError> {
    let halves = read_split(path, &set.train)?;
    let of = |wanted: Half| {
        let all = halves.iter().enumerate().filter(|&(_, &half)| half == wanted);
        all.map(|(index, _)| index).collect::<Vec<_>>()
    };
    let whole = Arc::new(set.train);
    let skipped = of(Half::Skip).len();
    let mut findings = set.findings;
    if skipped > 0 {
        findings.push(Finding::note(format!(
            "`{}` leaves out {}",
            path.display(),
            counted(skipped, "picture")
        )));
    }
    let train = Split::some_of(Arc::clone(&whole), of(Half::Train));
    let test = Split::some_of(whole, of(Half::Test));
    Ok(DataSet { train, test, findings, ..set })
}

fn read_split(path: &Path, whole: &Split) -> Result<Vec<Half>, DataError> {
    let text = read_text("split file", path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let failed = |error: csv::Error| {
        DataError::line(path, error.position().map_or(0, csv::Position::line) as usize, error.to_string())
    };
    let mut halves = Vec::with_capacity(whole.len());
    let mut record = csv::StringRecord::new();
    let other = "\nhint: the pictures have changed; run `lift init-data` again";
    while reader.read_record(&mut record).map_err(failed)? {
        let line = record.position().map_or(0, csv::Position::line) as usize;
        let wrong = |reason: String| DataError::line(path, line, reason);
        let (word, name) = (record.get(0).unwrap_or_default(), record.get(1).unwrap_or_default());
        let half = Half::ALL.into_iter().find(|half| half.word() == word);
        let half =
            half.ok_or_else(|| wrong(format!("expected `train`, `test` or `skip`, found `{word}`")))?;
        let index = halves.len();
        if index >= whole.len() {
            return Err(wrong(format!(
                "`{name}` is picture {} of a data set of {}{other}",
                index + 1,
                whole.len()
            )));
        }
        if whole.name(index) != name {
            return Err(wrong(format!(
                "expected `{}` as in the data set, found `{name}`{other}",
                whole.name(index)
            )));
        }
        halves.push(half);
    }
    if halves.len() < whole.len() {
        let reason =
            format!("it has {} of the {} pictures of the data set{other}", halves.len(), whole.len());
        return Err(DataError::content("split file", path, reason));
    }
    Ok(halves)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dot, folder};
    use super::super::{DataSpec, Halves};
    use super::*;

    #[test]
    fn pictures_train_test_or_neither_by_their_names() {
        let root = folder(&[
            ("a/1.bmp", &dot(1, 1, 1)),
            ("a/x,\"y.bmp", &dot(2, 2, 2)),
            ("b/3.bmp", &dot(3, 3, 3)),
            ("b/4.bmp", &dot(4, 4, 4)),
        ]);
        let spec = |halves| DataSpec { root: root.path().into(), halves, ..DataSpec::default() };
        let whole = DataSet::open(&spec(Halves::Whole)).unwrap();
        assert_eq!(
            (whole.train.len(), whole.test.len(), &whole.class_names[..]),
            (4, 0, &["a".to_owned(), "b".into()][..])
        );
        let path = root.path().join("split.csv");
        let text = write_split(&whole.train, &[Half::Test, Half::Train, Half::Train, Half::Skip]).unwrap();
        std::fs::write(&path, &text).unwrap();
        let set = DataSet::open(&spec(Halves::Divided("split.csv".into()))).unwrap();
        assert_eq!((set.train.labels(), set.test.labels()), (&[0, 1][..], &[0][..]));
        assert_eq!(set.train.read(0).unwrap().pixels, [2, 2, 2]);
        assert_eq!((set.train.missing(), set.test.missing()), (vec![], vec![]));
        let text = String::from_utf8(text).unwrap();
        for (from, to, expected) in [
            ("test,a/1", "tset,a/1", "split.csv:2: expected `train`, `test` or `skip`, found `tset`"),
            (
                "b/3",
                "b/5",
                "split.csv:4: expected `b/3.bmp` as in the data set, found `b/5.bmp`\nhint: the pictures have changed; run \
                `lift init-data` again",
            ),
            (
                "skip,b/4.bmp\n",
                "",
                "split.csv`: it has 3 of the 4 pictures of the data set\nhint: the pictures have changed; run `lift \
                init-data` again",
            ),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = DataSet::open(&spec(Halves::Divided("split.csv".into()))).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }
}

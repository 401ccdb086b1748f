//! Headers true and false, and the fingerprint.

use super::*;
use proptest::prelude::*;
use std::io::Write;
use tempfile::NamedTempFile;

const HEADER: &str = concat!(
    r#"{"__metadata__":{"model":"tiny"},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
    r#""a":{"dtype":"F16","shape":[3],"data_offsets":[16,22]}}"#
);

fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".safetensors").expect("a temporary file");
    file.write_all(bytes).expect("its bytes");
    file
}

fn weights(header: &str, numbers: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), numbers].concat()
}

fn numbers() -> Vec<u8> {
    (0..22).collect()
}

fn refusal(bytes: &[u8]) -> String {
    let file = file_of(bytes);
    let error = MappedWeights::open(file.path()).expect_err("the file is wrong");
    assert_eq!(error.path, file.path());
    error.problem.to_string()
}

#[test]
fn tensors_are_listed_and_seen() {
    let file = file_of(&weights(HEADER, &numbers()));
    let map = MappedWeights::open(file.path()).expect("a good file");
    assert_eq!(map.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(map.metadata()["model"], "tiny");
    let all = numbers();
    let a = map.view("a").expect("a is there");
    assert_eq!(a, RawTensor { dtype: DType::F16, shape: &[3], bytes: &all[16..] });
    let b = map.view("b").expect("b is there");
    assert_eq!(b, RawTensor { dtype: DType::F32, shape: &[2, 2], bytes: &all[..16] });
    let start = 8 + HEADER.len();
    assert_eq!(map.byte_range("a"), Some(start + 16..start + 22));
    assert_eq!(b.is_aligned(), start.is_multiple_of(4));
    assert_eq!(map.view("c"), None);
    assert_eq!(map.tensors().count(), 2);
}

#[test]
fn a_write_elsewhere_is_not_needed_to_keep_the_mapping() {
    let file = file_of(&weights(HEADER, &numbers()));
    let map = MappedWeights::open(file.path()).expect("a good file");
    let clone = map.clone();
    drop((map, file));
    assert_eq!(clone.view("b").expect("b is there").bytes[15], 15);
}

#[test]
fn wrong_files_are_explained() {
    let good = weights(HEADER, &numbers());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the file is empty\nhint: download it again"),
        (b"PK\x03\x04 and more".to_vec(), "this is a PyTorch archive, not a safetensors file"),
        (b"\x80\x02}q\x00.".to_vec(), "this is a bare pickle"),
        (good[..good.len() - 1].to_vec(), "the file is cut short: 173 bytes, its header needs 174"),
        (good[..60].to_vec(), "the file is cut short: 60 bytes, its header needs 152"),
        ([good.as_slice(), b"x"].concat(), "the header is not that of a safetensors file"),
        (b"plain text that is no header at all".to_vec(), "this is a text file that begins with `plain text"),
        (b"\xff\xfe\x01".to_vec(), "the header is not that of a safetensors file"),
        (weights("{}", b"left over"), "the header is not that of a safetensors file"),
        (weights(&HEADER.replace("[2,2]", "[2,3]"), &numbers()), "the header is not that"),
        (weights(&HEADER.replace("[16,22]", "[15,21]"), &numbers()), "the header is not that"),
        (weights(&HEADER.replace("F16", "F17"), &numbers()), "the header is not that"),
        (weights(&HEADER.replace("[3]", "[18446744073709551615,3]"), &numbers()), "the header is not that"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes);
        assert!(message.starts_with(expected), "{message}, expected {expected}");
    }
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = MappedWeights::open(folder.path()).expect_err("a folder");
    assert!(matches!(error.problem, MapProblem::NotAFile), "{error}");
    let path = folder.path().join("none.safetensors");
    let error = MappedWeights::open(&path).expect_err("no file");
    assert_eq!(
        error.to_string(),
        format!("weights `{}`: there is no such file\nhint: check the path", path.display())
    );
}

#[test]
fn the_fingerprint_depends_on_tensors_alone() {
    let print = |header: &str, numbers: &[u8]| {
        let file = file_of(&weights(header, numbers));
        MappedWeights::open(file.path()).expect("a good file").fingerprint()
    };
    let first = print(HEADER, &numbers());
    assert_eq!(first.len(), 64);
    // Order in the file and metadata do not matter.
    let swapped = concat!(
        r#"{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"#,
        r#""b":{"dtype":"F32","shape":[2,2],"data_offsets":[6,22]}}"#
    );
    let all = numbers();
    assert_eq!(print(swapped, &[&all[16..], &all[..16]].concat()), first);
    // Names, types, shapes and numbers do.
    let mut other = numbers();
    other[21] ^= 1;
    let changed = [
        print(HEADER, &other),
        print(&HEADER.replace("\"a\"", "\"c\""), &numbers()),
        print(&HEADER.replace("F16", "BF16"), &numbers()),
        print(&HEADER.replace("[2,2]", "[4]"), &numbers()),
    ];
    assert!(changed.iter().all(|print| *print != first), "{first} {changed:?}");
}

#[test]
fn the_fingerprint_is_the_documented_one() {
    let mut print = Fingerprint::default();
    print.add("w", DType::F32, &[1], &1.0_f32.to_le_bytes());
    let fed = [
        b"\x01\0\0\0\0\0\0\0w".as_slice(),
        b"\x03\0\0\0\0\0\0\0F32",
        b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
        b"\x04\0\0\0\0\0\0\0\0\0\x80\x3f",
    ]
    .concat();
    let plain: String =
        Sha256::digest(fed).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    assert_eq!(print.finish(), plain);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn flipped_and_cut_files_are_survived(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>(),
    ) {
        let good = weights(HEADER, &numbers());
        let mut bytes = good.clone();
        bytes[at.index(good.len())] = byte;
        if let Ok(map) = MappedWeights::open(file_of(&bytes).path()) {
            prop_assert_eq!(map.tensors().map(|(_, tensor)| tensor.bytes.len()).sum::<usize>(), 22);
            prop_assert_eq!(map.fingerprint().len(), 64);
        }
        prop_assert!(MappedWeights::open(file_of(&good[..end.index(good.len())]).path()).is_err());
    }
}

//! Checkpoints of the official code, hostile files, and damage done to good ones.

use super::*;
use crate::weights::dtype::DType;
use crate::weights::host_tensor::match_exact;
use proptest::prelude::*;
use serde_json::Value as Json;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const GOOD: &str = "checkpoint/lift-clip-vit-adaptformer";

/// A fixture that is part of the repository.
fn own_fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(case)
}

/// A folder of shared test data, if it is there.
fn shared(test: &str, variable: &str, folder: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {test} ({variable} not found)");
    None
}

fn manifest(case: &Path) -> Json {
    let text = std::fs::read(case.join("manifest.json")).expect("a case has a manifest");
    serde_json::from_slice(&text).expect("a manifest is JSON")
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    cases.retain(|case| case.join("manifest.json").exists());
    cases.sort();
    cases
}

/// Names and shapes that a manifest lists.
fn expected_shapes(manifest: &Json) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for (table, tensors) in manifest["contents"].as_object().expect("contents") {
        for (name, about) in tensors.as_object().expect("a table") {
            let shape = about["shape"].as_array().expect("a shape").iter();
            let shape = shape.map(|size| size.as_u64().expect("a size") as usize).collect();
            shapes.insert(format!("{table}.{name}"), shape);
        }
    }
    shapes
}

fn sum(tensor: &HostTensor) -> f64 {
    let bytes = &tensor.bytes;
    match tensor.dtype {
        DType::F32 => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).sum(),
        DType::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).sum(),
        DType::F16 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f64()).sum(),
        DType::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).sum(),
        DType::Bool => bytes.iter().map(|&b| f64::from(b)).sum(),
        other => panic!("no checkpoint of the fixtures holds {other}"),
    }
}

/// Names, shapes, types and sums are the manifest's.
fn check_contents(case: &Path) {
    let manifest = manifest(case);
    let found = read_checkpoint(&case.join("checkpoint.pth.tar")).expect("a good checkpoint");
    assert_eq!(match_exact(&expected_shapes(&manifest), &found.tensors), Ok(()), "{}", case.display());
    assert!(found.other.is_empty(), "{:?}", found.other);
    for (name, tensor) in &found.tensors {
        let (table, key) = name.split_once('.').expect("a name has a table");
        let dtype = match manifest["contents"][table][key]["dtype"].as_str().expect("a type") {
            "float32" => DType::F32,
            "float16" => DType::F16,
            "int64" => DType::I64,
            "bool" => DType::Bool,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(tensor.dtype, dtype, "{name}");
        assert_eq!(tensor.bytes.len(), tensor.elements() * dtype.bytes(), "{name}");
        let expected = manifest["content_sums"][table][key].as_f64().expect("a sum");
        let found = sum(tensor);
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{name}: {found} {expected}");
    }
}

#[test]
fn golden_kept_checkpoint_is_read() {
    check_contents(&own_fixture(GOOD));
}

#[test]
fn golden_all_checkpoints_are_read() {
    let Some(fixtures) = shared("all_official_checkpoints_are_read", "LIFT_FIXTURES", "fixtures") else {
        return;
    };
    let cases = cases(&fixtures.join("checkpoint"));
    assert!(!cases.is_empty(), "no checkpoint below {}", fixtures.display());
    for case in &cases {
        check_contents(case);
    }
}

#[test]
fn the_official_run_equals_its_safetensors_copy() {
    let name = "the_official_run_equals_its_safetensors_copy";
    let Some(backbones) = shared(name, "LIFT_BACKBONES", "backbones") else { return };
    let run = backbones.join("official_lift_seed0");
    let found = read_checkpoint(&run.join("checkpoint.pth.tar")).expect("the official checkpoint");
    let copy = crate::weights::safetensors_map::MappedWeights::open(&run.join("checkpoint.safetensors"))
        .expect("its copy");
    assert_eq!(
        found.tensors.keys().map(String::as_str).collect::<Vec<_>>(),
        copy.names().collect::<Vec<_>>()
    );
    for (name, tensor) in &found.tensors {
        let other = copy.view(name).expect("the same names");
        assert_eq!(
            (tensor.dtype, &*tensor.shape, &*tensor.bytes),
            (other.dtype, other.shape, other.bytes),
            "{name}"
        );
    }
}

/// What each hostile file is refused with: part of the reader's message, or of the comparison with the
/// good checkpoint's names and shapes; an empty text where it loads.
const HOSTILE: [(&str, &str); 19] = [
    ("builtins-eval", "global `__builtin__.eval` at byte "),
    ("empty-file", "the file is empty"),
    ("extra-tuner-tensor", "1 left over"),
    ("fp16-values", ""),
    ("missing-head", "1 missing\n  missing: `head.weight` ["),
    ("missing-storage", "is not in the archive"),
    ("missing-tuner-tensor", "1 missing\n  missing: `tuner.adaptformer_list.1.down_proj.weight` ["),
    ("module-prefix", "left over: `head.module.weight`"),
    ("nan-values", "1 not finite"),
    ("not-a-checkpoint", "a text file"),
    ("os-system", "global `posix.system` at byte "),
    ("raw-pickle-os-system", "this is a bare pickle"),
    ("short-storage", "tensor `head.weight`: its storage `7` has "),
    ("truncated-pickle", "the pickle ends early"),
    ("truncated-tail", "the archive is damaged or cut short"),
    ("truncated-zip", "the archive is damaged or cut short"),
    ("unknown-class", "global `no_such_module.NoSuchClass` at byte "),
    ("wrong-shape-head", "1 of another shape\n  of another shape: `head.weight` is ["),
    ("wrong-shape-tuner", "of another shape: `tuner.adaptformer_list.1.down_proj.weight`"),
];

/// The message a file is refused with, by the reader or by the comparison with `expected`; empty if it loads.
fn verdict(path: &Path, expected: &BTreeMap<String, Vec<usize>>) -> String {
    match read_checkpoint(path) {
        Err(error) => error.to_string(),
        Ok(found) => match_exact(expected, &found.tensors).err().map(|e| e.to_string()).unwrap_or_default(),
    }
}

fn check_hostile(case: &Path) {
    let name = case.file_name().expect("a name").to_string_lossy();
    let (_, part) = HOSTILE.iter().find(|(known, _)| *known == name).expect("a known case");
    let path = case.join("checkpoint.pth.tar");
    // It is the good checkpoint of its set, changed in one place.
    let good = case.ancestors().nth(3).expect("a case lies in a set").join(GOOD);
    let message = verdict(&path, &expected_shapes(&manifest(&good)));
    assert!(message.contains(part), "{name}: {message}");
    let loads = manifest(case)["expect"].as_str().expect("expect") == "load";
    assert_eq!(message.is_empty(), loads, "{name}: {message}");
    for folder in [case, Path::new("."), Path::new(env!("CARGO_MANIFEST_DIR"))] {
        assert!(!folder.join("PWNED").exists(), "{name} ran its payload");
    }
}

#[test]
fn hostile_checkpoints_are_refused() {
    for case in &cases(&own_fixture("checkpoint/hostile")) {
        check_hostile(case);
    }
}

#[test]
fn all_hostile_checkpoints_are_refused() {
    let Some(fixtures) = shared("all_hostile_checkpoints_are_refused", "LIFT_FIXTURES", "fixtures") else {
        return;
    };
    let folder = fixtures.join("checkpoint/hostile");
    if !folder.is_dir() {
        eprintln!("skipped: all_hostile_checkpoints_are_refused (no {})", folder.display());
        return;
    }
    let cases = cases(&folder);
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    for case in &cases {
        check_hostile(case);
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    let Some(backbones) = shared("files_of_other_kinds_are_named", "LIFT_BACKBONES", "backbones") else {
        return;
    };
    let error = read_checkpoint(&backbones.join("tiny-clip/tiny-clip.pt")).expect_err("a program");
    assert!(matches!(error.problem, TorchFileProblem::TorchScript), "{error}");
    assert!(error.to_string().ends_with("use the safetensors file of the same model"), "{error}");
    let error = read_checkpoint(&backbones.join("tiny-clip/model.safetensors")).expect_err("no archive");
    assert!(matches!(error.problem, TorchFileProblem::NotAnArchive), "{error}");
    let error = read_checkpoint(&backbones.join("none.pth.tar")).expect_err("no file");
    assert!(matches!(error.problem, TorchFileProblem::Io(_)), "{error}");
    assert!(error.to_string().contains("none.pth.tar"), "{error}");
}

/// An archive of the given entries below `folder`.
fn archive(folder: &str, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(format!("{folder}/{name}"), options).expect("an entry");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("an archive").into_inner()
}

/// A tensor to describe in a pickle.
struct Described<'a> {
    name: &'a str,
    key: &'a str,
    elements: i64,
    offset: i64,
    shape: &'a [i64],
    strides: &'a [i64],
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    out.extend([0x8a, 8]);
    out.extend(value.to_le_bytes());
}

fn put_tensor(out: &mut Vec<u8>, tensor: &Described<'_>) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(out, "storage");
    out.extend(b"ctorch\nIntStorage\n");
    put_text(out, tensor.key);
    put_text(out, "cuda:0");
    put_int(out, tensor.elements);
    out.extend(b"tQ");
    put_int(out, tensor.offset);
    for sizes in [tensor.shape, tensor.strides] {
        out.push(b'(');
        for &size in sizes {
            put_int(out, size);
        }
        out.push(b't');
    }
    out.extend(b"\x89NtR");
}

/// A pickle of `{name: tensor, ...}`.
fn describe(tensors: &[Described<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for tensor in tensors {
        put_text(&mut out, tensor.name);
        put_tensor(&mut out, tensor);
    }
    out.extend(b"u.");
    out
}

fn read(bytes: Vec<u8>) -> Result<TorchCheckpoint, TorchFileProblem> {
    read_archive(Cursor::new(bytes))
}

fn refusal(bytes: Vec<u8>) -> String {
    read(bytes).expect_err("the archive is hostile").to_string()
}

/// Storage of `0, 1, 2, ...`.
fn counting(elements: i32) -> Vec<u8> {
    (0..elements).flat_map(i32::to_le_bytes).collect()
}

fn numbers(tensor: &HostTensor) -> Vec<i32> {
    tensor.bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()
}

#[test]
fn views_of_a_storage_are_cut_out_in_row_major_order() {
    let view =
        |name, offset, shape, strides| Described { name, key: "0", elements: 24, offset, shape, strides };
    let pickle = describe(&[
        view("whole", 0, &[4, 6], &[6, 1]),
        view("transposed", 0, &[6, 4], &[1, 6]),
        view("column", 2, &[4], &[6]),
        view("block", 7, &[2, 3], &[6, 1]),
        view("cube", 0, &[2, 2, 3], &[12, 3, 2]),
        view("scalar", 23, &[], &[]),
        view("empty", 24, &[0, 5], &[5, 1]),
    ]);
    let found = read(archive("x", &[("data.pkl", &pickle), ("data/0", &counting(24))])).expect("plain views");
    let found: BTreeMap<_, _> = found.tensors.iter().map(|(name, t)| (name.as_str(), numbers(t))).collect();
    assert_eq!(found["whole"], (0..24).collect::<Vec<_>>());
    let transposed: Vec<i32> = (0..6).flat_map(|j| (0..4).map(move |i| 6 * i + j)).collect();
    assert_eq!(found["transposed"], transposed);
    assert_eq!(found["column"], [2, 8, 14, 20]);
    assert_eq!(found["block"], [7, 8, 9, 13, 14, 15]);
    assert_eq!(found["cube"], [0, 2, 4, 3, 5, 7, 12, 14, 16, 15, 17, 19]);
    assert_eq!(found["scalar"], [23]);
    assert!(found["empty"].is_empty());
}

#[test]
fn views_that_leave_their_storage_are_refused() {
    let big = i64::MAX;
    let cases: [(i64, &[i64], &[i64]); 9] = [
        (0, &[25], &[1]),
        (1, &[24], &[1]),
        (24, &[], &[]),
        (0, &[2, 13], &[13, 1]),
        (0, &[2], &[24]),
        (0, &[25], &[0]),
        (0, &[big, big], &[big, 1]),
        (big, &[2], &[big]),
        (0, &[1 << 40, 1 << 40], &[0, 0]),
    ];
    for (offset, shape, strides) in cases {
        let pickle =
            describe(&[Described { name: "head.weight", key: "0", elements: 24, offset, shape, strides }]);
        let message = refusal(archive("x", &[("data.pkl", &pickle), ("data/0", &counting(24))]));
        assert!(message.starts_with("tensor `head.weight`: shape ["), "{message}");
        assert!(message.ends_with("does not fit its storage of 24 elements"), "{message}");
    }
}

#[test]
fn lying_storages_are_refused() {
    let tensor =
        |name, elements| Described { name, key: "0", elements, offset: 0, shape: &[2], strides: &[1] };
    let claims = describe(&[tensor("a", 1 << 60)]);
    let message = refusal(archive("x", &[("data.pkl", &claims), ("data/0", &counting(2))]));
    assert!(message.contains("`0` has 8 bytes, expected 4611686018427387904"), "{message}");
    let disagrees = describe(&[tensor("a", 2), tensor("b", 3)]);
    let message = refusal(archive("x", &[("data.pkl", &disagrees), ("data/0", &counting(3))]));
    assert!(message.contains("tensor `b`: its storage `0` was declared with another"), "{message}");
    let twice = describe(&[tensor("a", 2), tensor("a", 2)]);
    let message = refusal(archive("x", &[("data.pkl", &twice), ("data/0", &counting(2))]));
    assert_eq!(message, "tensor `a` occurs twice");
}

#[test]
fn many_views_of_one_storage_cannot_ask_for_any_memory() {
    let names: Vec<String> = (0..5000).map(|i| format!("t{i}")).collect();
    let view =
        |name| Described { name, key: "0", elements: 1 << 18, offset: 0, shape: &[1 << 18], strides: &[1] };
    let pickle = describe(&names.iter().map(|name| view(name.as_str())).collect::<Vec<_>>());
    let message = refusal(archive("x", &[("data.pkl", &pickle), ("data/0", &counting(1 << 18))]));
    assert!(message.ends_with("bytes of tensors, which no checkpoint of this kind needs"), "{message}");
}

#[test]
fn the_archive_must_be_one_of_torch_save() {
    let pickle = describe(&[]);
    let with = |entries: &[(&str, &[u8])]| {
        let mut all = vec![("data.pkl", pickle.as_slice())];
        all.extend_from_slice(entries);
        archive("x", &all)
    };
    assert_eq!(read(with(&[])).expect("an empty dictionary"), TorchCheckpoint::default());
    assert!(read(with(&[("byteorder", b"little")])).is_ok());
    let cases = [
        (with(&[("byteorder", b"big")]), "byte order `big`, expected `little`"),
        (with(&[("constants.pkl", b"")]), "TorchScript archive"),
        (with(&[("code/__torch__.py", b"")]), "TorchScript archive"),
        (with(&[("sub/data.pkl", b"")]), "holds 2 entries"),
        (archive("x", &[("readme", b"")]), "a zip archive that `torch.save` did not write"),
        (archive("x", &[("a.npy", b"")]), "a file of NumPy arrays"),
        (b"PK\x03\x04".to_vec(), "damaged or cut short"),
        (b"\x80\x02}.".to_vec(), "bare pickle"),
        (b"\x1f\x8b\x08".to_vec(), "a file compressed with gzip"),
        (b"\x01\x02\x03".to_vec(), "not a zip archive"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(bytes);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn compressed_entries_are_refused() {
    // Without a compressor at hand: change the method of a stored entry in both of its headers.
    let mut bytes = archive("x", &[("data.pkl", &describe(&[]))]);
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
    bytes[8] = 8;
    bytes[directory + 10] = 8;
    assert!(refusal(bytes).contains("`data.pkl` is compressed or encrypted"));
}

#[test]
fn names_are_joined_and_other_entries_listed() {
    let mut pickle = b"\x80\x02}(".to_vec();
    put_text(&mut pickle, "tuner");
    pickle.extend(b"ccollections\nOrderedDict\n)R(");
    put_text(&mut pickle, "list.0.weight");
    let tensor = Described { name: "", key: "0", elements: 1, offset: 0, shape: &[1], strides: &[1] };
    put_tensor(&mut pickle, &tensor);
    pickle.extend(b"u}b");
    put_text(&mut pickle, "epoch");
    pickle.extend(b"K\x05");
    put_text(&mut pickle, "state");
    pickle.extend(b"}K\x07](");
    put_tensor(&mut pickle, &tensor);
    pickle.extend(b"Nesu.");
    let found = read(archive("x", &[("data.pkl", &pickle), ("data/0", &counting(1))])).expect("a mixed bag");
    assert_eq!(found.tensors.keys().collect::<Vec<_>>(), ["state.7.0", "tuner.list.0.weight"]);
    assert_eq!(found.other, ["epoch", "state.7.1"]);
}

#[test]
fn what_is_no_table_of_tensors_is_refused() {
    let refuse = |pickle: &[u8]| refusal(archive("x", &[("data.pkl", pickle)]));
    assert_eq!(refuse(b"\x80\x02K\x01."), "the whole is not a dictionary of tensors by name");
    assert_eq!(
        refuse(b"\x80\x02}X\x01\0\0\0a}NK\x01ss."),
        "entry `a` is not a dictionary of tensors by name"
    );
    // A dictionary that holds itself, lists of lists of lists, and a name without end.
    assert!(refuse(b"\x80\x02}q\x01X\x01\0\0\0ah\x01s.").contains("more than 16 levels of nesting"));
    let mut bomb = b"\x80\x02}X\x01\0\0\0aK\x01q\x00".to_vec();
    for line in 0..10_u8 {
        bomb.extend(b"](");
        bomb.extend([b'h', line].repeat(10));
        bomb.extend([b'e', b'q', line + 1]);
    }
    // Ten lines were left on the stack; make one list of them.
    let bomb = [&bomb[..9], b"(", &bomb[9..], b"ts."].concat();
    assert!(refuse(&bomb).contains("more than 200000 entries"), "{}", refuse(&bomb));
    let mut long = b"\x80\x02}".to_vec();
    put_text(&mut long, &"n".repeat(600));
    long.extend(b"K\x01s.");
    assert!(refuse(&long).contains("more than 512 bytes in a name"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Damage is an error or leaves what was read unchanged: no panic, no more memory than the file allows.
    #[test]
    fn flipped_bytes_are_survived(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let good = std::fs::read(own_fixture(GOOD).join("checkpoint.pth.tar")).expect("the good checkpoint");
        let mut bytes = good.clone();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(found) = read(bytes) {
            let total: usize = found.tensors.values().map(|tensor| tensor.bytes.len()).sum();
            prop_assert!(total as u64 <= good.len() as u64 * MAX_SHARING);
            // The checksums of the archive guard descriptions and numbers alike.
            prop_assert_eq!(found, read(good).expect("the good checkpoint"));
        }
    }

    #[test]
    fn cut_files_are_refused(end in any::<prop::sample::Index>()) {
        let good = own_fixture(GOOD).join("checkpoint.pth.tar");
        let mut bytes = std::fs::read(good).expect("the good checkpoint");
        bytes.truncate(end.index(bytes.len()));
        prop_assert!(read(bytes).is_err());
    }

    /// The description is damaged and its checksum made good again, as an attacker would.
    #[test]
    fn flipped_descriptions_are_survived(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let view =
            |name, offset, shape, strides| Described { name, key: "0", elements: 24, offset, shape, strides };
        let mut pickle = describe(&[view("a", 0, &[4, 6], &[6, 1]), view("b", 3, &[2, 3], &[1, 6])]);
        let at = at.index(pickle.len());
        pickle[at] = byte;
        let bytes = archive("x", &[("data.pkl", &pickle), ("data/0", &counting(24))]);
        let longest = bytes.len() as u64 * MAX_SHARING;
        if let Ok(found) = read(bytes) {
            let total: usize = found.tensors.values().map(|tensor| tensor.bytes.len()).sum();
            prop_assert!(total as u64 <= longest);
        }
    }

    /// Any strided view equals the plain formula.
    #[test]
    fn views_equal_the_formula(
        sizes in proptest::collection::vec((0_i64..4, 0_i64..6), 0..4), offset in 0_i64..4,
    ) {
        let (shape, strides): (Vec<i64>, Vec<i64>) = sizes.into_iter().unzip();
        let mut expected = vec![offset];
        for (&size, &stride) in shape.iter().zip(&strides) {
            expected = expected.iter().flat_map(|&start| (0..size).map(move |i| start + i * stride)).collect();
        }
        let fits = expected.len() <= 64;
        let (shape, strides) = (shape.as_slice(), strides.as_slice());
        let pickle = describe(&[Described { name: "v", key: "0", elements: 64, offset, shape, strides }]);
        match read(archive("x", &[("data.pkl", &pickle), ("data/0", &counting(64))])) {
            Ok(found) => {
                let found: Vec<i64> = numbers(&found.tensors["v"]).into_iter().map(i64::from).collect();
                prop_assert_eq!(found, expected);
            }
            Err(error) => prop_assert!(!fits, "{}", error),
        }
    }
}

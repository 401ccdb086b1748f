//! Mutated index files of every format: an error or data, no panic, no hang.

use super::tests::{dot, folder, tar_of};
use super::{DataLayout, DataSet, DataSpec};
use crate::data::pack::{PackForm, PackOptions, pack};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time limit for one mutated file; damage must not make a loop.
const LIMIT: Duration = Duration::from_secs(5);

/// A data set with the file to mutate.
struct Victim {
    root: TempDir,
    file: &'static str,
    layout: DataLayout,
}

fn victims() -> Vec<Victim> {
    let image = dot(1, 2, 3);
    let csv = b"file_name,label,more\n\"a.bmp\",cat,\"x, \"\"y\"\"\"\nb.bmp,dog,\n";
    let lines =
        b"{\"file_name\": \"a.bmp\", \"label\": 0}\n{\"file_name\": \"b.bmp\", \"label\": 1, \"x\": [{}]}\n";
    let json = br#"{"images": [{"id": 1, "file_name": "a.bmp"}, {"id": 2, "file_name": "b.bmp"}],
        "annotations": [{"image_id": 1, "category_id": 0}, {"image_id": 2, "category_id": 1}],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}"#;
    let shard =
        tar_of(&[("0.bmp", &image), ("0.cls", b"0"), ("1.bmp", &image), ("1.json", b"{\"label\": 1}")]);
    let images = |file: &'static str, test: &'static str, bytes: &[u8], layout| Victim {
        root: folder(&[(file, bytes), (test, bytes), ("a.bmp", &image), ("b.bmp", &image)]),
        file,
        layout,
    };
    let mut victims = vec![
        images("train.csv", "test.csv", csv, DataLayout::Table),
        images("train.jsonl", "test.jsonl", lines, DataLayout::Table),
        images("train.json", "test.json", json, DataLayout::Annotations),
        images("train-0.tar", "test-0.tar", &shard, DataLayout::Shards),
    ];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet");
    for name in ["hugging_face", "plain_pages", "dictionary"] {
        let bytes = fs::read(fixtures.join(format!("{name}.parquet"))).expect("the fixture");
        victims.push(images("train-0.parquet", "test-0.parquet", &bytes, DataLayout::Parquet));
    }
    victims.extend(["pack.json", "train-000000.json", "train-000000.tar"].map(packed));
    victims
}

fn packed(file: &'static str) -> Victim {
    let source = folder(&[
        ("train/a/1.bmp", &dot(1, 1, 1)),
        ("train/b/2.bmp", &dot(2, 2, 2)),
        ("test/a/3.bmp", &dot(3, 3, 3)),
    ]);
    let set =
        DataSet::open(&DataSpec { root: source.path().into(), ..DataSpec::default() }).expect("a data set");
    let root = TempDir::new().expect("a folder");
    let options = PackOptions { form: PackForm::Copied, images_per_shard: 8, threads: 1, max_bad_images: 0 };
    pack(&set, root.path(), options, &|_| ()).expect("a packed set");
    Victim { root, file, layout: DataLayout::Packed }
}

/// One of several kinds of damage at random places.
fn mutated(bytes: &[u8], draws: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=draws.next_u32() % 4 {
        let at = |draws: &mut ChaCha8Rng, len: usize| draws.next_u32() as usize % len.max(1);
        let (start, len) = (at(draws, bytes.len()), bytes.len());
        match draws.next_u32() % 6 {
            _ if len == 0 => {}
            0 => bytes[start] ^= 1 << (draws.next_u32() % 8),
            1 => bytes[start] = draws.next_u32() as u8,
            2 => bytes.truncate(start),
            3 => {
                let end = (start + 1 + at(draws, 16)).min(len);
                bytes.drain(start..end);
            }
            4 => {
                let end = (start + at(draws, 64)).min(len);
                let copy = bytes[start..end].to_vec();
                bytes.splice(start..start, copy);
            }
            _ => {
                let extreme: &[u8] =
                    [&[0xff; 8][..], &[0; 8], b"99999999999999999999", b"\"", b"{[", b"\xff\xfe"]
                        [at(draws, 6)];
                bytes.splice(start..start, extreme.iter().copied());
            }
        }
    }
    bytes
}

/// Mutates the file of every victim `count` times; returns how many were still opened.
fn run(count: u64) -> usize {
    let mut opened = 0;
    for (kind, victim) in victims().iter().enumerate() {
        let path: PathBuf = victim.root.path().join(victim.file);
        let whole = fs::read(&path).expect("the file");
        let spec = DataSpec { root: victim.root.path().into(), layout: victim.layout, ..DataSpec::default() };
        DataSet::open(&spec).expect("the whole file").train.read(0).expect("an image");
        for seed in 0..count {
            let mut draws = ChaCha8Rng::seed_from_u64(seed << 8 | kind as u64);
            let bytes = mutated(&whole, &mut draws);
            fs::write(&path, &bytes).expect("the mutated file");
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let set = DataSet::open(&spec).ok()?;
                (0..set.train.len().min(4)).for_each(|index| drop(set.train.read(index)));
                Some(())
            }));
            match outcome {
                Ok(data) => opened += usize::from(data.is_some()),
                Err(panic) => panic!("a panic: {} with seed {seed}: {panic:?}", victim.file),
            }
            assert!(start.elapsed() < LIMIT, "{:?}: {} with seed {seed}", start.elapsed(), victim.file);
        }
        fs::write(&path, whole).expect("the file");
    }
    opened
}

#[test]
fn mutated_files_are_an_error_or_data() {
    let opened = run(300);
    assert!(opened > 100, "{opened} of 3000 were opened: the damage is too great to find anything");
}

#[test]
#[ignore = "long; 10,000 mutated files of each format"]
fn ten_thousand_mutated_files_of_each_format() {
    run(10_000);
}

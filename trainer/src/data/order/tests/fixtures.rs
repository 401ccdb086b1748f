//! The facts that hold for every seed of the official samplers (`utils/samplers.py` of LIFT and LIFT+), as
//! the golden fixtures in `samplers/` list them: length, class counts over 20 epochs, draws of one image.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use super::super::{Order, Sampler};
use super::{class_counts, epoch, labels_of};

/// One sampler fixture.
struct Fixture {
    name: String,
    manifest: Value,
    tensors: Vec<u8>,
}

impl Fixture {
    fn read(folder: &Path) -> Self {
        let manifest = std::fs::read(folder.join("manifest.json")).expect("manifest.json");
        Self {
            name: folder.file_name().expect("a case folder").to_string_lossy().into_owned(),
            manifest: serde_json::from_slice(&manifest).expect("valid JSON"),
            tensors: std::fs::read(folder.join("tensors.safetensors")).expect("tensors.safetensors"),
        }
    }

    fn numbers(&self, tensor: &str) -> Vec<u64> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("valid safetensors");
        let view = tensors.tensor(tensor).expect("the tensor exists");
        let (numbers, _) = view.data().as_chunks::<8>();
        numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
    }

    fn option(&self, name: &str) -> Option<u32> {
        self.manifest["config"][name].as_u64().map(|n| n as u32)
    }

    fn fact(&self, name: &str) -> Option<bool> {
        self.manifest["facts"][name].as_bool()
    }

    /// The sampler of ours that has the fixture's rule.
    fn sampler(&self) -> Option<Sampler> {
        let function = self.manifest["source"]["functions"][0].as_str().unwrap_or_default();
        match function.rsplit(':').next().unwrap_or_default() {
            "ClassAwareSampler" => self
                .option("num_samples_cls")
                .map(|samples_per_class| Sampler::ClassAware { samples_per_class }),
            "DownSampler" => self.option("n_max").map(|shots| Sampler::NShot { shots }),
            _ => None,
        }
    }
}

/// The folder of sampler fixtures, or none with a note on stderr.
fn folder(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LIFT_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"), PathBuf::from);
    let folder = root.join("samplers");
    if !folder.is_dir() {
        eprintln!("skipped: {test} (LIFT_FIXTURES not found)");
        return None;
    }
    Some(folder)
}

#[test]
fn golden_samplers_facts_hold() {
    let Some(folder) = folder("the_official_samplers_facts_hold") else { return };
    let mut checked = 0;
    for case in std::fs::read_dir(folder).expect("the folder can be listed") {
        let fixture = Fixture::read(&case.expect("a case").path());
        let Some(sampler) = fixture.sampler() else { continue };
        for seed in 0..50 {
            check(&fixture, sampler, seed);
        }
        checked += 1;
    }
    eprintln!("{checked} sampler fixtures hold");
    assert!(checked > 0, "the folder holds no fixture of ClassAwareSampler or DownSampler");
}

fn check(fixture: &Fixture, sampler: Sampler, seed: u64) {
    let name = &fixture.name;
    let counts: Vec<u32> = fixture.numbers("cls_num_list").into_iter().map(|count| count as u32).collect();
    let labels = labels_of(&counts);
    let order = Order::new(sampler, &labels, counts.len(), seed).expect("valid");
    let (least, most) = (fixture.numbers("min_class_count"), fixture.numbers("max_class_count"));
    let draws_allowed = fixture.manifest["facts"]["max_draws_of_one_image"].as_u64();
    let (mut seen_least, mut seen_most) = (vec![u64::MAX; counts.len()], vec![0; counts.len()]);
    for e in 0..20 {
        assert_eq!(order.len(e), fixture.numbers("length")[0], "{name}: length");
        let samples = epoch(&order, e);
        for (class, count) in class_counts(&samples, &labels, counts.len()).into_iter().enumerate() {
            seen_least[class] = seen_least[class].min(count);
            seen_most[class] = seen_most[class].max(count);
        }
        let mut draws = vec![0; labels.len()];
        for &sample in &samples {
            draws[sample as usize] += 1;
        }
        let most_drawn = draws.into_iter().max().unwrap_or(0);
        assert!(
            draws_allowed.is_none_or(|allowed| most_drawn <= allowed),
            "{name}: an image {most_drawn} times"
        );
        assert!(fixture.fact("without_replacement") != Some(true) || most_drawn == 1, "{name}: replacement");
    }
    if fixture.fact("same_class_counts_every_epoch") == Some(true) {
        assert_eq!((&seen_least, &seen_most), (&least, &most), "{name}: class counts");
    }
    let within = seen_least.iter().zip(&least).all(|(ours, official)| ours >= official)
        && seen_most.iter().zip(&most).all(|(ours, official)| ours <= official);
    assert!(within, "{name}, seed {seed}: {seen_least:?} {seen_most:?}");
}

/// With 7 visits of 4 classes an epoch, 4 and 12 draws of a class occur only if class cycles go on over
/// epochs.
#[test]
fn class_cycles_go_on_over_epochs() {
    let labels = labels_of(&[5, 3, 1, 7]);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let order =
            Order::new(Sampler::ClassAware { samples_per_class: 4 }, &labels, 4, seed).expect("valid");
        (0..20).for_each(|e| seen.extend(class_counts(&epoch(&order, e), &labels, 4)));
    }
    assert!(seen.into_iter().eq([4, 8, 12]));
}

//! Compares image towers of other families with their original libraries. `tests/fixtures/towers/make.py` records the
//! references.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::model::backbone_config::{BackboneConfig, Pool, SidecarConfig, Stated, StatedValue};
use trainer::model::heads::{Classes, cosine};
use trainer::model::loading::{Backbone, LoadOptions, block_names, load, resized_positions, tower_shape};
use trainer::model::precision::Precision;
use trainer::model::slices::BlockPart;
use trainer::model::tower::Field;
use trainer::model::trainables::Init;
use trainer::model::tuners::{TunerContext, TunerSet, Tuners, masked};
use trainer::model::{Model, ModelSpec};
use trainer::options::{Registry, Several, Values};
use trainer::weights::file_map::file_at;
use trainer::weights::{NamedTensors, TensorLayout, normalise};

/// A tower of the fixtures.
struct Fixture {
    name: String,
    tensors: NamedTensors,
    layout: TensorLayout,
    config: BackboneConfig,
    pixels: Tensor,
    features: Tensor,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/towers")
}

impl Fixture {
    fn open(name: &str) -> Self {
        let path = folder().join(name);
        let expected = NamedTensors::open(&path.join("expected.safetensors")).unwrap();
        let [pixels, features] = ["pixels", "features"].map(|name| expected.get(name).unwrap().copy());
        let file = ["model.safetensors", "open_clip_model.safetensors"].map(|file| path.join(file));
        let file = file.iter().find(|file| file.exists()).unwrap();
        let (tensors, layout) = normalise(NamedTensors::open(file).unwrap()).unwrap();
        let sidecar = SidecarConfig::read(|name| tensors.beside(name)).unwrap();
        let resolution =
            StatedValue { value: Some(pixels.size()[3] as u32), of_user: true, origin: "test".into() };
        let stated = Stated { resolution, resize_positions: true, ..Stated::default() };
        let (config, _) = BackboneConfig::settle(&tensors, layout, sidecar.as_ref(), &stated).unwrap();
        Self { name: name.to_owned(), tensors, layout, config, pixels, features }
    }

    fn all() -> Vec<Self> {
        let folders = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
        let folders = folders.filter(|entry| entry.path().is_dir());
        let mut names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 12);
        names.iter().map(|name| Self::open(name)).collect()
    }

    fn site(&self) -> TunerContext {
        let shape = tower_shape(&self.tensors, self.layout, self.config.resolution).unwrap();
        TunerContext { shape, names: block_names(self.layout), classes: 3, blocks: 0..shape.layers }
    }

    fn load(&self, precision: Precision, part: Option<BlockPart>, tuners: &TunerSet) -> Backbone {
        let options = LoadOptions { precision, device: Device::Cpu, config: self.config.clone(), part };
        load(&self.tensors, self.layout, &options, tuners).unwrap()
    }

    /// A model with these tuners. If its blocks are sharded, copies all shards into place, which is possible on one
    /// rank.
    fn model(&self, part: Option<BlockPart>, tuners: TunerSet) -> Model {
        let backbone = self.load(Precision::FP64, part, &tuners);
        let spec = ModelSpec {
            tuners,
            head: (cosine::METHOD.make)(&Values::default(), None).unwrap(),
            classes: Classes::all(3),
            seed: 0,
            pixels: ([0.5; 3], [0.5; 3]),
            precision: Precision::FP64,
            device: Device::Cpu,
        };
        let model = Model::build(backbone, spec).unwrap();
        if let Some(slices) = model.slices() {
            for block in 0..model.tower().shape().layers {
                if let Some(part) = slices.part(block) {
                    no_grad(|| slices.place(block).copy_(part));
                }
            }
        }
        model
    }
}

/// Maximum difference, relative to the largest expected value.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    ((found - &expected).abs().max() / expected.abs().max()).double_value(&[])
}

#[test]
fn features_equal_those_of_the_original_libraries() {
    let fixtures = Fixture::all();
    for (precision, tolerance) in [(Precision::FP64, 1e-9), (Precision::FP32, 1e-6)] {
        for fixture in &fixtures {
            let tower = fixture.load(precision, None, &TunerSet::default()).vision;
            let features = no_grad(|| tower.features(&fixture.pixels.to_kind(precision.parameters)));
            let error = error(&features, &fixture.features);
            println!("{:32} {:?} {error:.1e}", fixture.name, precision.parameters);
            assert!(error < tolerance, "{}: {error:e} in {:?}", fixture.name, precision.parameters);
        }
    }
}

/// Initial values must be copied from the memory-mapped file, because the mapping ends with the tensors of the file.
#[test]
fn initial_values_do_not_reference_the_file() {
    let in_file = |tensor: &Tensor| file_at(tensor.data_ptr().addr()).is_some();
    for fixture in Fixture::all() {
        let mapped =
            fixture.tensors.names().filter(|name| in_file(fixture.tensors.get(name).unwrap())).count();
        assert!(mapped > 0, "{}: no tensor is in the file", fixture.name);
        for method in Tuners::METHODS {
            let tuners = TunerSet::of(&Several::of(method), &Values::default(), &fixture.site()).unwrap();
            for precision in [Precision::FP32, Precision::FP64] {
                for spec in fixture.load(precision, None, &tuners).parameters {
                    let Init::Value(value) = spec.init else { continue };
                    assert!(!in_file(&value), "{}: {}", fixture.name, spec.name);
                }
            }
        }
    }
}

#[test]
fn pooling_registers_and_widths_are_inferred_from_the_tensors() {
    let of = |name: &str| {
        let fixture = Fixture::open(name);
        let shape = fixture.site().shape;
        (fixture.config.pool, shape.registers, shape.prefix(), shape.hidden)
    };
    assert_eq!(of("timm_dinov2_reg4"), (Pool::Token, 4, 5, 64));
    assert_eq!(of("hf_dinov2_with_registers"), (Pool::Token, 4, 5, 48));
    assert_eq!(of("hf_dinov2"), (Pool::Token, 0, 1, 64));
    assert_eq!(of("hf_siglip_vision"), (Pool::Attention, 0, 0, 37));
    assert_eq!(of("open_clip_siglip"), (Pool::Attention, 0, 0, 16));
}

#[test]
fn ignored_tensors_and_resized_positions_are_reported() {
    let notes = |name: &str| Fixture::open(name).tensors.notes().join("\n");
    assert!(notes("hf_dinov2").contains("mask_token"));
    for name in ["hf_siglip", "open_clip_siglip"] {
        assert!(notes(name).contains("text tower of this SigLIP is ignored"), "{}", notes(name));
    }
    let of = |name: &str| {
        let fixture = Fixture::open(name);
        resized_positions(&fixture.tensors, fixture.layout, &fixture.site().shape)
    };
    assert_eq!(of("timm_dinov2_reg4_resized"), Some((6, 4)));
    assert_eq!(of("timm_dinov2_resized"), Some((3, 4)));
    assert_eq!(of("hf_dinov2_with_registers"), None);
}

#[test]
fn positions_for_another_resolution_are_an_error_without_resizing() {
    let mut fixture = Fixture::open("timm_dinov2_resized");
    fixture.config.resize_positions = false;
    let options = LoadOptions {
        precision: Precision::FP32,
        device: Device::Cpu,
        config: fixture.config.clone(),
        part: None,
    };
    let error_text =
        load(&fixture.tensors, fixture.layout, &options, &TunerSet::default()).unwrap_err().to_string();
    assert!(error_text.contains("pos_embed") && error_text.contains("model.positions"), "{error_text}");
}

#[test]
fn pooling_that_contradicts_the_tensors_is_an_error() {
    let settle = |name: &str, pool| {
        let Fixture { tensors, layout, .. } = Fixture::open(name);
        let by = |value| StatedValue { value: Some(value), of_user: true, origin: "--set".to_owned() };
        let activation = StatedValue {
            value: Some(trainer::model::layers::Activation::Gelu),
            of_user: true,
            origin: "--set".to_owned(),
        };
        let heads = StatedValue { value: Some(2), of_user: true, origin: "--set".to_owned() };
        let stated = Stated { pool: by(pool), activation, heads, ..Stated::default() };
        BackboneConfig::settle(&tensors, layout, None, &stated).map_err(|error| error.to_string())
    };
    for pool in [Pool::Token, Pool::Average] {
        let error_text = settle("timm_siglip", pool).unwrap_err();
        assert!(
            error_text.contains("pools by attention") && error_text.contains(&pool.to_string()),
            "{error_text}"
        );
    }
    assert!(settle("timm_dinov2", Pool::Attention).unwrap_err().contains("has no attention pooling"));
    assert_eq!(settle("timm_siglip", Pool::Attention).unwrap().0.pool, Pool::Attention);
}

/// Logits, gradients and frozen fingerprint are bitwise equal with replicated and with sharded blocks.
#[test]
fn every_tuner_works_on_every_tower_with_replicated_and_sharded_blocks() {
    let bytes = Tensor::arange(2 * 3 * 16 * 16, (Kind::Int64, Device::Cpu)).remainder(251);
    let bytes = bytes.view([2, 3, 16, 16]).to_kind(Kind::Uint8);
    let mut options = Values::default();
    options.put_all(&masked::MaskedOptions { mask_ratio: 0.2, mask_seed: 1 });
    for name in ["timm_dinov2_reg4", "hf_dinov2", "timm_siglip_so400m", "hf_siglip"] {
        let fixture = Fixture::open(name);
        let site = TunerContext { blocks: 1..2, ..fixture.site() };
        for method in Tuners::METHODS {
            let tuners = || {
                let mut tuners = TunerSet::default();
                tuners.push((method.make)(&options, &site), site.blocks.clone());
                tuners
            };
            let replicated = fixture.model(None, tuners());
            let part = BlockPart { index: 0, count: 1 };
            let sharded = fixture.model(Some(part), tuners());
            let logits = [&replicated, &sharded].map(|model| {
                let logits = model.logits(&bytes);
                logits.log_softmax(-1, Kind::Double).select(1, 0).sum(Kind::Double).backward();
                logits
            });
            assert_eq!(logits[0], logits[1], "{name}: {}", method.word);
            assert_eq!(
                replicated.trainables().gradient(),
                sharded.trainables().gradient(),
                "{name}: {}",
                method.word
            );
            let greatest = replicated.trainables().gradient().abs().max().double_value(&[]);
            assert!(greatest > 1e-6, "{name}: {} has no gradient", method.word);
            let fingerprint = |model: &Model| model.frozen_fingerprint(|_| Ok::<(), ()>(())).unwrap();
            assert_eq!(fingerprint(&replicated), fingerprint(&sharded), "{name}: {}", method.word);
        }
    }
}

#[test]
fn full_fine_tuning_trains_layer_scales() {
    let fixture = Fixture::open("timm_dinov2");
    let site = fixture.site();
    let full = Tuners::METHODS.iter().find(|method| method.word == "full").unwrap();
    let mut tuners = TunerSet::default();
    tuners.push((full.make)(&Values::default(), &site), site.blocks.clone());
    let model = fixture.model(None, tuners);
    let scales = |block| {
        let tensors = model.tower().block_tensors(block).into_iter();
        tensors.filter(|(field, _)| matches!(field, Field::Scale1 | Field::Scale2)).collect::<Vec<_>>()
    };
    for block in 0..2 {
        assert_eq!(scales(block).len(), 2);
        assert!(scales(block).iter().all(|(_, scale)| scale.requires_grad()));
        assert!(model.trainables().get(&format!("tuner.block_tuned.{block}.ls1.gamma")).is_ok());
    }
}

/// Tokens after the image tokens, such as prompts, are ignored after the last block.
#[test]
fn prompts_are_not_pooled() {
    for name in ["timm_dinov2_reg4", "timm_siglip"] {
        let fixture = Fixture::open(name);
        let tower = fixture.load(Precision::FP64, None, &TunerSet::default()).vision;
        let pixels = fixture.pixels.to_kind(Kind::Double);
        let start = tower.stem(&pixels);
        let all = tower.block(1, &tower.block(0, &start, &[], None), &[], None);
        let prompts = Tensor::ones([all.size()[0], 7, all.size()[2]], (Kind::Double, Device::Cpu));
        let with_prompts = Tensor::cat(&[&all, &prompts], 1);
        assert_eq!(tower.finish(&with_prompts), tower.finish(&all), "{name}");
    }
}

/// The checksums and the fingerprint include all frozen tensors, also those outside the blocks.
#[test]
fn every_frozen_tensor_is_in_the_fingerprint() {
    for fixture in Fixture::all() {
        let model = fixture.model(None, TunerSet::default());
        let shape = model.tower().shape();
        let frozen = model.frozen_held();
        let numbers: usize = frozen.iter().map(|(_, tensor)| tensor.numel()).sum();
        let read: usize =
            fixture.tensors.names().map(|name| fixture.tensors.get(name).unwrap().numel()).sum();
        let rows = |name: &str| fixture.tensors.get(name).unwrap().size()[1];
        let positions = (shape.tokens - rows("pos_embed")) * shape.width;
        assert_eq!(numbers as i64, read as i64 + positions, "{}", fixture.name);
    }
}

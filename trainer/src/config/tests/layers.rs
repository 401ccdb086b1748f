//! Which layer wins, and what a flag's text becomes.

#![allow(clippy::float_cmp, reason = "values of a file are exact")]

use super::{HERE, cifar, demo, resolved, select};
use crate::config::*;
use std::path::Path;

#[test]
fn lift_has_the_published_hyper_parameters() {
    let Resolved { config, names, presets, .. } = resolved(&cifar("lift", &[]));
    let Config { data, train, model, tuner, head, loss, .. } = config;
    assert_eq!((train.epochs, train.batch_size, train.micro_batch_size, train.seed), (10, 128, 128, 0));
    assert_eq!((train.learning_rate, train.momentum, train.weight_decay), (0.01, 0.9, 5e-4));
    assert_eq!((train.schedule, train.precision), (Schedule::CosinePerEpoch, Precision::Fp32));
    assert_eq!(
        (data.sampler, data.imbalance, data.layout),
        (Sampler::Instance, Imbalance::Ratio(100.0), Layout::Auto)
    );
    assert_eq!((model.kind, model.resolution, model.filter), (ModelKind::Clip, 224, Filter::Bilinear));
    assert_eq!(model.mean, [0.481_454_66, 0.457_827_5, 0.408_210_73]);
    assert_eq!(model.std, [0.268_629_54, 0.261_302_58, 0.275_777_11]);
    assert_eq!((tuner.kind, tuner.adapter_dim, tuner.partial), (TunerKind::Adaptformer, 0, Partial::All));
    assert_eq!((head.kind, head.scale, head.shots), (HeadKind::Cosine, 25.0, 10));
    assert_eq!(head.init, WordOrFile::Word(HeadInit::Auto));
    assert_eq!(head.prompts, WordOrFile::Word(Prompts::Default));
    assert_eq!(head.prompt, "a photo of a {}.");
    assert_eq!((loss.kind, loss.tau, loss.prior), (LossKind::LogitAdjusted, 1.0, Prior::Sampler));
    let expected =
        Names { data: "cifar100_ir100".into(), model: "clip_vit_b16".into(), method: "lift".into() };
    assert_eq!((names, presets), (expected, PresetSource::Embedded));
}

#[test]
fn every_preset_resolves_with_every_other() {
    let presets = Presets::embedded();
    let names = |kind| presets.names(kind).unwrap();
    let mut resolved_ones = 0;
    for data in names(PresetKind::Data) {
        for model in names(PresetKind::Model) {
            for method in names(PresetKind::Method) {
                let mut set = Vec::new();
                if data != "demo" {
                    set.push("data.root=/d");
                }
                if model != "demo" {
                    set.push("model.weights=/w");
                }
                let selection = select(&data, &model, &method, &set);
                if model == "in21k_vit_b16" && method == "zero_shot" {
                    assert!(super::refusal(&selection).contains("no text tower"));
                } else {
                    resolved(&selection);
                    resolved_ones += 1;
                }
            }
        }
    }
    assert_eq!(resolved_ones, 7 * 7 * 4 - 7);
}

#[test]
fn presets_hold_their_recipes() {
    let inat = resolved(&select("inat2018", "clip_vit_b16", "lift", &["data.root=/d", "model.weights=/w"]));
    assert_eq!(inat.config.train.epochs, 20);
    assert_eq!(inat.origins["train.epochs"].to_string(), "configs/data/inat2018.toml");
    assert_eq!(inat.config.data.train_list.as_deref(), Some(Path::new("/d/iNaturalist18_train.txt")));
    assert_eq!(inat.config.data.test_list.as_deref(), Some(Path::new("/d/iNaturalist18_val.txt")));
    assert_eq!(inat.config.data.images, None);

    let zero =
        resolved(&select("inat2018", "clip_vit_b16", "zero_shot", &["data.root=/d", "model.weights=/w"]));
    assert_eq!((zero.config.train.epochs, zero.config.tuner.kind), (0, TunerKind::None));
    assert_eq!(zero.config.head.kind, HeadKind::ZeroShot);

    let large = resolved(&select("demo", "clip_vit_l14@336px", "full", &["model.weights=/w"]));
    assert_eq!((large.config.model.resolution, large.config.tuner.kind), (336, TunerKind::Full));
    assert_eq!(large.config.train.learning_rate, 0.01);

    let vit = resolved(&select("demo", "in21k_vit_b16", "classifier", &["model.weights=/w"]));
    assert_eq!((vit.config.model.mean, vit.config.model.std), ([0.5; 3], [0.5; 3]));
    let start = vit.config.head.resolved_init(vit.config.model.kind.has_text_tower());
    assert_eq!(start, WordOrFile::Word(HeadInit::ClassMean));

    let tiny = resolved(&select("cifar100_ir50", "tiny_clip", "lift", &["data.root=/d", "model.weights=/w"]));
    assert_eq!((tiny.config.model.resolution, tiny.config.data.imbalance), (32, Imbalance::Ratio(50.0)));
}

#[test]
fn the_last_flag_wins() {
    let both = resolved(&demo("lift", &["train.epochs=3", "train.epochs=5"]));
    assert_eq!(both.config.train.epochs, 5);
    assert_eq!(both.origins["train.epochs"], Origin::Set("train.epochs=5".to_owned()));
    assert_eq!(both.origins["train.seed"], Origin::Base);
}

#[test]
fn flags_are_literals_or_texts() {
    let set = [
        "train.learning_rate=1",
        "train.weight_decay = 1e-3",
        "train.precision=bf16",
        "train.device=\"cpu\"",
        "tuner.partial=[0, 6]",
        "model.std=[1, 0.5, 2]",
        "head.prompt=a = {} = b",
        "train.max_steps=1_000",
    ];
    let Config { train, tuner, model, head, .. } = resolved(&demo("lift", &set)).config;
    assert_eq!((train.learning_rate, train.weight_decay, train.max_steps), (1.0, 1e-3, 1000));
    assert_eq!((train.precision, train.device), (Precision::Bf16, DeviceWish::Cpu));
    assert_eq!((tuner.partial, model.std), (Partial::Range(0, 6), [1.0, 0.5, 2.0]));
    assert_eq!(head.prompt, "a = {} = b");
}

#[test]
fn a_literal_that_the_key_does_not_take_is_a_text_where_that_is_taken() {
    let set = ["data.root=2024", "data.imbalance=none", "data.layout=cifar100"];
    let data = resolved(&cifar("lift", &set)).config.data;
    assert_eq!(data.root.as_deref(), Some(Path::new("/home/me/2024")));
    assert_eq!((data.imbalance, data.layout), (Imbalance::None, Layout::Cifar100));
}

#[test]
fn paths_of_flags_start_at_the_working_directory() {
    let set = ["data.root=./in", "model.weights=w.pt", "data.train_list=mine/train.txt"];
    let Config { data, model, .. } = resolved(&select("places_lt", "clip_vit_b16", "lift", &set)).config;
    assert_eq!(data.root.as_deref(), Some(Path::new("/home/me/in")));
    assert_eq!(model.weights.as_deref(), Some(Path::new("/home/me/w.pt")));
    assert_eq!(data.train_list.as_deref(), Some(Path::new("/home/me/mine/train.txt")));
    assert_eq!(data.test_list.as_deref(), Some(Path::new("/home/me/in/Places_LT_test.txt")));
    assert_eq!(data.class_names.as_deref(), Some(Path::new("/home/me/in/classnames.txt")));
    assert!(Path::new(HERE).is_absolute());
}

#[test]
fn an_empty_text_takes_a_path_back() {
    let set = ["data.root=/d", "model.weights=/w", "data.class_names=", "head.init=class_mean"];
    let data = resolved(&select("places_lt", "clip_vit_b16", "lift", &set)).config.data;
    assert_eq!(data.class_names, None);
}

#[test]
fn a_micro_batch_of_the_defaults_may_exceed_the_batch() {
    let train = resolved(&demo("lift", &["train.batch_size=32"])).config.train;
    assert_eq!((train.batch_size, train.micro_batch_size), (32, 128));
}

#[test]
fn zero_epochs_test_the_start_of_the_run_that_the_rest_describes() {
    let set = ["train.epochs=0", "train.batch_size=64", "train.learning_rate=0.1", "eval.every_epochs=1"];
    assert_eq!(resolved(&demo("lift", &set)).config.train.epochs, 0);
}

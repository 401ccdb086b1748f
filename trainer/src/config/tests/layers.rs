//! Which layer wins, and what a flag's text becomes.

#![allow(clippy::float_cmp, reason = "values of a file are exact")]

use super::{HERE, cifar, demo, resolved, select};
use crate::config::*;
use crate::engine::setup::head_init::{auto, class_mean};
use crate::model::heads::{
    cosine,
    prompt::{Prompt, Prompts},
    zero_shot,
};
use crate::model::losses::{Prior, frequencies, logit_adjusted};
use crate::model::tuners::{adaptformer, bottleneck, full};
use crate::options::{Chosen, OrFile, Several};
use std::path::Path;

#[test]
fn lift_has_the_published_hyper_parameters() {
    let Resolved { config, names, presets, .. } = resolved(&cifar("lift", &[]));
    let bottleneck: bottleneck::BottleneckOptions = config.options();
    let Prompt { prompt, prompts } = config.options();
    let cosine::CosineOptions { scale } = config.options();
    let logit_adjusted::LogitAdjustedOptions { tau } = config.options();
    let frequencies::FrequencyOptions { prior } = config.options();
    let Config { data, train, model, tuner, head, loss, .. } = config;
    assert_eq!((train.epochs, train.batch_size, train.images_at_once(), train.seed), (10, 128, 128, 0));
    assert_eq!((train.learning_rate, train.momentum, train.weight_decay), (0.01, 0.9, 5e-4));
    assert_eq!((train.schedule, train.precision), (ScheduleName::CosinePerEpoch, PrecisionName::Fp32));
    assert_eq!(
        (data.sampler, data.imbalance, data.layout),
        (SamplerName::Instance, Imbalance::Ratio(100.0), LayoutName::Auto)
    );
    assert_eq!((model.kind, model.resolution, model.filter), (ModelKind::Clip, 224, FilterName::Bilinear));
    assert_eq!(model.mean, [0.481_454_66, 0.457_827_5, 0.408_210_73]);
    assert_eq!(model.std, [0.268_629_54, 0.261_302_58, 0.275_777_11]);
    assert_eq!((tuner.kinds, tuner.partial), (Several::of(&adaptformer::METHOD), Partial::All));
    assert_eq!((bottleneck.adapter_dim, scale, tau, prior), (0, 25.0, 1.0, Prior::Sampler));
    assert!(head.kind.is(&cosine::METHOD) && head.init == OrFile::Word(Chosen::of(&auto::METHOD)));
    assert_eq!(prompts, OrFile::Word(Prompts::Default));
    assert_eq!(prompt, "a photo of a {}.");
    assert!(loss.kind.is(&logit_adjusted::METHOD));
    let expected =
        SelectedNames { data: "cifar100_ir100".into(), model: "clip_vit_b16".into(), method: "lift".into() };
    assert_eq!((names, presets), (expected, PresetSource::Embedded));
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
    assert!(zero.config.train.epochs == 0 && zero.config.tuner.kinds.is_none());
    assert!(zero.config.head.kind.is(&zero_shot::METHOD));

    let large = resolved(&select("demo", "clip_vit_l14@336px", "full", &["model.weights=/w"]));
    assert_eq!(large.config.model.resolution, 336);
    assert!(large.config.tuner.kinds.contains(&full::METHOD));
    assert_eq!(large.config.train.learning_rate, 0.01);

    let vit = resolved(&select("demo", "in21k_vit_b16", "classifier", &["model.weights=/w"]));
    assert_eq!((vit.config.model.mean, vit.config.model.std), ([0.5; 3], [0.5; 3]));
    let OrFile::Word(init) = vit.config.head.init else { panic!("a word") };
    assert!(init.resolve(vit.config.model.kind.has_text_tower()).is(&class_mean::METHOD));

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
    let config = resolved(&demo("lift", &set)).config;
    let Prompt { prompt, .. } = config.options();
    let Config { train, tuner, model, .. } = config;
    assert_eq!((train.learning_rate, train.weight_decay, train.max_steps), (1.0, 1e-3, 1000));
    assert_eq!((train.precision, train.device), (PrecisionName::Bf16, DeviceName::Cpu));
    assert_eq!((tuner.partial, model.std), (Partial::Range(0, 6), [1.0, 0.5, 2.0]));
    assert_eq!(prompt, "a = {} = b");
}

#[test]
fn a_literal_that_the_key_does_not_take_is_a_text_where_that_is_taken() {
    let set = ["data.root=2024", "data.imbalance=none", "data.layout=cifar100"];
    let data = resolved(&cifar("lift", &set)).config.data;
    assert_eq!(data.root.as_deref(), Some(Path::new("/home/me/2024")));
    assert_eq!((data.imbalance, data.layout), (Imbalance::None, LayoutName::Cifar100));
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
    assert_eq!((train.batch_size, train.images_at_once()), (32, 128));
}

#[test]
fn zero_epochs_test_the_start_of_the_run_that_the_rest_describes() {
    let set = ["train.epochs=0", "train.batch_size=64", "train.learning_rate=0.1", "eval.every_epochs=1"];
    assert_eq!(resolved(&demo("lift", &set)).config.train.epochs, 0);
}

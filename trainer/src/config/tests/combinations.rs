//! The exact text of every refusal of a combination, and what is let through.

use super::{cifar, demo, refusal, resolved, select};
use crate::model::losses::Losses;
use crate::options::Registry;

/// A flag, the setting that makes it idle with where that comes from.
fn idle(set: &str, setting: &str, from: &str) -> String {
    let key = set.split_once('=').unwrap().0;
    let cause = setting.split_once(' ').unwrap().0;
    format!(
        "`{key}` (from --set {set}) has no effect with `{setting}` (from {from})\nhint: leave it out or change \
         `{cause}`"
    )
}

#[test]
fn data_that_would_change_nothing() {
    for set in [
        "data.root=/d",
        "data.train_list=a",
        "data.test_list=a",
        "data.class_names=a",
        "data.images=a",
        "data.imbalance=50",
        "data.max_bad_images=3",
    ] {
        let expected = idle(set, "data.layout = \"demo\"", "configs/data/demo.toml");
        assert_eq!(refusal(&demo("lift", &[set])), expected);
    }
    let auto = "configs/data/cifar100_ir100.toml";
    for set in ["data.demo_seed=1", "data.train_list=a", "data.class_names=a", "data.images=a"] {
        assert_eq!(refusal(&cifar("lift", &[set])), idle(set, "data.layout = \"auto\"", auto));
    }
    let places = ["data.root=/d", "model.weights=/w", "data.imbalance=50"];
    assert_eq!(
        refusal(&select("places_lt", "clip_vit_b16", "lift", &places)),
        idle("data.imbalance=50", "data.layout = \"lists\"", "configs/data/places_lt.toml")
    );
}

#[test]
fn sampler_settings_that_would_change_nothing() {
    for set in ["data.samples_per_class=2", "data.repeat_threshold=0.1", "data.shots=4"] {
        let base = idle(set, "data.sampler = \"instance\"", "configs/base.toml");
        assert_eq!(refusal(&demo("lift", &[set])), base);
        let other = idle(set, "data.sampler = \"square_root\"", "--set data.sampler=square_root");
        assert_eq!(refusal(&demo("lift", &["data.sampler=square_root", set])), other);
    }
    resolved(&demo("lift", &["data.sampler=class_aware", "data.samples_per_class=2"]));
    resolved(&demo("lift", &["data.sampler=repeat_factor", "data.repeat_threshold=0.1"]));
    resolved(&demo("lift", &["data.sampler=n_shot", "data.shots=4"]));
}

#[test]
fn model_and_tuner_settings_that_would_change_nothing() {
    assert_eq!(
        refusal(&demo("lift", &["model.weights=w"])),
        idle("model.weights=w", "model.kind = \"demo\"", "configs/model/demo.toml")
    );
    for set in ["tuner.adapter_dim=8", "tuner.partial=2"] {
        let none = idle(set, "tuner.kinds = \"none\"", "configs/method/classifier.toml");
        assert_eq!(refusal(&demo("classifier", &[set])), none);
    }
    assert_eq!(
        refusal(&demo("full", &["tuner.adapter_dim=8"])),
        idle("tuner.adapter_dim=8", "tuner.kinds = \"full\"", "configs/method/full.toml")
    );
    resolved(&demo("full", &["tuner.partial=2"]));
    resolved(&demo("lift", &["tuner.partial=2", "tuner.adapter_dim=8"]));
}

#[test]
fn head_and_loss_settings_that_would_change_nothing() {
    let zero_shot = "configs/method/zero_shot.toml";
    for set in ["head.scale=10", "head.init=random"] {
        assert_eq!(refusal(&demo("zero_shot", &[set])), idle(set, "head.kind = \"zero_shot\"", zero_shot));
    }
    resolved(&demo(
        "zero_shot",
        &["head.prompt=a {}", "train.precision=fp64", "train.seed=1", "eval.batch_size=7"],
    ));
    assert_eq!(
        refusal(&demo("lift", &["head.init=random", "head.prompt=a {}"])),
        idle("head.prompt=a {}", "head.init = \"random\"", "--set head.init=random")
    );
    assert_eq!(
        refusal(&select("demo", "in21k_vit_b16", "lift", &["model.weights=/w", "head.prompt=a {}"])),
        idle("head.prompt=a {}", "model.kind = \"vit\"", "configs/model/in21k_vit_b16.toml")
    );
    for (sets, cause) in [
        (["head.prompts=ensemble", "head.prompt=a {}"], "head.prompts = \"ensemble\""),
        (["head.init=text", "head.shots=3"], "head.init = \"text\""),
        (["head.init=linear_probe", "head.prompts=classname"], "head.init = \"linear_probe\""),
        (["head.kind=linear", "head.scale=3"], "head.kind = \"linear\""),
    ] {
        let from = format!("--set {}", sets[0]);
        assert_eq!(refusal(&demo("lift", &sets)), idle(sets[1], cause, &from));
    }
    for set in ["loss.tau=2", "loss.prior=counts"] {
        let cross_entropy = idle(set, "loss.kind = \"cross_entropy\"", "--set loss.kind=cross_entropy");
        assert_eq!(refusal(&demo("lift", &["loss.kind=cross_entropy", set])), cross_entropy);
    }
}

#[test]
fn evaluation_settings_that_would_change_nothing() {
    for set in ["eval.expand=6", "eval.random_crops=3"] {
        let centre = idle(set, "eval.crops = \"centre\"", "configs/base.toml");
        assert_eq!(refusal(&demo("lift", &[set])), centre);
    }
    assert_eq!(
        refusal(&demo("lift", &["eval.crops=random", "eval.expand=6"])),
        idle("eval.expand=6", "eval.crops = \"random\"", "--set eval.crops=random")
    );
    assert_eq!(
        refusal(&demo("lift", &["eval.crops=ten", "eval.random_crops=3"])),
        idle("eval.random_crops=3", "eval.crops = \"ten\"", "--set eval.crops=ten")
    );
    resolved(&demo("zero_shot", &["eval.crops=five", "eval.expand=6", "eval.split=train"]));
    resolved(&demo("lift", &["eval.crops=ten"]));
    resolved(&demo("lift", &["eval.crops=random", "eval.random_crops=3"]));
}

#[test]
fn options_of_other_losses_would_change_nothing() {
    let options = [
        ("loss.tau", vec!["logit_adjusted"]),
        ("loss.prior", vec!["reweighted", "balanced_softmax", "logit_adjusted", "lade"]),
        ("loss.gamma", vec!["focal"]),
        ("loss.max_margin", vec!["ldam"]),
        ("loss.scale", vec!["ldam"]),
        ("loss.beta", vec!["class_balanced"]),
        ("loss.exponent", vec!["reweighted"]),
        ("loss.remine_lambda", vec!["lade"]),
        ("loss.estimation_weight", vec!["lade"]),
    ];
    for word in Losses::METHODS.iter().map(|method| method.word) {
        let kind = format!("loss.kind={word}");
        for (key, losses) in &options {
            let set =
                if *key == "loss.prior" { "loss.prior=counts".to_owned() } else { format!("{key}=0.5") };
            if losses.contains(&word) {
                resolved(&demo("lift", &[&kind, &set]));
            } else {
                let idle = idle(&set, &format!("loss.kind = \"{word}\""), &format!("--set {kind}"));
                assert_eq!(refusal(&demo("lift", &[&kind, &set])), idle);
            }
        }
    }
}

#[test]
fn training_settings_that_would_change_nothing() {
    for set in [
        "data.sampler=square_root",
        "train.batch_size=7",
        "train.micro_batch_size=7",
        "train.learning_rate=1",
        "train.momentum=0",
        "train.weight_decay=0",
        "train.schedule=constant",
        "train.max_steps=3",
        "train.accumulation=official",
        "loss.kind=cross_entropy",
        "loss.tau=2",
        "loss.prior=counts",
        "eval.every_epochs=1",
    ] {
        let expected = idle(set, "head.kind = \"zero_shot\"", "configs/method/zero_shot.toml");
        assert_eq!(refusal(&demo("zero_shot", &[set])), expected);
    }
    assert_eq!(
        refusal(&demo("lift", &["train.batch_size=64", "train.micro_batch_size=128"])),
        idle("train.micro_batch_size=128", "train.batch_size = 64", "--set train.batch_size=64")
    );
    assert_eq!(
        refusal(&demo("lift", &["eval.every_epochs=26"])),
        idle("eval.every_epochs=26", "train.epochs = 25", "configs/data/demo.toml")
    );
    resolved(&demo("lift", &["train.batch_size=64", "train.micro_batch_size=64", "eval.every_epochs=5"]));
}

#[test]
fn settings_that_exclude_each_other() {
    let vit = "`model.kind = \"vit\"` (from configs/model/in21k_vit_b16.toml)";
    let select_vit = |method, set: &[&str]| {
        refusal(&select("demo", "in21k_vit_b16", method, &[&["model.weights=/w"], set].concat()))
    };
    assert_eq!(
        select_vit("lift", &["head.init=text"]),
        format!(
            "`head.init = \"text\"` (from --set head.init=text) cannot be combined with {vit}: this model has no text \
             tower\nhint: set `head.init` to class_mean, or choose a CLIP model"
        )
    );
    assert_eq!(
        refusal(&demo("lift", &["loss.kind=lade", "head.placement=sharded"])),
        "`head.placement = \"sharded\"` (from --set head.placement=sharded) cannot be combined with `loss.kind = \"lade\"` \
         (from --set loss.kind=lade): LADE needs all logits of a sample on one rank\nhint: set `head.placement` to \
         replicated, or choose another loss"
    );
    let zero_shot = "`head.kind = \"zero_shot\"` (from configs/method/zero_shot.toml)";
    assert_eq!(
        select_vit("zero_shot", &[]),
        format!(
            "{zero_shot} cannot be combined with {vit}: it compares images with text, and this model has no text \
             tower\nhint: choose another method or a CLIP model"
        )
    );
    assert_eq!(
        refusal(&demo("zero_shot", &["tuner.kind=full"])),
        format!(
            "`tuner.kinds = \"full\"` (from --set tuner.kind=full) cannot be combined with {zero_shot}: zero-shot \
             classification trains nothing\nhint: leave out one of them, or choose another method"
        )
    );
    assert_eq!(
        refusal(&demo("zero_shot", &["train.epochs=3"])),
        format!(
            "`train.epochs = 3` (from --set train.epochs=3) cannot be combined with {zero_shot}: zero-shot \
             classification trains nothing\nhint: set `train.epochs` to 0, or choose another method"
        )
    );
}

#[test]
fn settings_that_are_required() {
    assert_eq!(
        refusal(&select("cifar100_ir100", "demo", "lift", &[])),
        "`data.root` is not set: it is the folder that holds the data set\nhint: add `--set data.root=FOLDER`"
    );
    assert_eq!(
        refusal(&select("demo", "clip_vit_b16", "lift", &[])),
        "`model.weights` is not set: it is the file of the backbone, which you download (README, Backbones and data)\nhint: add \
         `--set model.weights=FILE`"
    );
    let lists = |set: &[&str]| {
        refusal(&select(
            "cifar100_ir100",
            "demo",
            "lift",
            &[&["data.root=/d", "data.layout=lists"], set].concat(),
        ))
    };
    assert_eq!(
        lists(&[]),
        "`data.train_list` is not set: `data.layout = \"lists\"` needs the training list\nhint: add `--set \
         data.train_list=FILE`"
    );
    assert_eq!(
        lists(&["data.train_list=/a"]),
        "`data.test_list` is not set: `data.layout = \"lists\"` needs the test list\nhint: add `--set \
         data.test_list=FILE`"
    );
    assert_eq!(
        lists(&["data.train_list=/a", "data.test_list=/b"]),
        "`data.class_names` is not set: the head starts from the text features of the class names, one a \
         line\nhint: add `--set data.class_names=FILE`"
    );
}

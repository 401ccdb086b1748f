//! The exact text of every refusal of a name, a key, a type or a range.

use super::{cifar, demo, refusal, select};
use crate::config::{PresetKind, Presets};

const MODELS: &str = "clip_vit_b16, clip_vit_b32, clip_vit_l14, clip_vit_l14@336px, demo, dinov2_vit_b14, \
                      dinov2_vit_s14, in21k_vit_b16, in21k_vit_b16@384px, in21k_vit_l16, siglip_vit_b16, tiny_clip";
const DATA: &str =
    "cifar100, cifar100_ir10, cifar100_ir100, cifar100_ir50, demo, imagenet_lt, inat2018, places_lt";

#[test]
fn unknown_presets() {
    assert_eq!(
        refusal(&select("cifar100_ir20", "demo", "lift", &[])),
        format!(
            "unknown data set `cifar100_ir20`: known are {DATA}, or the path of a .toml file of your own\nhint: \
             did you mean `cifar100_ir10`?"
        )
    );
    assert_eq!(
        refusal(&select("demo", "clip_vit_b61", "lift", &[])),
        format!(
            "unknown model `clip_vit_b61`: known are {MODELS}, or the path of a .toml file of your own\nhint: did you mean \
             `clip_vit_b16`?"
        )
    );
    let methods = Presets::embedded().names(PresetKind::Method).unwrap().join(", ");
    assert_eq!(
        refusal(&select("demo", "demo", "prompt", &[])),
        format!("unknown method `prompt`: known are {methods}, or the path of a .toml file of your own")
    );
    assert_eq!(
        refusal(&select("demo", "", "lift", &[])),
        format!("unknown model ``: known are {MODELS}, or the path of a .toml file of your own")
    );
}

#[test]
fn unknown_keys() {
    let text = |set: &str| refusal(&demo("lift", &[set]));
    assert_eq!(text("train.epoch=3"), "unknown key `train.epoch`\nhint: did you mean `train.epochs`?");
    assert_eq!(text("epochs=3"), "unknown key `epochs`\nhint: did you mean `train.epochs`?");
    assert_eq!(text("data.epochs=3"), "unknown key `data.epochs`\nhint: did you mean `train.epochs`?");
    assert_eq!(text("trian.epochs=3"), "unknown key `trian.epochs`\nhint: did you mean `train.epochs`?");
    assert_eq!(text("Train.Epochs=3"), "unknown key `Train.Epochs`\nhint: did you mean `train.epochs`?");
    assert_eq!(text("train.lr=3"), "unknown key `train.lr`\nhint: did you mean `train.learning_rate`?");
    assert_eq!(text("bs=3"), "unknown key `bs`\nhint: did you mean `train.batch_size`?");
    assert_eq!(
        text("loss.frobnicate=3"),
        "unknown key `loss.frobnicate`; the keys of `loss` are kind, gamma, max_margin, scale, beta, exponent, prior, tau, \
         remine_lambda, estimation_weight"
    );
    assert_eq!(
        text("frobnicate=3"),
        "unknown key `frobnicate`; the sections are data, train, model, backbone, tuner, head, loss, eval, checkpoint, distributed"
    );
    assert_eq!(
        text("tuner={kind=\"none\"}"),
        "unknown key `tuner`: it is a section, with the keys kinds, partial, vpt_len, adapter_dim, mask_ratio, mask_seed"
    );
    assert_eq!(
        text("eval.batch_sise=3"),
        "unknown key `eval.batch_sise`\nhint: did you mean `eval.batch_size`?"
    );
    assert_eq!(text("train.epochs"), "`--set train.epochs` has no value: expected section.key=value");
    assert_eq!(
        text("=3"),
        "unknown key ``; the sections are data, train, model, backbone, tuner, head, loss, eval, checkpoint, distributed"
    );
}

#[test]
fn wrong_types() {
    let text = |set: &str| refusal(&demo("lift", &[set]));
    assert_eq!(
        text("train.epochs=abc"),
        "`train.epochs` expects a whole number, 0 or more; found the text \"abc\" (from --set \
         train.epochs=abc)"
    );
    assert_eq!(
        text("train.epochs=-1"),
        "`train.epochs` expects a whole number, 0 or more; found the number -1 (from --set train.epochs=-1)"
    );
    assert_eq!(
        text("train.epochs=1.5"),
        "`train.epochs` expects a whole number, 0 or more; found the number 1.5 (from --set train.epochs=1.5)"
    );
    for size in ["0", "1048577"] {
        assert_eq!(
            text(&format!("train.micro_batch_size={size}")),
            format!(
                "`train.micro_batch_size` expects a whole number from 1 to 1048576, or \"auto\"; found the number {size} \
                 (from --set train.micro_batch_size={size})"
            )
        );
    }
    assert_eq!(
        text("train.learning_rate=nan"),
        "`train.learning_rate` expects a finite number; found the number nan (from --set \
         train.learning_rate=nan)"
    );
    assert_eq!(
        text("train.precision=pf32"),
        "`train.precision` expects one of `auto`, `fp32`, `tf32`, `bf16`, `fp16`, `fp64`; found the text \"pf32\" (from --set \
         train.precision=pf32)\nhint: did you mean `fp32`?"
    );
    assert_eq!(
        text("train.precision=16"),
        "`train.precision` expects one of `auto`, `fp32`, `tf32`, `bf16`, `fp16`, `fp64`; found the number 16 (from --set \
         train.precision=16)"
    );
    assert_eq!(
        text("model.mean=[0.5, 0.5]"),
        "`model.mean` expects a list of 3 finite numbers; found the list [0.5, 0.5] (from --set \
         model.mean=[0.5, 0.5])"
    );
    assert_eq!(
        text("tuner.partial=[6, 2]"),
        "`tuner.partial` expects \"all\", a whole number of last blocks, or [first, end] with first <= end; \
         found the list [6, 2] (from --set tuner.partial=[6, 2])"
    );
    assert_eq!(
        text("data.shots=4294967296"),
        "`data.shots` expects a whole number from 0 to 4294967295; found the number 4294967296 (from --set \
         data.shots=4294967296)"
    );
    assert_eq!(
        text("train.seed=true"),
        "`train.seed` expects a whole number, 0 or more; found true (from --set train.seed=true)"
    );
    assert_eq!(
        refusal(&cifar("lift", &["data.imbalance=all"])),
        "`data.imbalance` expects a finite number, or \"none\"; found the text \"all\" (from --set \
         data.imbalance=all)"
    );
    assert_eq!(
        text("train.epochs=3\ntrain.seed=1"),
        "`train.epochs` expects a whole number, 0 or more; found the text \"3\\ntrain.seed=1\" (from --set \
         train.epochs=3\\ntrain.seed=1)"
    );
}

#[test]
fn values_out_of_range() {
    let ranges = [
        ("train.batch_size=0", "from 1 to 1048576"),
        ("train.batch_size=1048577", "from 1 to 1048576"),
        ("train.learning_rate=0", "above 0"),
        ("train.learning_rate=-0.1", "above 0"),
        ("train.momentum=1", "at least 0 and below 1"),
        ("train.momentum=-0.5", "at least 0 and below 1"),
        ("train.weight_decay=-1", "at least 0"),
        ("train.epochs=9223372036854775807", "at most 2^40"),
        ("train.max_steps=9223372036854775807", "at most 2^40"),
        ("train.threads=1025", "at most 1024"),
        ("train.log_every=0", "at least 1"),
        ("data.workers=1025", "at most 1024"),
        ("data.prefetch=0", "from 1 to 1024"),
        ("data.samples_per_class=0", "at least 1"),
        ("data.repeat_threshold=0", "above 0 and at most 1"),
        ("data.repeat_threshold=1.5", "above 0 and at most 1"),
        ("data.shots=0", "at least 1"),
        ("data.imbalance=0.5", "at least 1, or \"none\""),
        ("model.resolution=0", "from 1 to 4096"),
        ("model.resolution=4097", "from 1 to 4096"),
        ("model.std=[0.5, 0, 0.5]", "3 numbers above 0"),
        ("tuner.adapter_dim=1048577", "at most 1048576"),
        ("head.scale=0", "above 0"),
        ("loss.tau=-1", "at least 0"),
        ("loss.gamma=-1", "at least 0"),
        ("loss.max_margin=-1", "at least 0"),
        ("loss.scale=-1", "at least 0"),
        ("loss.beta=1", "at least 0 and below 1"),
        ("loss.exponent=-1", "at least 0"),
        ("loss.remine_lambda=-1", "at least 0"),
        ("loss.estimation_weight=-1", "at least 0"),
        ("eval.batch_size=0", "from 1 to 1048576"),
        ("eval.expand=4097", "at most 4096"),
        ("eval.random_crops=0", "from 1 to 1000"),
        ("eval.random_crops=1001", "from 1 to 1000"),
        ("distributed.timeout_seconds=0", "from 1 to 315360000"),
    ];
    for (set, expected) in ranges {
        let (key, value) = set.split_once('=').unwrap();
        let found = match key {
            "model.std" => format!("the list {value}"),
            _ => format!("the number {value}"),
        };
        assert_eq!(
            refusal(&demo("lift", &[set])),
            format!("`{key}` must be {expected}; found {found} (from --set {set})")
        );
    }
    for prompt in ["a photo", "{} and {}", ""] {
        assert_eq!(
            refusal(&demo("lift", &[&format!("head.prompt={prompt}")])),
            format!(
                "`head.prompt` must be a sentence with one {{}} for the class name; found the text \
                 {prompt:?} (from --set head.prompt={prompt})"
            )
        );
    }
}

#[test]
fn values_without_end_are_refused() {
    let deep = format!("tuner.partial={}", "[".repeat(100_000));
    assert!(refusal(&demo("lift", &[&deep])).starts_with("`tuner.partial` expects"));
    let closed = format!("tuner.partial={}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refusal(&demo("lift", &[&closed])).starts_with("`tuner.partial` expects"));
}

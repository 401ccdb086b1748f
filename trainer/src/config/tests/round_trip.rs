//! Records of runs: what is written loads back equal, differences and hashes tell configurations apart.

use super::{cifar, demo, resolve, resolved, select};
use crate::config::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn assert_loads_back(written: &Resolved) {
    let text = written.to_toml();
    let read = Resolved::from_run_folder(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(read.config, written.config, "{text}");
    assert_eq!((&read.origins, &read.names), (&written.origins, &written.names), "{text}");
    assert_eq!(Config::from_run_folder(&text).as_ref(), Ok(&written.config));
    assert_eq!(read.hash(), written.hash());
    assert_eq!(read.diff(written), []);
    let only_the_first_line_differs = read.to_toml();
    assert_eq!(only_the_first_line_differs.split_once('\n').unwrap().1, text.split_once('\n').unwrap().1);
}

#[test]
fn a_record_shows_values_and_origins() {
    let text = resolved(&cifar("lift", &["train.epochs=3"])).to_toml();
    for line in [
        "# Configuration of a run, from the presets inside the program.",
        "data = \"cifar100_ir100\"",
        "[train]",
        "epochs = 3",
        "weights = \"/weights/clip.safetensors\"",
        "[origins]",
        "train.epochs = \"--set train.epochs=3\"",
        "train.weight_decay = \"configs/base.toml\"",
        "data.imbalance = \"configs/data/cifar100_ir100.toml\"",
        "model.weights = \"--set model.weights=/weights/clip.safetensors\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_record_may_lose_its_origins() {
    let text = resolved(&demo("lift", &["train.epochs=3"])).to_toml();
    let changed = Resolved::from_run_folder(&text.replace("epochs = 3\n", "epochs = 4\n")).unwrap();
    assert_eq!(changed.config.train.epochs, 4);
    let bare = text.replace("train.epochs = \"--set train.epochs=3\"\n", "");
    assert_eq!(Resolved::from_run_folder(&bare).unwrap().origins["train.epochs"], Origin::Run);
    let (values, _) = text.split_once("\n[origins]\n").unwrap();
    assert_eq!(Resolved::from_run_folder(values).unwrap().origins["data.layout"], Origin::Run);
}

#[test]
fn origins_of_the_first_format_are_comments() {
    let prompt = "head.prompt=a # from configs/base.toml {}";
    let written = resolved(&demo("lift", &[prompt, "train.epochs=3"]));
    let text = written.to_toml();
    let (values, _) = text.split_once("\n[origins]\n").unwrap();
    let (mut section, mut lines) = ("", Vec::new());
    let values = values.replace("format = 2\n", "format = 1\n");
    for line in values.lines() {
        section = line.strip_prefix('[').map_or(section, |line| line.trim_end_matches(']'));
        let key = line.split_once(" = ").map(|(name, _)| format!("{section}.{name}"));
        let origin = key.and_then(|key| written.origins.get(&key));
        lines.push(origin.map_or_else(|| line.to_owned(), |origin| format!("{line:<48} # from {origin}")));
    }
    let read = Resolved::from_run_folder(&lines.join("\n")).unwrap();
    assert_eq!((&read.config, &read.origins), (&written.config, &written.origins));
    assert_eq!(read.origins["head.prompt"], Origin::Set(prompt.to_owned()));
}

#[test]
fn damaged_records_are_refused() {
    let text = resolved(&demo("lift", &[])).to_toml();
    let refusal = |text: &str| Resolved::from_run_folder(text).unwrap_err().to_string();
    let place = "the run's config.toml";
    assert_eq!(
        refusal(&text.replace("[names]", "[title]")),
        format!(
            "`names.data` is missing in {place}; expected every key there\nhint: compare it with docs/configuration.md"
        )
    );
    assert_eq!(
        refusal(&text.replace("momentum = 0.9", "momentun = 0.9")),
        format!(
            "unknown key `train.momentun` in {place}; this version has no such key\nhint: use the version that wrote the run"
        )
    );
    assert_eq!(
        refusal(&text.replace("format = 2", "format = 3")),
        format!(
            "{place} has format 3, and this program knows up to 2: a newer version wrote it\nhint: use that version"
        )
    );
    assert!(
        refusal(&text.replace("momentum = 0.9", "momentum = 1.5"))
            .starts_with("`train.momentum` must be at least 0")
    );
    assert!(refusal("= 3").starts_with(&format!("{place} is not TOML at line 1: ")));
    assert!(refusal("").starts_with("`names.data` is missing"));
}

/// The record without the lines of some keys, as a version that did not have them wrote it.
fn older(text: &str, keys: &[&str]) -> String {
    let mut text = text.replace("format = 2\n", "");
    for key in keys {
        let start = text.find(&format!("\n{key} = ")).unwrap() + 1;
        let end = start + text[start..].find('\n').unwrap() + 1;
        text.replace_range(start..end, "");
    }
    text
}

#[test]
fn a_key_that_an_older_run_lacks_has_its_default() {
    let set = ["model.weights=/w", "data.root=/d", "train.epochs=3"];
    let text = resolved(&select("cifar100_ir50", "tiny_clip", "lift", &set)).to_toml();
    // One of base.toml, and two of presets.
    let old = older(&text, &["momentum", "resolution", "imbalance"]);
    let read = Resolved::from_run_folder(&old).unwrap();
    assert_eq!(read.config, Resolved::from_run_folder(&text).unwrap().config);
    assert_eq!(read.absent(), ["data.imbalance", "model.resolution", "train.momentum"]);
    assert_eq!(read.diff(&Resolved::from_run_folder(&text).unwrap()), []);
    // It is written down as what it is.
    assert_eq!(Resolved::from_run_folder(&read.to_toml()).unwrap().absent(), read.absent());
    // A preset whose name is only that of a file is none.
    let own = old.replace("configs/model/tiny_clip.toml", "file /mine/tiny_clip.toml");
    assert_eq!(Resolved::from_run_folder(&own).unwrap().config.model.resolution, 224);
}

/// `data.decode` decides about the pixels, so a run keeps those with which it began.
#[test]
fn a_run_that_is_older_than_fast_decoding_stays_exact() {
    let set = ["model.weights=/w", "data.root=/d"];
    let text = resolved(&select("cifar100_ir50", "tiny_clip", "lift", &set)).to_toml();
    assert_eq!(Resolved::from_run_folder(&text).unwrap().config.data.decode, DecodeName::Fast);
    let read = Resolved::from_run_folder(&older(&text, &["decode"])).unwrap();
    assert_eq!(read.config.data.decode, DecodeName::Exact);
    assert_eq!(read.absent(), ["data.decode"]);
}

#[test]
fn differences_name_key_values_and_origins() {
    let one = resolved(&demo("lift", &[]));
    let two = resolved(&demo("full", &["train.epochs=3"]));
    let lines: Vec<_> = one.diff(&two).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "`names.method`: \"lift\" -> \"full\"",
            "`train.epochs`: 25 (from configs/data/demo.toml) -> 3 (from --set train.epochs=3)",
            "`tuner.kinds`: \"adaptformer\" (from configs/method/lift.toml) -> \"full\" (from \
             configs/method/full.toml)",
        ]
    );
    assert_eq!(one.diff(&one), []);
}

#[test]
fn a_hash_follows_values_and_not_origins() {
    let hash = |method: &str, set: &[&str]| resolved(&demo(method, set)).hash();
    assert_eq!(hash("lift", &[]), hash("lift", &["train.epochs=25"]));
    assert_eq!(hash("lift", &[]).len(), 64);
    let sets: [&[&str]; 5] = [
        &[],
        &["train.seed=1"],
        &["train.learning_rate=0.010000000000000002"],
        &["head.prompt={}"],
        &["tuner.partial=1"],
    ];
    let hashes: BTreeSet<_> =
        sets.into_iter().map(|set| hash("lift", set)).chain([hash("full", &[])]).collect();
    assert_eq!(hashes.len(), 6);
}

#[test]
fn json_holds_everything() {
    let json = resolved(&demo("lift", &["tuner.partial=[0,2]"])).to_json();
    assert_eq!(json["config"]["train"]["learning_rate"], 0.01);
    assert_eq!(json["config"]["tuner"]["partial"], serde_json::json!([0, 2]));
    assert_eq!(json["config"]["data"]["root"], "");
    assert_eq!(json["origins"]["tuner.partial"], "--set tuner.partial=[0,2]");
    assert_eq!(json["names"]["method"], "lift");
    assert_eq!(json["presets"], "presets inside the program");
    assert_eq!(json["config"]["loss"]["tau"], 1.0);
    let is_there = |key: &str| key.split_once('.').map(|(table, key)| &json["config"][table][key]);
    assert!(keys().all(|key| is_there(key.name).is_some_and(|value| !value.is_null())), "{json}");
}

fn flags() -> impl Strategy<Value = Vec<String>> {
    let number = (0_u64..=1 << 40).prop_map(|n| n.to_string());
    let float = any::<f64>().prop_map(|n| format!("{n:?}"));
    let word = prop::sample::select(vec![
        "bf16",
        "cpu",
        "constant",
        "text",
        "random",
        "cross_entropy",
        "full",
        "none",
    ]);
    let list = prop::collection::vec(-3_i64..9, 0..4).prop_map(|values| format!("{values:?}"));
    let text = prop_oneof![any::<String>(), "[ -~]{0,12}\\{\\}[ -~\\n\\t#\"'\\\\]{0,12}"];
    let value = prop_oneof![number, float, word.prop_map(str::to_owned), list, text];
    let names: Vec<_> = keys().map(|key| key.name).collect();
    prop::collection::vec((prop::sample::select(names), value), 0..4)
        .prop_map(|flags| flags.into_iter().map(|(key, value)| format!("{key}={value}")).collect())
}

/// Flags that the demo takes, with values over their whole ranges.
fn good_flags() -> impl Strategy<Value = Vec<String>> {
    let flag = prop_oneof![
        any::<i64>().prop_map(|n| format!("train.seed={}", n & i64::MAX)),
        (0_u64..=1 << 40).prop_map(|n| format!("train.epochs={n}")),
        (f64::MIN_POSITIVE..f64::MAX).prop_map(|n| format!("train.learning_rate={n:?}")),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("loss.tau={:?}", n.abs())),
        (any::<f32>(), -1e300_f64..1e300, any::<i32>())
            .prop_filter("finite", |(n, ..)| n.is_finite())
            .prop_map(|(a, b, c)| format!("model.mean=[{:?}, {b:?}, {c}]", f64::from(a))),
        (0_u32..40, 0_u32..40).prop_map(|(a, b)| format!("tuner.partial=[{}, {}]", a.min(b), a.max(b))),
        "[^{}]{0,20}".prop_map(|text| format!("head.prompt={text}{{}}{text}")),
        "[^{}]{0,20}".prop_map(|text| format!("head.prompt= # from {text} {{}}\n[train]\nseed = 7 # from x")),
        Just("train.precision=bf16".to_owned()),
        Just("data.sampler=progressive".to_owned()),
    ];
    prop::collection::vec(flag, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_loads_back_equal(set in good_flags()) {
        let set: Vec<_> = set.iter().map(String::as_str).collect();
        let written = resolved(&demo("lift", &set));
        assert_loads_back(&written);
    }

    #[test]
    fn no_flag_panics_and_no_refusal_breaks_the_line(set in flags()) {
        let set: Vec<_> = set.iter().map(String::as_str).collect();
        match resolve(&demo("lift", &set)) {
            Ok(written) => assert_loads_back(&written),
            Err(error) => {
                let message = error.to_string();
                let (sentence, hint) = protocol::hint::split(&message);
                assert!(![sentence, hint.unwrap_or_default()].iter().any(|line| line.contains('\n')), "{error}");
            }
        }
    }

    #[test]
    fn no_record_panics(text in "[a-z=\\[\\]\"0-9. \\n#]{0,200}") {
        let _ = Resolved::from_run_folder(&text);
    }
}

#[test]
fn every_pair_of_presets_loads_back() {
    for method in ["lift", "classifier", "full", "zero_shot"] {
        assert_loads_back(&resolved(&demo(method, &[])));
        assert_loads_back(&resolved(&cifar(method, &[])));
    }
}

//! What each key declares: that it is whole, and that it says what lists of keys said before.

use super::{cifar, demo, refusal, resolve, resolved, select};
use crate::config::tables::{find_key, keys, users};
use crate::config::*;
use crate::model::losses::Losses;
use crate::model::tuners::{Tuners, adaptformer, full};
use crate::options::{Description, OnResume, OptionType, Several};
use std::collections::BTreeSet;

/// May change on resume. Whether a key may is worth a second look, so a new one is to be added here as well.
const FREE: [&str; 32] = [
    "data.root",
    "data.train_list",
    "data.test_list",
    "data.class_names",
    "data.images",
    "data.max_bad_images",
    "data.workers",
    "data.split",
    "data.cache",
    "data.cache_limit",
    "data.read_ahead",
    "data.prefetch",
    "model.weights",
    "train.device",
    "train.threads",
    "train.cuda_graphs",
    "train.recompute",
    "train.log_every",
    "train.tensorboard",
    "eval.thumbnails",
    "checkpoint.every_steps",
    "checkpoint.every_seconds",
    "checkpoint.keep",
    "checkpoint.max_failures",
    "backbone.placement",
    "head.placement",
    "distributed.backend",
    "distributed.timeout_seconds",
    "distributed.stall_seconds",
    "distributed.check_every_steps",
    "distributed.overlap",
    "distributed.bucket_megabytes",
];

/// May change where an epoch ends.
const ORDER: [&str; 6] = [
    "train.seed",
    "train.batch_size",
    "data.sampler",
    "data.samples_per_class",
    "data.repeat_threshold",
    "data.shots",
];

/// Start at `data.root`.
const IN_ROOT: [&str; 4] = ["data.train_list", "data.test_list", "data.class_names", "data.images"];

/// Method, flag that is without effect, and the key that is the cause. More, with whole sentences, are in `combinations`.
const IDLE: [(&str, &str, &str); 51] = [
    ("zero_shot", "data.sampler=square_root", "head.kind"),
    ("zero_shot", "train.batch_size=7", "head.kind"),
    ("zero_shot", "train.micro_batch_size=7", "head.kind"),
    ("zero_shot", "train.learning_rate=1", "head.kind"),
    ("zero_shot", "train.momentum=0", "head.kind"),
    ("zero_shot", "train.weight_decay=0", "head.kind"),
    ("zero_shot", "train.schedule=constant", "head.kind"),
    ("zero_shot", "train.max_steps=3", "head.kind"),
    ("zero_shot", "train.accumulation=official", "head.kind"),
    ("zero_shot", "loss.kind=cross_entropy", "head.kind"),
    ("zero_shot", "loss.tau=2", "head.kind"),
    ("zero_shot", "loss.prior=counts", "head.kind"),
    ("zero_shot", "eval.every_epochs=1", "head.kind"),
    ("zero_shot", "train.determinism=same_world", "head.kind"),
    ("zero_shot", "train.virtual_shards=4", "head.kind"),
    ("zero_shot", "train.recompute=true", "head.kind"),
    ("zero_shot", "train.non_finite=skip", "head.kind"),
    ("zero_shot", "train.max_non_finite=1", "head.kind"),
    ("zero_shot", "head.placement=sharded", "head.kind"),
    ("zero_shot", "head.scale=10", "head.kind"),
    ("zero_shot", "head.init=random", "head.kind"),
    ("zero_shot", "checkpoint.every_steps=1", "head.kind"),
    ("zero_shot", "checkpoint.every_seconds=1", "head.kind"),
    ("zero_shot", "checkpoint.keep=1", "head.kind"),
    ("zero_shot", "checkpoint.best=few", "head.kind"),
    ("zero_shot", "checkpoint.max_failures=1", "head.kind"),
    ("zero_shot", "distributed.stall_seconds=1", "head.kind"),
    ("zero_shot", "distributed.overlap=false", "head.kind"),
    ("zero_shot", "distributed.bucket_megabytes=2", "head.kind"),
    ("zero_shot", "distributed.wire=bf16", "head.kind"),
    ("zero_shot", "distributed.check_every_steps=1", "head.kind"),
    ("lift", "model.weights=w", "model.kind"),
    ("lift", "model.activation=gelu", "model.kind"),
    ("lift", "model.heads=4", "model.kind"),
    ("lift", "model.pool=avg", "model.kind"),
    ("lift", "model.width=4", "model.kind"),
    ("lift", "model.layers=4", "model.kind"),
    ("lift", "model.patch=4", "model.kind"),
    ("lift", "data.root=d", "data.layout"),
    ("lift", "data.max_bad_images=1", "data.layout"),
    ("lift", "data.train_list=a", "data.layout"),
    ("lift", "data.test_list=a", "data.layout"),
    ("lift", "data.images=a", "data.layout"),
    ("lift", "data.class_names=a", "data.layout"),
    ("lift", "data.imbalance=10", "data.layout"),
    ("lift", "data.samples_per_class=2", "data.sampler"),
    ("lift", "data.repeat_threshold=0.1", "data.sampler"),
    ("lift", "data.shots=2", "data.sampler"),
    ("lift", "train.virtual_shards=4", "train.determinism"),
    ("lift", "train.max_non_finite=1", "train.non_finite"),
    ("full", "tuner.adapter_dim=2", "tuner.kinds"),
];

#[test]
fn keys_of_each_class_on_resume() {
    for key in keys() {
        let expected = if FREE.contains(&key.name) {
            OnResume::Free
        } else if ORDER.contains(&key.name) {
            OnResume::Order
        } else {
            OnResume::Part
        };
        assert_eq!(key.on_resume, expected, "{}", key.name);
    }
    assert!(FREE.iter().chain(&ORDER).all(|name| find_key(name).is_some()));
    assert_eq!(Config::on_resume("names.data"), None);
}

#[test]
fn paths_start_where_they_did() {
    let found: BTreeSet<_> = keys().filter(|key| key.starts_at.is_some()).map(|key| key.name).collect();
    assert_eq!(found, IN_ROOT.into_iter().collect());
    assert!(keys().all(|key| key.starts_at.is_none_or(|folder| folder == "data.root")));
}

#[test]
fn every_rule_of_what_is_idle_still_holds() {
    for (method, set, cause) in IDLE {
        let text = refusal(&demo(method, &[set]));
        assert!(text.contains("has no effect") && text.ends_with(&format!("change `{cause}`")), "{text}");
    }
    for key in ["overlap=false", "bucket_megabytes=2", "wire=bf16"] {
        let set = ["train.determinism=any_world", &format!("distributed.{key}")];
        assert!(refusal(&demo("lift", &set)).ends_with("change `train.determinism`"));
    }
}

#[test]
fn every_key_is_declared_once_and_whole() {
    let names: Vec<_> = keys().map(|key| key.name).chain(keys().filter_map(|key| key.formerly)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for key in keys() {
        let (name, default) = (key.name, (key.default)());
        let canonical = (key.canonical)(&default);
        assert_eq!(canonical.as_ref(), Some(&default), "{name}");
        assert!(key.limit.is_none_or(|limit| (limit.holds)(&default)), "{name}");
        assert!(!key.summary().is_empty() && key.about.last().unwrap().ends_with('.'), "{name}");
        for needs in key.needs {
            let cause = find_key(needs.cause).unwrap_or_else(|| panic!("{name} needs {}", needs.cause));
            let words: Vec<_> = (cause.words)().iter().map(|word| word.word).collect();
            assert!(needs.words().iter().all(|word| words.contains(word)), "{name}: {needs:?}");
        }
        if let Some(folder) = key.starts_at {
            assert!((find_key(folder).unwrap().is_path)(&toml::Value::String("a".to_owned())), "{name}");
        }
    }
}

/// What is wrong with how a method is described.
fn faults(method: &Description) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{} `{}`: {what}", method.key, method.word));
        }
    };
    expect(method.about.len() > 10 && method.about.ends_with('.'), "expected a sentence about it");
    expect(!method.word.is_empty(), "expected a word");
    let table = method.key.split('.').next();
    for section in method.options {
        expect(Some(section.name) == table, "options in a table of another");
        expect(!section.keys.is_empty(), "a section without options");
        for key in section.keys {
            let mut its_users = users(key).iter();
            let is_listed =
                its_users.any(|users| users.key == method.key && users.words.contains(&method.word));
            expect(is_listed && find_key(key.name).is_some(), "an option that the table does not have");
        }
    }
    faults
}

#[test]
fn every_method_is_described() {
    let all: Vec<_> = methods().collect();
    let faults: Vec<_> = all.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let words: BTreeSet<_> = all.iter().map(|method| (method.key, method.word)).collect();
    assert_eq!(words.len(), all.len());
    for method in &all {
        let chooser = find_key(method.key).unwrap();
        assert!((chooser.words)().iter().any(|word| word.word == method.word), "{}", method.word);
    }
}

#[test]
fn a_method_without_a_description_is_found() {
    let method = Description::all::<Losses>().find(|method| method.word == "logit_adjusted").unwrap();
    assert_eq!(faults(&method).len(), 0);
    assert_eq!(faults(&Description { about: "", ..method }).len(), 1);
    let unlisted = faults(&Description { word: "unlisted", ..method });
    assert!(unlisted.iter().all(|fault| fault.contains("does not have")) && !unlisted.is_empty());
}

#[test]
fn a_table_has_the_options_of_its_methods() {
    let names = |name: &str| {
        let table = tables().iter().find(|table| table.name == name).unwrap();
        table.keys.iter().map(|key| key.short).collect::<Vec<_>>()
    };
    assert!(names("loss").starts_with(&["kind"]) && names("loss").contains(&"tau"));
    assert!(names("tuner").starts_with(&["kinds", "partial"]) && names("tuner").contains(&"adapter_dim"));
    // An option of two kinds of methods takes effect with either.
    let prompt = find_key("head.prompt").unwrap();
    let choosers: Vec<_> = users(prompt).iter().map(|users| users.key).collect();
    assert_eq!(choosers, ["head.kind", "head.init"]);
    resolved(&demo("zero_shot", &["head.prompt=a {}"]));
    resolved(&demo("lift", &["head.prompt=a {}"]));
    assert!(refusal(&demo("lift", &["head.init=random", "head.prompt=a {}"])).ends_with("`head.init`"));
}

#[test]
fn a_former_name_is_another_name() {
    assert_eq!(Config::name_of_key("tuner.kind"), "tuner.kinds");
    assert_eq!(Config::name_of_key("tuner.nothing"), "tuner.nothing");
    let new = resolved(&demo("lift", &["tuner.kinds=full"]));
    let old = resolved(&demo("lift", &["tuner.kind=full"]));
    assert_eq!((&old.config, old.hash()), (&new.config, new.hash()));
    assert_eq!(old.origins["tuner.kinds"], Origin::Set("tuner.kind=full".to_owned()));
    // The later flag wins, under whichever name.
    let last = resolved(&demo("lift", &["tuner.kinds=full", "tuner.kind=none"]));
    assert!(last.config.tuner.kinds.is_none());
    // The record of a run from before.
    let record = new.to_toml();
    assert!(record.contains("\nkinds = \"full\""), "{record}");
    let before = record.replace("\nkinds = ", "\nkind = ").replace("tuner.kinds = ", "tuner.kind = ");
    let read = Resolved::from_run_folder(&before).unwrap();
    assert_eq!((&read.config, &read.origins), (&new.config, &new.origins));
    assert_eq!(read.diff(&new), []);
}

#[test]
fn a_file_gives_a_key_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    std::fs::write(&path, "[tuner]\nkind = 'full'\nkinds = 'none'\n").unwrap();
    let name = path.to_str().unwrap();
    assert_eq!(
        refusal(&select("demo", "demo", name, &[])),
        format!(
            "`tuner.kind` is another name of `tuner.kinds`, and file {name} gives both\nhint: keep `tuner.kinds`"
        )
    );
}

#[test]
fn tuners_are_a_word_or_a_list_of_words() {
    let kinds = |set: &str| resolved(&demo("lift", &[set])).config.tuner.kinds;
    assert_eq!(kinds("tuner.kinds=[\"full\"]"), Several::of(&full::METHOD));
    for none in ["[]", "none", "[\"none\"]"] {
        assert_eq!(kinds(&format!("tuner.kinds={none}")), Several::none());
    }
    let both = kinds("tuner.kinds=[\"full\", \"adaptformer\"]");
    assert!(both.contains(&full::METHOD) && both.contains(&adaptformer::METHOD));
    assert_eq!(both.write(), toml::Value::Array(vec!["full".into(), "adaptformer".into()]));
    // An option of one of several takes effect; one of a list without it does not.
    resolved(&demo("lift", &["tuner.kinds=[\"full\", \"adaptformer\"]", "tuner.adapter_dim=2"]));
    let idle = refusal(&demo("lift", &["tuner.kinds=[]", "tuner.partial=1"]));
    assert!(idle.contains("has no effect with `tuner.kinds = []`"), "{idle}");
    // Another way of writing the same is no change.
    let (one, same) =
        (resolved(&demo("lift", &[])), resolved(&demo("lift", &["tuner.kinds=[\"adaptformer\"]"])));
    assert_eq!((one.diff(&same), one.hash()), (Vec::new(), same.hash()));
}

#[test]
fn lists_of_tuners_that_cannot_be_meant_are_refused() {
    for list in ["[\"full\", \"full\"]", "[\"none\", \"full\"]", "[1]", "3", "[[\"full\"]]"] {
        let text = refusal(&demo("lift", &[&format!("tuner.kinds={list}")]));
        let expected = Several::<Tuners>::expected();
        assert!(text.starts_with(&format!("`tuner.kinds` expects {expected}; found ")), "{text}");
        assert!(expected.ends_with("or a list of them, each once and `none` alone"), "{expected}");
    }
    let text = refusal(&demo("lift", &["tuner.kinds=[\"full\", \"adaptfromer\"]"]));
    assert!(text.ends_with("did you mean `adaptformer`?"), "{text}");
    let text = refusal(&demo("lift", &["loss.kind=logit_ajusted"]));
    assert!(text.ends_with("did you mean `logit_adjusted`?"), "{text}");
}

#[test]
fn a_record_with_several_tuners_loads_back() {
    let set = "tuner.kinds=[\"full\", \"adaptformer\"]";
    let written = resolved(&cifar("lift", &[set]));
    let read = Resolved::from_run_folder(&written.to_toml()).unwrap();
    assert_eq!((&read.config, &read.origins), (&written.config, &written.origins));
    assert!(resolve(&cifar("lift", &["tuner.kinds=nothing"])).is_err());
}

#[test]
fn records_of_earlier_versions_are_read() {
    let runs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/runs");
    for run in ["demo", "pictures/run"] {
        let text = std::fs::read_to_string(format!("{runs}/{run}/config.toml")).unwrap();
        assert!(text.contains("\nkind = "), "{text}");
        let read = Resolved::from_run_folder(&text).unwrap();
        assert!(matches!(read.origins["tuner.kinds"], Origin::Preset(PresetKind::Method, _)), "{run}");
    }
}

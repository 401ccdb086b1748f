//! Combinations: values that are missing, that exclude each other, or that the user chose and that would
//! change nothing. A value of a preset may be idle, for presets are laid over each other; one of the user may
//! not.

use super::error::ConfigError;
use super::layers::{Entry, setting};
use super::{
    Config, Determinism, HeadInit, HeadKind, HeadPlacement, Layout, LossKind, ModelKind, NonFinite, Prompts,
    Sampler, TunerKind, WordOrFile,
};
use std::collections::BTreeMap;

/// Refuses the first combination that cannot be meant.
pub(super) fn check(config: &Config, entries: &BTreeMap<String, Entry>) -> Result<(), ConfigError> {
    let checks = Checks { config, entries };
    checks.conflicts()?;
    checks.data_that_is_idle()?;
    checks.sampler_settings_that_are_idle()?;
    checks.model_and_tuner_that_are_idle()?;
    checks.head_and_loss_that_are_idle()?;
    checks.training_that_is_idle()?;
    checks.required()
}

/// Keys of training that mean nothing when nothing is trained.
const TRAINING: [&str; 31] = [
    "data.sampler",
    "data.samples_per_class",
    "data.repeat_threshold",
    "data.shots",
    "train.batch_size",
    "train.micro_batch_size",
    "train.learning_rate",
    "train.momentum",
    "train.weight_decay",
    "train.schedule",
    "train.max_steps",
    "train.accumulation",
    "loss.kind",
    "loss.tau",
    "loss.prior",
    "eval.every_epochs",
    "train.determinism",
    "train.virtual_shards",
    "train.non_finite",
    "train.max_non_finite",
    "head.placement",
    "checkpoint.every_steps",
    "checkpoint.every_seconds",
    "checkpoint.keep",
    "checkpoint.best",
    "checkpoint.max_failures",
    "distributed.stall_seconds",
    "distributed.overlap",
    "distributed.bucket_megabytes",
    "distributed.wire",
    "distributed.check_every_steps",
];

/// Keys that describe the file of a backbone, which the embedded demo does not have.
const OF_A_FILE: [&str; 7] = [
    "model.weights",
    "model.activation",
    "model.heads",
    "model.pool",
    "model.width",
    "model.layers",
    "model.patch",
];

struct Checks<'a> {
    config: &'a Config,
    entries: &'a BTreeMap<String, Entry>,
}

impl Checks<'_> {
    fn conflicts(&self) -> Result<(), ConfigError> {
        let Config { model, tuner, head, train, .. } = self.config;
        let zero_shot = head.kind == HeadKind::ZeroShot;
        let no_text = !model.kind.has_text_tower();
        if zero_shot && no_text {
            let why = "it compares images with text, and this model has no text tower";
            return Err(self.conflict(
                "head.kind",
                "model.kind",
                why,
                "choose another method or a CLIP model",
            ));
        }
        if zero_shot && tuner.kind != TunerKind::None {
            let why = "zero-shot classification trains nothing";
            let remedy = "leave out one of them, or choose another method";
            return Err(self.conflict("tuner.kind", "head.kind", why, remedy));
        }
        if zero_shot && train.epochs > 0 {
            let why = "zero-shot classification trains nothing";
            let remedy = "set `train.epochs` to 0, or choose another method";
            return Err(self.conflict("train.epochs", "head.kind", why, remedy));
        }
        if train.determinism == Determinism::AnyWorld && head.placement == HeadPlacement::Sharded {
            let why = "divided classes are added up in an order that depends on the number of ranks";
            let remedy = "set `head.placement` to replicated, or `train.determinism` to same_world";
            return Err(self.conflict("head.placement", "train.determinism", why, remedy));
        }
        let from_text = head.init == WordOrFile::Word(HeadInit::Text);
        if head.kind.is_trained() && from_text && no_text {
            let why = "this model has no text tower";
            let remedy = "set `head.init` to class_mean, or choose a CLIP model";
            return Err(self.conflict("head.init", "model.kind", why, remedy));
        }
        Ok(())
    }

    fn required(&self) -> Result<(), ConfigError> {
        let Config { data, model, .. } = self.config;
        let required =
            |key, why: &str, example| Err(ConfigError::Required { key, why: why.to_owned(), example });
        if data.layout != Layout::Demo && data.root.is_none() {
            return required("data.root", "it is the folder that holds the data set", "FOLDER");
        }
        if data.layout == Layout::Lists {
            if data.train_list.is_none() {
                return required(
                    "data.train_list",
                    "`data.layout = \"lists\"` needs the training list",
                    "FILE",
                );
            }
            if data.test_list.is_none() {
                return required("data.test_list", "`data.layout = \"lists\"` needs the test list", "FILE");
            }
            if self.uses_text() && data.class_names.is_none() {
                let why = "the head starts from the text features of the class names, one a line";
                return required("data.class_names", why, "FILE");
            }
        }
        if model.kind != ModelKind::Demo && model.weights.is_none() {
            return required("model.weights", "it is the file of the backbone", "FILE");
        }
        Ok(())
    }

    fn data_that_is_idle(&self) -> Result<(), ConfigError> {
        let layout = self.config.data.layout;
        let lists = ["data.train_list", "data.test_list", "data.images"];
        self.idle_unless(layout != Layout::Demo, &["data.root", "data.max_bad_images"], "data.layout")?;
        self.idle_unless(layout == Layout::Lists, &lists, "data.layout")?;
        let names_classes = matches!(layout, Layout::Lists | Layout::Folders);
        self.idle_unless(names_classes, &["data.class_names"], "data.layout")?;
        self.idle_unless(layout.is_cifar100(), &["data.imbalance"], "data.layout")?;
        self.idle_unless(layout == Layout::Demo, &["data.demo_seed"], "data.layout")
    }

    fn sampler_settings_that_are_idle(&self) -> Result<(), ConfigError> {
        let sampler = self.config.data.sampler;
        self.idle_unless(sampler == Sampler::ClassAware, &["data.samples_per_class"], "data.sampler")?;
        self.idle_unless(sampler == Sampler::RepeatFactor, &["data.repeat_threshold"], "data.sampler")?;
        self.idle_unless(sampler == Sampler::NShot, &["data.shots"], "data.sampler")
    }

    fn model_and_tuner_that_are_idle(&self) -> Result<(), ConfigError> {
        let Config { model, tuner, .. } = self.config;
        self.idle_unless(model.kind != ModelKind::Demo, &OF_A_FILE, "model.kind")?;
        self.idle_unless(tuner.kind == TunerKind::Adaptformer, &["tuner.adapter_dim"], "tuner.kind")?;
        self.idle_unless(tuner.kind != TunerKind::None, &["tuner.partial"], "tuner.kind")
    }

    fn head_and_loss_that_are_idle(&self) -> Result<(), ConfigError> {
        let Config { head, loss, .. } = self.config;
        self.idle_unless(head.kind == HeadKind::Cosine, &["head.scale"], "head.kind")?;
        self.idle_unless(head.kind.is_trained(), &["head.init", "head.shots"], "head.kind")?;
        let draws = head.init == WordOrFile::Word(HeadInit::Shots);
        self.idle_unless(draws, &["head.shots"], "head.init")?;
        self.texts_that_are_idle()?;
        self.idle_unless(loss.kind == LossKind::LogitAdjusted, &["loss.tau", "loss.prior"], "loss.kind")
    }

    fn texts_that_are_idle(&self) -> Result<(), ConfigError> {
        let Config { model, head, .. } = self.config;
        let is_auto = head.init == WordOrFile::Word(HeadInit::Auto);
        let cause = if is_auto && !model.kind.has_text_tower() { "model.kind" } else { "head.init" };
        self.idle_unless(self.uses_text(), &["head.prompts", "head.prompt"], cause)?;
        let by_template = head.prompts == WordOrFile::Word(Prompts::Default);
        self.idle_unless(by_template, &["head.prompt"], "head.prompts")
    }

    fn training_that_is_idle(&self) -> Result<(), ConfigError> {
        let Config { head, train, eval, .. } = self.config;
        self.idle_unless(head.kind.is_trained(), &TRAINING, "head.kind")?;
        let micro_cuts = train.micro_batch_size <= train.batch_size;
        self.idle_unless(micro_cuts, &["train.micro_batch_size"], "train.batch_size")?;
        let any_world = train.determinism == Determinism::AnyWorld;
        self.idle_unless(any_world, &["train.virtual_shards"], "train.determinism")?;
        let buckets = ["distributed.overlap", "distributed.bucket_megabytes", "distributed.wire"];
        self.idle_unless(!any_world, &buckets, "train.determinism")?;
        let goes_on = train.non_finite != NonFinite::Stop;
        self.idle_unless(goes_on, &["train.max_non_finite"], "train.non_finite")?;
        let tests_before_the_end = train.epochs == 0 || eval.every_epochs <= train.epochs;
        self.idle_unless(tests_before_the_end, &["eval.every_epochs"], "train.epochs")
    }

    /// Text features are used, as the head or as its start.
    fn uses_text(&self) -> bool {
        let Config { model, head, .. } = self.config;
        head.uses_text(model.kind.has_text_tower())
    }

    /// Refuses keys that the user set although `cause` makes them idle.
    fn idle_unless(&self, effective: bool, keys: &[&str], cause: &str) -> Result<(), ConfigError> {
        if effective {
            return Ok(());
        }
        for key in keys {
            if let Some(entry) = self.entries.get(*key).filter(|entry| entry.origin.is_of_user()) {
                return Err(ConfigError::NoEffect {
                    key: (*key).to_owned(),
                    origin: entry.origin.clone(),
                    setting: self.setting(cause),
                    cause: cause.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn conflict(&self, one: &str, other: &str, why: &'static str, remedy: &'static str) -> ConfigError {
        ConfigError::Conflict { one: self.setting(one), other: self.setting(other), why, remedy }
    }

    fn setting(&self, key: &str) -> String {
        self.entries.get(key).map_or_else(|| format!("`{key}`"), |entry| setting(key, entry))
    }
}

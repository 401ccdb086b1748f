//! Combinations: values that exclude each other, or that are missing. Each key declares the settings with which it has
//! no effect, see [`idle`](super::idle).

use super::entry::{Setting, setting_of};
use super::error::ConfigError;
use super::{Config, Determinism, HeadPlacement, LayoutName, ModelKind};
use crate::engine::setup::head_init::text;
use crate::model::heads::zero_shot;
use crate::model::losses::lade;
use crate::model::tuners::excluded;
use crate::options::OrFile;
use std::collections::BTreeMap;

/// Refuses the first contradictory combination.
pub(super) fn conflicts(config: &Config, entries: &BTreeMap<String, Setting>) -> Result<(), ConfigError> {
    let Config { model, tuner, head, loss, train, .. } = config;
    let conflict = |one, other, why, remedy| {
        let (one, other) = (setting_of(one, entries), setting_of(other, entries));
        Err(ConfigError::Conflict { one, other, why, remedy })
    };
    excluded(&tuner.kinds)
        .map_err(|error| ConfigError::Excluded { setting: setting_of("tuner.kinds", entries), error })?;
    let zero_shot = head.kind.is(&zero_shot::METHOD);
    let no_text = !model.kind.has_text_tower();
    if zero_shot && no_text {
        let why = "it compares images with text, and this model has no text tower";
        return conflict("head.kind", "model.kind", why, "choose another method or a CLIP model");
    }
    if zero_shot && !tuner.kinds.is_none() {
        let why = "zero-shot classification trains nothing";
        let remedy = "leave out one of them, or choose another method";
        return conflict("tuner.kinds", "head.kind", why, remedy);
    }
    if zero_shot && train.epochs > 0 {
        let why = "zero-shot classification trains nothing";
        let remedy = "set `train.epochs` to 0, or choose another method";
        return conflict("train.epochs", "head.kind", why, remedy);
    }
    if train.determinism == Determinism::AnyWorld && head.placement == HeadPlacement::Sharded {
        let why = "sharded classes are added up in an order that depends on the number of ranks";
        let remedy = "set `head.placement` to replicated, or `train.determinism` to same_world";
        return conflict("head.placement", "train.determinism", why, remedy);
    }
    if loss.kind.is(&lade::METHOD) && head.placement == HeadPlacement::Sharded {
        let why = "LADE needs all logits of a sample on one rank";
        let remedy = "set `head.placement` to replicated, or choose another loss";
        return conflict("head.placement", "loss.kind", why, remedy);
    }
    let from_text = matches!(&head.init, OrFile::Word(init) if init.is(&text::METHOD));
    if !zero_shot && from_text && no_text {
        let why = "this model has no text tower";
        let remedy = "set `head.init` to class_mean, or choose a CLIP model";
        return conflict("head.init", "model.kind", why, remedy);
    }
    Ok(())
}

/// Refuses a model without the file of its weights. What reads images alone does not need it.
pub(super) fn required_weights(config: &Config) -> Result<(), ConfigError> {
    if config.model.kind == ModelKind::Demo || config.model.weights.is_some() {
        return Ok(());
    }
    let why = "it is the file of the backbone, which you download (README, Backbones and data)".to_owned();
    Err(ConfigError::Required { key: "model.weights", why, example: "FILE" })
}

/// Refuses the first missing value of the data set.
pub(super) fn required(config: &Config) -> Result<(), ConfigError> {
    let Config { data, model, head, .. } = config;
    let required = |key, why: &str, example| Err(ConfigError::Required { key, why: why.to_owned(), example });
    if data.layout != LayoutName::Demo && data.root.is_none() {
        return required("data.root", "it is the folder that holds the data set", "FOLDER");
    }
    if data.layout == LayoutName::Lists {
        if data.train_list.is_none() {
            return required("data.train_list", "`data.layout = \"lists\"` needs the training list", "FILE");
        }
        if data.test_list.is_none() {
            return required("data.test_list", "`data.layout = \"lists\"` needs the test list", "FILE");
        }
        if head.uses_text(model.kind.has_text_tower()) && data.class_names.is_none() {
            let why = "the head starts from the text features of the class names, one a line";
            return required("data.class_names", why, "FILE");
        }
    }
    Ok(())
}

//! Tests of the whole room, by subject.

mod changed;
mod combinations;
mod files;
mod layers;
mod options;
mod presets;
mod refusals;
mod round_trip;

use super::{ConfigError, CropsName, Origin, Presets, Resolved, Selection};
use std::path::Path;

/// A working directory that need not exist.
const HERE: &str = "/home/me";

/// A selection of demo data and model, where nothing more is required.
fn demo(method: &str, set: &[&str]) -> Selection {
    select("demo", "demo", method, set)
}

/// CIFAR-100-LT and CLIP with what they require.
fn cifar(method: &str, set: &[&str]) -> Selection {
    let required = ["data.root=/data/cifar", "model.weights=/weights/clip.safetensors"];
    select("cifar100_ir100", "clip_vit_b16", method, &[&required, set].concat())
}

fn select(data: &str, model: &str, method: &str, set: &[&str]) -> Selection {
    let set = set.iter().map(|&argument| argument.to_owned()).collect();
    Selection { data: data.to_owned(), model: model.to_owned(), method: method.to_owned(), set }
}

fn resolve(selection: &Selection) -> Result<Resolved, ConfigError> {
    Resolved::new(selection, &Presets::embedded(), Path::new(HERE))
}

#[track_caller]
fn resolved(selection: &Selection) -> Resolved {
    resolve(selection).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of the refusal.
#[track_caller]
fn refusal(selection: &Selection) -> String {
    match resolve(selection) {
        Ok(_) => panic!("{selection:?} was not refused"),
        Err(error) => error.to_string(),
    }
}

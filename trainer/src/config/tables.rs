//! The tables of the configuration: its sections, and in them the options of all methods.

use super::sections::{
    backbone::BackboneOptions, checkpoint::CheckpointOptions, data::DataOptions,
    distributed::DistributedOptions, eval::EvalOptions, head::HeadOptions, loss::LossOptions,
    model::ModelOptions, train::TrainOptions, tuner::TunerOptions,
};
use crate::engine::setup::head_init::HeadInits;
use crate::model::{heads::Heads, losses::Losses, tuners::Tuners};
use crate::options::{Declared, Description, OptionKey, Section};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// All sections, in the order of [`Config`](super::Config).
const SECTIONS: [&Section; 10] = [
    &DataOptions::SECTION,
    &TrainOptions::SECTION,
    &ModelOptions::SECTION,
    &BackboneOptions::SECTION,
    &TunerOptions::SECTION,
    &HeadOptions::SECTION,
    &LossOptions::SECTION,
    &EvalOptions::SECTION,
    &CheckpointOptions::SECTION,
    &DistributedOptions::SECTION,
];

/// Every method of every kind, with its options.
pub fn methods() -> impl Iterator<Item = Description> {
    let tuners = Description::all::<Tuners>();
    let heads = Description::all::<Heads>().chain(Description::all::<HeadInits>());
    tuners.chain(heads).chain(Description::all::<Losses>())
}

/// A table of the configuration: a section, and the options of methods in the same table.
#[derive(Debug)]
pub struct OptionTable {
    /// Name of the table.
    pub name: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// Its keys: those of the section, then those of methods.
    pub keys: Vec<&'static OptionKey>,
}

/// Methods that have an option, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OptionUsers {
    /// The key that chooses among methods of this kind.
    pub(super) key: &'static str,
    /// Words of the methods that have the option.
    pub(super) words: Vec<&'static str>,
}

static TABLES: LazyLock<Vec<OptionTable>> = LazyLock::new(|| SECTIONS.map(table).into());
static USERS: LazyLock<BTreeMap<&'static str, Vec<OptionUsers>>> = LazyLock::new(users_of_all);
static NAMES: LazyLock<BTreeMap<&'static str, &'static OptionKey>> = LazyLock::new(|| {
    let former = keys().filter_map(|key| Some((key.formerly?, key)));
    keys().map(|key| (key.name, key)).chain(former).collect()
});

/// All tables.
pub fn tables() -> &'static [OptionTable] {
    &TABLES
}

/// All keys, in the order of the tables.
pub(super) fn keys() -> impl Iterator<Item = &'static OptionKey> + Clone {
    TABLES.iter().flat_map(|table| table.keys.iter().copied())
}

/// The key of a full name, `section.key`, which may be a former name.
pub(super) fn find_key(name: &str) -> Option<&'static OptionKey> {
    NAMES.get(name).copied()
}

/// The methods that have a key as an option, by kind; empty if it does not belong to a method.
pub(super) fn users(key: &OptionKey) -> &'static [OptionUsers] {
    USERS.get(key.name).map_or(&[], Vec::as_slice)
}

fn table(section: &'static Section) -> OptionTable {
    let mut keys: Vec<&'static OptionKey> = section.keys.iter().collect();
    for key in options_of_methods().filter(|(_, part, _)| part.name == section.name).map(|(.., key)| key) {
        if keys.iter().all(|known| known.name != key.name) {
            keys.push(key);
        }
    }
    OptionTable { name: section.name, about: section.about, keys }
}

fn options_of_methods() -> impl Iterator<Item = (Description, &'static Section, &'static OptionKey)> {
    methods().flat_map(|method| {
        let keys = move |section: &'static Section| section.keys.iter().map(move |key| (section, key));
        method.options.iter().copied().flat_map(keys).map(move |(section, key)| (method, section, key))
    })
}

fn users_of_all() -> BTreeMap<&'static str, Vec<OptionUsers>> {
    let mut all: BTreeMap<&'static str, Vec<OptionUsers>> = BTreeMap::new();
    for (method, _, key) in options_of_methods() {
        let users = all.entry(key.name).or_default();
        match users.iter_mut().find(|users| users.key == method.key) {
            Some(users) => users.words.push(method.word),
            None => users.push(OptionUsers { key: method.key, words: vec![method.word] }),
        }
    }
    all
}

//! The configuration of a run with some values changed.

use super::entry::Setting;
use super::error::ConfigError;
use super::layers::Layers;
use super::origin::Origin;
use super::paths::{PathBase, follow_folders};
use super::resolved::Resolved;
use super::tables::find_key;
use crate::options::OptionKey;
use std::collections::BTreeMap;
use std::path::Path;

impl Resolved {
    /// This configuration with `--set` flags applied, whose relative paths are relative to `folder`.
    ///
    /// If they change `data.root`, lists and folders below the old root move to the new one.
    pub fn changed(&self, set: &[String], folder: &Path) -> Result<Self, ConfigError> {
        let entries = self.config.pairs().into_iter().map(|(key, value)| {
            let origin = self.origins.get(key).cloned().unwrap_or(Origin::Run);
            (key.to_owned(), Setting { value, origin })
        });
        let before: BTreeMap<_, _> = entries.collect();
        let mut layers = Layers::of(before.clone());
        for argument in set {
            layers.add_set(argument, &PathBase::Flag(folder.to_owned()))?;
        }
        let mut entries = layers.into_entries();
        let is_set = |key: &str| {
            let mut names = set.iter().filter_map(|set| set.split_once('='));
            names.any(|(name, _)| find_key(name.trim()).is_some_and(|set| set.name == key))
        };
        follow_folders(&mut entries, &before, |key: &OptionKey| is_set(key.name))?;
        if is_set("eval.crops") {
            // Crop options of the run may have no effect with other crops; that is not an error of this command.
            for key in ["eval.expand", "eval.random_crops"].into_iter().filter(|key| !is_set(key)) {
                if let Some(entry) = entries.get_mut(key) {
                    entry.origin = Origin::Run;
                }
            }
        }
        Self::from_entries(entries, self.names.clone(), self.presets.clone())
    }
}

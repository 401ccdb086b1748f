//! The configuration of a run with some values changed.

use super::error::ConfigError;
use super::layers::{Entry, Layers};
use super::origin::Origin;
use super::paths::{Start, follow_root};
use super::resolved::Resolved;
use std::path::Path;

impl Resolved {
    /// This configuration with `--set` flags over it, whose relative paths start at `folder`.
    ///
    /// Where they move `data.root`, lists and folders that lie below the old one move along.
    pub fn changed(&self, set: &[String], folder: &Path) -> Result<Self, ConfigError> {
        let entries = self.config.values().into_iter().map(|(key, value)| {
            let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Run);
            (key, Entry { value, origin })
        });
        let mut layers = Layers::of(entries.collect());
        for argument in set {
            layers.add_set(argument, &Start::Flag(folder.to_owned()))?;
        }
        let mut entries = layers.into_entries();
        let old = self.config.data.root.as_ref().map(|root| root.display().to_string()).unwrap_or_default();
        let is_set =
            |key: &str| set.iter().any(|set| set.split_once('=').is_some_and(|(set, _)| set.trim() == key));
        follow_root(&mut entries, &old, is_set)?;
        if is_set("eval.crops") {
            // What the run's user chose for its crops may be idle for others, and is no mistake of now.
            for key in ["eval.expand", "eval.random_crops"].into_iter().filter(|key| !is_set(key)) {
                if let Some(entry) = entries.get_mut(key) {
                    entry.origin = Origin::Run;
                }
            }
        }
        Self::from_entries(entries, self.names.clone(), self.presets.clone())
    }
}

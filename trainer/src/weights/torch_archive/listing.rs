//! The tensors of a pickle by name.

use super::{MAX_DEPTH, MAX_ENTRIES, MAX_NAME_BYTES, MAX_TENSORS, TorchFileProblem};
use crate::pickle::{ObjectId, printable};
use crate::weights::torch_pickle::{TensorRef, TorchObject, TorchPickle, TorchValue};
use std::collections::BTreeMap;

/// The named tensors of a pickle.
pub(super) struct Listing<'p, 'a> {
    pickle: &'p TorchPickle<'a>,
    /// Tensors by name: keys of nested dictionaries joined by dots.
    pub(super) tensors: BTreeMap<String, &'p TensorRef<'a>>,
    /// Names of the entries that are no tensors.
    pub(super) other: Vec<String>,
    visited: usize,
}

impl<'p, 'a> Listing<'p, 'a> {
    /// Lists a pickle whose root is a dictionary or a module.
    pub(super) fn of(pickle: &'p TorchPickle<'a>) -> Result<Self, TorchFileProblem> {
        let mut listing = Self { pickle, tensors: BTreeMap::new(), other: Vec::new(), visited: 0 };
        match pickle.value(pickle.root()) {
            TorchValue::Dict(_) | TorchValue::Special(TorchObject::Object(Some(_))) => {
                listing.walk(pickle.root(), &mut String::new(), 0)?;
                Ok(listing)
            }
            _ => Err(TorchFileProblem::NotNamed { place: "the whole".to_owned() }),
        }
    }

    /// The dictionaries that a file consists of, where no tensor lies beside them: what a training script
    /// wraps a state dict in, and what it keeps of its optimiser.
    pub(super) fn tables(&self) -> Vec<&'a str> {
        let TorchValue::Dict(entries) = self.pickle.value(self.pickle.root()) else { return Vec::new() };
        if entries.iter().any(|&(_, value)| {
            matches!(self.pickle.value(value), TorchValue::Special(TorchObject::Tensor(_)))
        }) {
            return Vec::new();
        }
        let table =
            |&(key, value): &(ObjectId, ObjectId)| match (self.pickle.value(key), self.pickle.value(value)) {
                (
                    &TorchValue::Text(key),
                    TorchValue::Dict(_) | TorchValue::Special(TorchObject::Object(Some(_))),
                ) => Some(key),
                _ => None,
            };
        entries.iter().filter_map(table).collect()
    }

    /// Lists what is below `id`, whose name is `name`. Depth, names and visits are bounded, so that
    /// dictionaries that hold each other end.
    fn walk(&mut self, id: ObjectId, name: &mut String, depth: usize) -> Result<(), TorchFileProblem> {
        self.visited += 1;
        limit(self.visited, "entries", MAX_ENTRIES)?;
        limit(depth, "levels of nesting", MAX_DEPTH)?;
        limit(name.len(), "bytes in a name", MAX_NAME_BYTES)?;
        match self.pickle.value(id) {
            TorchValue::Special(TorchObject::Tensor(tensor)) => {
                limit(self.tensors.len() + 1, "tensors", MAX_TENSORS)?;
                match self.tensors.insert(name.clone(), tensor) {
                    None => Ok(()),
                    Some(_) => Err(TorchFileProblem::Twice { name: printable(name) }),
                }
            }
            TorchValue::Special(TorchObject::Object(Some(attributes))) => self.walk(*attributes, name, depth),
            TorchValue::Dict(entries) => {
                entries.iter().try_for_each(|&(key, value)| match *self.pickle.value(key) {
                    TorchValue::Text(key) => self.walk_entry(key, value, name, depth),
                    TorchValue::Int(key) => self.walk_entry(&key.to_string(), value, name, depth),
                    _ => Err(TorchFileProblem::NotNamed { place: format!("entry `{}`", printable(name)) }),
                })
            }
            TorchValue::List(items) | TorchValue::Tuple(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, &item)| self.walk_entry(&index.to_string(), item, name, depth)),
            _ => {
                self.other.push(name.clone());
                Ok(())
            }
        }
    }

    fn walk_entry(
        &mut self,
        key: &str,
        value: ObjectId,
        name: &mut String,
        depth: usize,
    ) -> Result<(), TorchFileProblem> {
        limit(key.len(), "bytes in a name", MAX_NAME_BYTES)?;
        let length = name.len();
        if depth > 0 {
            name.push('.');
        }
        name.push_str(key);
        self.walk(value, name, depth + 1)?;
        name.truncate(length);
        Ok(())
    }
}

fn limit(found: usize, what: &'static str, limit: usize) -> Result<(), TorchFileProblem> {
    if found > limit { Err(TorchFileProblem::Limit { what, limit: limit as u64 }) } else { Ok(()) }
}

//! The tuners of a model, each with the blocks that it tunes.

use super::{MakeTuner, Tuner, TunerContext, Tuners, bias, full, layer_norm, masked, vpt};
use crate::model::precision::Precision;
use crate::model::tower::{Field, Tower, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Method, Registry, Several, Values};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Pairs of tuners of which only one can be used, and why.
const EXCLUDED: [(&Method<MakeTuner>, &Method<MakeTuner>, &str); 4] = [
    (&full::METHOD, &bias::METHOD, "full trains the biases already"),
    (&full::METHOD, &layer_norm::METHOD, "full trains the norms already"),
    (&full::METHOD, &masked::METHOD, "both would train the weights of the linear layers"),
    (&vpt::SHALLOW, &vpt::DEEP, "both put prompts behind the same tokens"),
];

/// Two tuners that exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{one}` and `{other}` cannot be used together, because {why}\nhint: leave out one of them")]
pub struct Excluded {
    one: &'static str,
    other: &'static str,
    why: &'static str,
}

/// Refuses tuners that exclude each other.
pub fn excluded(kinds: &Several<Tuners>) -> Result<(), Excluded> {
    match EXCLUDED.iter().find(|(one, other, _)| kinds.contains(one) && kinds.contains(other)) {
        Some(&(one, other, why)) => Err(Excluded { one: one.word, other: other.word, why }),
        None => Ok(()),
    }
}

/// The tuners of a model, in the order in which they act.
#[derive(Debug, Default)]
pub struct TunerSet(Vec<(Box<dyn Tuner>, Range<usize>)>);

impl TunerSet {
    /// Those of these kinds and options, for the blocks of `site`.
    pub fn of(kinds: &Several<Tuners>, options: &Values, site: &TunerContext) -> Result<Self, Excluded> {
        excluded(kinds)?;
        let mut tuners = Self::default();
        for method in Tuners::METHODS.iter().filter(|method| kinds.contains(method)) {
            tuners.push((method.make)(options, site), site.blocks.clone());
        }
        Ok(tuners)
    }

    /// Adds a tuner of the blocks `layers`.
    pub fn push(&mut self, tuner: Box<dyn Tuner>, layers: Range<usize>) {
        self.0.push((tuner, layers));
    }

    fn of_block(&self, block: usize) -> impl Iterator<Item = &dyn Tuner> {
        self.0.iter().filter(move |(_, layers)| layers.contains(&block)).map(|(tuner, _)| tuner.as_ref())
    }

    /// The tensors of a block that are trained in place, by name; a tensor that several tuners train is trained once,
    /// under the first one's name.
    pub fn trained_in_place(&self, block: usize, fields: &[Field]) -> BTreeMap<Field, String> {
        let mut trained = BTreeMap::new();
        for (field, name) in self.of_block(block).flat_map(|tuner| tuner.own_tensors(block, fields)) {
            trained.entry(field).or_insert(name);
        }
        trained
    }

    /// The trainable tensors of a block, whose own tensors are `values`.
    pub fn parameters(
        &self,
        block: usize,
        fields: &[Field],
        values: &dyn Fn(Field) -> Tensor,
    ) -> Vec<ParameterSpec> {
        let names = self.trained_in_place(block, fields);
        let in_place = |tuner: &dyn Tuner| {
            let own = tuner.own_tensors(block, fields).into_iter();
            own.filter(|(field, name)| names[field] == *name).map(|(field, name)| {
                let value = values(field);
                ParameterSpec::new(name, &value.size(), Init::Value(value))
            })
        };
        let mut specs = Vec::new();
        for tuner in self.of_block(block) {
            specs.extend(in_place(tuner));
            specs.extend(tuner.parameters(block, values));
        }
        specs.into_iter().map(|spec| spec.in_unit(block)).collect()
    }

    /// Puts the trainable tensors into the tower, and returns the hooks inside its blocks.
    pub fn attach(
        &self,
        tower: &mut dyn Tower,
        trainables: &Trainables,
        precision: Precision,
    ) -> Result<Vec<Vec<Box<dyn UnitTuner>>>, UnknownParameter> {
        let mut units = Vec::new();
        for block in 0..tower.shape().layers {
            let fields: Vec<Field> = tower.block_tensors(block).iter().map(|(field, _)| *field).collect();
            let names = self.trained_in_place(block, &fields);
            for (field, slot) in tower.block_tensors_mut(block) {
                if let Some(name) = names.get(&field) {
                    *slot = trainables.get(name)?;
                }
            }
            let mut acting = Vec::new();
            for tuner in self.of_block(block) {
                acting.extend(tuner.attach(block, trainables, precision)?);
            }
            units.push(acting);
        }
        Ok(units)
    }

    /// The number of blocks, of `depth`, without frozen tensors.
    pub fn whole_blocks(&self, depth: usize) -> usize {
        let whole = |block: &usize| {
            self.trained_in_place(*block, &[Field::QkvWeight]).contains_key(&Field::QkvWeight)
        };
        (0..depth).filter(whole).count()
    }

    /// The tensors that belong to the trained ones but are not trained.
    pub fn constants(&self) -> Vec<(String, Tensor)> {
        self.0.iter().flat_map(|(tuner, _)| tuner.constants()).collect()
    }
}

impl fmt::Display for TunerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (place, (tuner, layers)) in self.0.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            // `AdaptFormer { width: 128, dim: 8 }` without the marks of Rust.
            let words = format!("{tuner:?}").replace(" { ", " (").replace(" }", ")").replace(": ", " ");
            write!(f, "{comma}{words} in blocks {} to {}", layers.start, layers.end.saturating_sub(1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionType as _;

    #[test]
    fn tuners_of_the_same_tensors_are_refused_by_name() {
        let kinds = |words: &[&str]| {
            let words = words.iter().map(|&word| word.into()).collect();
            Several::<Tuners>::read(&toml::Value::Array(words)).unwrap()
        };
        for (one, other, _) in EXCLUDED {
            let error = excluded(&kinds(&[other.word, "lora", one.word])).unwrap_err().to_string();
            assert!(error.contains(one.word) && error.contains(other.word), "{error}");
        }
        excluded(&kinds(&["bias", "layer_norm", "masked", "lora"])).unwrap();
    }
}

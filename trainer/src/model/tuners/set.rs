//! The tuners of a model, each with the blocks that it tunes.

use super::{Settings, TUNERS, Tuner, TunerError};
use crate::model::precision::Precision;
use crate::model::tower::{Field, Tower, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Pairs of tuners of which only one can be used, and why.
const EXCLUDED: [(&str, &str, &str); 4] = [
    ("full", "bias", "full trains the biases already"),
    ("full", "layer_norm", "full trains the norms already"),
    ("full", "masked", "both would train the weights of the linear layers"),
    ("vpt_shallow", "vpt_deep", "both put prompts behind the same tokens"),
];

/// Why the tuners of these words cannot be used together, if so.
pub fn excluded<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Option<TunerError> {
    let has = |word: &str| words.clone().any(|its| its == word);
    let found = EXCLUDED.iter().find(|(one, other, _)| has(one) && has(other));
    found.map(|&(one, other, why)| TunerError::Excluded { one, other, why })
}

/// The tuners of a model, in the order in which they act.
#[derive(Debug, Default)]
pub struct Tuners(Vec<(Box<dyn Tuner>, Range<usize>)>);

impl Tuners {
    /// Those of these words, for blocks `settings.layers`.
    pub fn of_words<'a>(
        words: impl Iterator<Item = &'a str> + Clone,
        settings: &Settings,
    ) -> Result<Self, TunerError> {
        if let Some(unknown) = words.clone().find(|word| TUNERS.iter().all(|tuner| tuner.word != *word)) {
            return Err(TunerError::Unknown(unknown.to_owned()));
        }
        excluded(words.clone()).map_or(Ok(()), Err)?;
        let mut tuners = Self::default();
        for method in TUNERS.iter().filter(|method| words.clone().any(|word| word == method.word)) {
            tuners.push((method.build)(settings)?, settings.layers.clone());
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

    /// Second names of tensors that several tuners train, and the names that they have here.
    pub fn aliases(&self, tower: &dyn Tower) -> Vec<(String, String)> {
        let of_block = |block: usize| {
            let fields: Vec<Field> = tower.block_tensors(block).iter().map(|(field, _)| *field).collect();
            let names = self.trained_in_place(block, &fields);
            let all = self.of_block(block).flat_map(|tuner| tuner.own_tensors(block, &fields));
            let second = all.filter(|(field, name)| names[field] != *name);
            second.map(|(field, name)| (name, names[&field].clone())).collect::<Vec<_>>()
        };
        (0..tower.shape().layers).flat_map(of_block).collect()
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

    /// Puts the trainable tensors into the tower, and gives what acts inside its blocks.
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

    /// How many of `depth` blocks have nothing frozen in them.
    pub fn whole_blocks(&self, depth: usize) -> usize {
        let whole = |block: &usize| {
            self.trained_in_place(*block, &[Field::QkvWeight]).contains_key(&Field::QkvWeight)
        };
        (0..depth).filter(whole).count()
    }

    /// What belongs to the tensors and is not trained.
    pub fn constants(&self) -> Vec<(String, Tensor)> {
        self.0.iter().flat_map(|(tuner, _)| tuner.constants()).collect()
    }
}

impl fmt::Display for Tuners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (place, (tuner, layers)) in self.0.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{tuner:?} in blocks {layers:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuners_of_the_same_tensors_are_refused_by_name() {
        for (one, other, _) in EXCLUDED {
            let error = excluded([other, "lora", one].into_iter()).expect("refused").to_string();
            assert!(error.contains(one) && error.contains(other), "{error}");
        }
        assert!(excluded(["bias", "layer_norm", "masked", "lora"].into_iter()).is_none());
    }

    #[test]
    fn every_excluded_word_is_a_tuner() {
        let known = |word: &str| TUNERS.iter().any(|tuner| tuner.word == word);
        assert!(EXCLUDED.iter().all(|(one, other, _)| known(one) && known(other)));
    }
}

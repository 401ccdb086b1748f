//! Folds tuners into the weights of the blocks.
//!
//! Most tuners change a linear layer by another linear map (LoRA, SSF, IA3, masked weights), a norm by a factor and a shift
//! per channel (SSF), or the hidden layer of the MLP by a factor per channel (IA3). What such a tuner does is read off its
//! own code: the layer is applied to the unit vectors and to zero, with the tuners, and the answers are the columns and
//! the bias of the folded layer. A tuner that is trained in place (full, bias, layer norms) is in the weights already.
//! Tuners with a [`TunerModule`](super::tuners::TunerModule) stay as they are.

use super::Model;
use super::layers::Linear;
use super::precision::Precision;
use super::tower::{Field, LinearSite, NormSite, UnitTuner};
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad};

/// The blocks are sharded over ranks, so this process has no weights to fold into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "tuners can be folded only where every rank has the whole backbone, found sharded blocks\nhint: use `--set backbone.placement=replicated`"
)]
pub struct ShardedBlocks;

type Fields = BTreeMap<Field, Tensor>;

impl Model {
    /// Folds every tuner that has no module of its own into the weights of its block. The function of the model stays the
    /// same up to rounding.
    pub fn fold(&mut self) -> Result<(), ShardedBlocks> {
        if self.slices.is_some() {
            return Err(ShardedBlocks);
        }
        for index in 0..self.units.len() {
            let own = self.tower.block_tensors(index).into_iter();
            let own: Fields =
                own.map(|(field, tensor)| (field, tensor.detach().to_kind(Kind::Double))).collect();
            let tuners = std::mem::take(&mut self.units[index]);
            let folded = no_grad(|| folded(&own, &tuners));
            for (field, slot) in self.tower.block_tensors_mut(index) {
                if let Some(tensor) = folded.get(&field) {
                    *slot = tensor.to_kind(slot.kind());
                }
            }
            self.units[index] = tuners.into_iter().filter(|tuner| tuner.module().is_some()).collect();
        }
        Ok(())
    }
}

/// The tensors of a block, in double precision, with its tuners folded in.
fn folded(own: &Fields, tuners: &[Box<dyn UnitTuner>]) -> Fields {
    let mut folded = Fields::new();
    for site in LinearSite::ALL {
        let (weight, bias) = site.fields();
        let layer = Linear::new(own[&weight].shallow_clone(), own[&bias].shallow_clone(), Precision::FP64);
        let (tuned_weight, tuned_bias) = linear(site, &layer, tuners);
        folded.insert(weight, tuned_weight);
        folded.insert(bias, tuned_bias);
    }
    let fc2 = &folded[&Field::Fc2Weight];
    let scaled = fc2 * hidden_factors(fc2, tuners);
    folded.insert(Field::Fc2Weight, scaled);
    let norms = [
        (NormSite::First, Field::Norm1Weight, Field::Norm1Bias),
        (NormSite::Second, Field::Norm2Weight, Field::Norm2Bias),
    ];
    for (site, weight, bias) in norms {
        let tuned = |y: Tensor| tuners.iter().fold(y, |y, tuner| tuner.norm(site, y));
        let shift = tuned(own[&bias].zeros_like());
        let factor = tuned(own[&bias].ones_like()) - &shift;
        folded.insert(weight, &own[&weight] * &factor);
        folded.insert(bias, &own[&bias] * &factor + shift);
    }
    folded
}

/// Weight and bias of a layer as its tuners change it.
fn linear(site: LinearSite, own: &Linear, tuners: &[Box<dyn UnitTuner>]) -> (Tensor, Tensor) {
    let replaced = tuners.iter().find_map(|tuner| tuner.replace(site, own));
    let layer = replaced.as_ref().unwrap_or(own);
    let (outputs, inputs) = (own.weight.size()[0], own.weight.size()[1]);
    // Rows of the input: zero, then every unit vector.
    let options = (own.weight.kind(), own.weight.device());
    let units = Tensor::eye(inputs, options).constant_pad_nd([0, 0, 1, 0]);
    let columns = 0..outputs;
    let y = layer.forward(&units);
    let answers = tuners.iter().fold(y, |y, tuner| tuner.linear(site, &units, &columns, y));
    let answers = answers.to_kind(Kind::Double);
    let bias = answers.get(0);
    ((answers.narrow(0, 1, inputs) - &bias).transpose(0, 1).contiguous(), bias)
}

/// What the tuners multiply the hidden layer of the MLP with, which `fc2` (`[width, hidden]`) reads.
fn hidden_factors(fc2: &Tensor, tuners: &[Box<dyn UnitTuner>]) -> Tensor {
    let ones = Tensor::ones([fc2.size()[1]], (fc2.kind(), fc2.device()));
    tuners.iter().fold(ones, |x, tuner| tuner.hidden(x))
}

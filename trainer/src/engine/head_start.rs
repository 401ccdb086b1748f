//! First values of the classifier, computed by all ranks together.

use crate::model::Model;
use crate::model::head::{rows_from_means, rows_from_text};
use crate::model::text::{TextTower, unit_rows};
use crate::model::tokenizer::{TokenizeError, Tokenizer, prompt};
use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use tch::{Kind, Tensor, no_grad};

/// Class names that go through the text tower at once. Fixed, so that the features do not depend on the
/// number of ranks.
const CHUNK: usize = 64;

/// Token ids of every class in the prompt, `[classes, context]`.
pub fn class_tokens(
    tower: &TextTower,
    tokenizer: &Tokenizer,
    template: &str,
    class_names: &[String],
) -> Result<Tensor, TokenizeError> {
    let texts: Vec<String> = class_names.iter().map(|name| prompt(template, name)).collect();
    let ids = tokenizer.tokenize(&texts, tower.context() as usize)?;
    Ok(Tensor::from_slice(&ids).view([texts.len() as i64, tower.context()]))
}

/// Unit text features of every class, `[classes, joint]`. Ranks take chunks of classes in turn.
pub fn text_features(
    tower: &TextTower,
    ids: &Tensor,
    group: &dyn ProcessGroup,
) -> Result<Tensor, CollectiveError> {
    let device = tower.positions.device();
    let shape = [ids.size()[0], tower.projection.size()[1]];
    let mut all = Tensor::zeros(shape, (tower.projection.kind(), device));
    no_grad(|| {
        for (i, chunk) in ids.split(CHUNK as i64, 0).into_iter().enumerate() {
            if i % group.size() == group.rank() {
                let features = unit_rows(&tower.features(&chunk.to_device(device)));
                all.narrow(0, (i * CHUNK) as i64, features.size()[0]).copy_(&features);
            }
        }
    });
    // Every row is non-zero on one rank only, so the sum is a copy, to the bit.
    group.all_reduce(&mut all, ReduceOp::Sum)?;
    Ok(all)
}

/// Rows of the cosine head from unit text features.
pub fn text_rows(text: &Tensor, projection: &Tensor) -> Tensor {
    no_grad(|| rows_from_text(text, projection))
}

/// Sums of frozen features by class, to be reduced over ranks.
pub struct ClassMeans {
    sums: Tensor,
    counts: Tensor,
}

impl ClassMeans {
    /// Nothing seen yet.
    pub fn new(model: &Model, classes: i64) -> Self {
        let options = (Kind::Double, model.device());
        let width = model.vision().shape.width;
        Self { sums: Tensor::zeros([classes, width], options), counts: Tensor::zeros([classes], options) }
    }

    /// Adds the images `bytes` of classes `labels`.
    pub fn add(&mut self, model: &Model, bytes: &Tensor, labels: &Tensor) {
        no_grad(|| {
            let features = model.frozen_features(bytes).to_kind(Kind::Double);
            let _ = self.sums.index_add_(0, labels, &features);
            let _ = self.counts.index_add_(0, labels, &labels.ones_like().to_kind(Kind::Double));
        });
    }

    /// Unit rows over all ranks' images, or the first class that has none.
    pub fn rows(mut self, group: &dyn ProcessGroup) -> Result<Result<Tensor, i64>, CollectiveError> {
        group.all_reduce(&mut self.sums, ReduceOp::Sum)?;
        group.all_reduce(&mut self.counts, ReduceOp::Sum)?;
        let empty = self.counts.eq(0.0);
        if empty.any().int64_value(&[]) != 0 {
            return Ok(Err(empty.to_kind(Kind::Int).argmax(0, false).int64_value(&[])));
        }
        Ok(Ok(no_grad(|| rows_from_means(&self.sums, &self.counts))))
    }
}

//! First values of the classifier, computed by all ranks together.

use super::bad_images::BadImages;
use super::failure::Failure;
use super::pass::Pass;
use super::tree::ShardTree;
use super::walk::Walk;
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

/// Unit mean features of the classes over all training images, or the first class that has none. Images that cannot
/// be read are left out, and `bad` knows them afterwards.
///
/// `shards` are parts of the list, of which each rank takes some; with a tree they are added up in its order.
pub fn class_means(
    walk: &Walk<'_>,
    pass: &Pass<'_>,
    classes: i64,
    tree: Option<ShardTree>,
    bad: &mut BadImages,
) -> Result<Result<Tensor, i64>, Failure> {
    let group = walk.rank.group.as_ref();
    let own =
        tree.map_or(group.rank() as u64..group.rank() as u64 + 1, |tree| tree.of_rank(group.rank() as u64));
    let mut parts = Vec::new();
    for number in 0..tree.map_or(1, |tree| tree.most()) {
        let shard = Some(own.start + number).filter(|shard| own.contains(shard));
        let sums = sums_of(walk, pass, (classes, shard), bad)?;
        parts.extend(shard.map(|_| sums));
    }
    let all = if let Some(tree) = tree {
        tree.sum(parts, group)?
    } else {
        let mut sums = parts.swap_remove(0);
        group.all_reduce(&mut sums, ReduceOp::Sum)?;
        sums
    };
    let width = all.size()[1] - 1;
    let (sums, counts) = (all.narrow(1, 0, width), all.select(1, width));
    let empty = counts.eq(0.0);
    if empty.any().int64_value(&[]) != 0 {
        return Ok(Err(empty.to_kind(Kind::Int).argmax(0, false).int64_value(&[])));
    }
    Ok(Ok(no_grad(|| rows_from_means(&sums, &counts))))
}

/// Sums of frozen features by class, and in the last column the number of images: `[classes, width + 1]`.
fn sums_of(
    walk: &Walk<'_>,
    pass: &Pass<'_>,
    (classes, shard): (i64, Option<u64>),
    bad: &mut BadImages,
) -> Result<Tensor, Failure> {
    let model = pass.model();
    let width = model.tower().shape().width;
    let mut sums = Tensor::zeros([classes, width + 1], (Kind::Double, model.device()));
    walk.through(shard, bad, |part| {
        let part = part.map(|(_, on_device)| on_device);
        let features = pass.features(part.map(|part| &part.bytes), false)?;
        if let Some((features, part)) = features.zip(part) {
            no_grad(|| {
                let features = features.to_kind(Kind::Double);
                let one = features.narrow(1, 0, 1).ones_like();
                let _ = sums.index_add_(0, &part.labels, &Tensor::cat(&[features, one], 1));
            });
        }
        Ok(())
    })?;
    Ok(sums)
}

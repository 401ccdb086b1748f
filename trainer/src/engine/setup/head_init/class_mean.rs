//! Class means: the row of a class is the mean feature of its training images, scaled to unit length.

use super::features::Features;
use super::view::{self, InitView};
use super::{HeadInit, InitContext, InitFacts, MakeHeadInit};
use crate::engine::failure::Failure;
use crate::model::text::unit_rows;
use crate::options::{Declared, Method};
use tch::{Kind, Tensor, no_grad};

/// Class means.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "class_mean",
    about: "Mean image features of each class over all its training images.",
    official: &["class_mean"],
    options: &[&view::ViewOptions::SECTION],
    make: |_| Ok(Box::new(ClassMean)),
};

/// The initialisation.
pub struct ClassMean;

impl HeadInit for ClassMean {
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        facts.every_class_has_images()
    }

    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        let rows = class_means(&context.features(context.train, InitView::Test))?;
        rows.map(Some).map_err(|class| context.unread(class))
    }
}

/// Unit mean features of the classes, `[classes, width]`, or the first class of which no image can be read.
pub fn class_means(features: &Features<'_>) -> Result<Result<Tensor, i64>, Failure> {
    let all =
        class_sums(features, |sums| features.for_each(|part, x, labels| add(&mut sums[part], x, labels)))?;
    let width = features.width();
    let (sums, counts) = (all.narrow(1, 0, width), all.select(1, width));
    Ok(match first_without_images(&counts) {
        Some(class) => Err(class),
        None => Ok(no_grad(|| unit_rows(&(sums / counts.view([-1, 1]))))),
    })
}

/// Sums of features by class, and in the last column the number of images, `[classes, width + 1]`: `fill` adds to one
/// such tensor for each part of this rank.
pub(crate) fn class_sums(
    features: &Features<'_>,
    fill: impl FnOnce(&mut Vec<Tensor>) -> Result<(), Failure>,
) -> Result<Tensor, Failure> {
    let shape = [features.classes, features.width() + 1];
    let empty = || Tensor::zeros(shape, (Kind::Double, features.pass.model().device()));
    let mut sums: Vec<Tensor> = (0..features.parts()).map(|_| empty()).collect();
    fill(&mut sums)?;
    Ok(features.sum(sums)?)
}

/// Adds features and their counts to the rows of their classes.
pub(crate) fn add(sums: &mut Tensor, features: &Tensor, labels: &Tensor) {
    let features = features.to_kind(Kind::Double);
    let one = features.narrow(1, 0, 1).ones_like();
    let _ = sums.index_add_(0, labels, &Tensor::cat(&[features, one], 1));
}

/// The first class without images.
pub(crate) fn first_without_images(counts: &Tensor) -> Option<i64> {
    let empty = counts.eq(0.0);
    let any = empty.any().int64_value(&[]) != 0;
    any.then(|| empty.to_kind(Kind::Int).argmax(0, false).int64_value(&[]))
}

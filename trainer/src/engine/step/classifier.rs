//! From features to loss and predicted classes, with replicated classes or with classes sharded over ranks.
//!
//! With sharded classes the features of all ranks are gathered, each rank computes the logits of its own classes for
//! all of them, and the softmax needs two small reductions: the greatest logit, and the sum of exponentials beside the
//! logit of the label. The gradient of the features is summed over ranks and scattered to the ranks that own them; the
//! gradient of a rank's classes is complete on that rank and is never communicated.

use crate::aten::backward_from;
use crate::data::order::shard::share;
use crate::engine::step::sharded_softmax::{NO_SAMPLE, ShardedSoftmax};
use crate::model::Model;
use crate::model::losses::{Columns, Loss};
use collectives::{CollectiveError, ProcessGroup};
use std::rc::Rc;
use tch::{Kind, Tensor, no_grad};

/// How the samples of a rank are scored against all classes.
pub enum Classifier {
    /// Every rank has all classes.
    Replicated,
    /// Each rank has some of the classes, and processes the samples of all ranks.
    ClassSharded {
        /// The ranks.
        group: Rc<dyn ProcessGroup>,
        /// Largest number of samples of a rank per call.
        most: i64,
    },
}

/// The loss of one rank's samples.
pub struct SampleLoss {
    /// Sum over the samples, without a graph.
    pub sum: Tensor,
    /// The divisor of sums over all parts of a batch: one number in double precision, on the samples' device.
    pub normaliser: Tensor,
}

/// Predictions for `n` images.
pub struct Predictions {
    /// `[n]`: the class with the greatest mean logit over the crops, the first of equal ones.
    pub classes: Tensor,
    /// `[n]`, in double precision: the softmax probability of that class.
    pub confidences: Tensor,
}

impl Predictions {
    /// The predictions of logits of all classes, `[n, classes]`.
    pub fn of(logits: &Tensor) -> Self {
        let classes = logits.argmax(1, false);
        let greatest = logits.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1);
        let confidences = (greatest.to_kind(Kind::Double) - log_sum_exp(logits)).exp();
        Self { classes, confidences }
    }
}

/// The objective of a batch.
#[derive(Clone, Copy)]
pub struct TrainingObjective<'a> {
    /// The loss.
    pub loss: &'a dyn Loss,
    /// Columns of the global batch, for a loss with a term over them. Without them, each call is a separate batch.
    pub columns: Option<&'a Columns>,
    /// The gradient is that of the mean over the samples of a call, not of their sum.
    pub mean: bool,
    /// Factor on the gradient.
    pub scale: GradientScale<'a>,
}

/// The factor on the gradient of a loss.
#[derive(Clone, Copy)]
pub enum GradientScale<'a> {
    /// As the host knows it now.
    Number(f64),
    /// As the device has it when it computes: one number in double precision.
    OnDevice(&'a Tensor),
}

impl GradientScale<'_> {
    fn of(self, tensor: Tensor) -> Tensor {
        match self {
            Self::Number(1.0) => tensor,
            Self::Number(factor) => tensor * factor,
            Self::OnDevice(factor) => &tensor * factor.to_kind(tensor.kind()),
        }
    }
}

impl Classifier {
    /// Whether all ranks have to make the same number of calls.
    pub fn is_collective(&self) -> bool {
        matches!(self, Self::ClassSharded { .. })
    }

    /// Loss of `features` (`[n, width]`) of classes `labels` (`[n]`), and its backward pass down to the features, where
    /// autograd accumulates it.
    ///
    /// A rank without samples passes none and gets no result.
    pub fn loss_and_backward(
        &self,
        model: &Model,
        samples: Option<(&Tensor, &Tensor)>,
        objective: TrainingObjective<'_>,
    ) -> Result<Option<SampleLoss>, CollectiveError> {
        match self {
            Self::Replicated => Ok(samples.map(|(features, labels)| {
                let found = objective.loss.of_part(&model.classify(features), labels, objective.columns);
                let root = if objective.mean { found.mean() } else { found.sum.shallow_clone() };
                objective.scale.of(root).backward();
                SampleLoss { sum: found.sum.detach(), normaliser: found.normaliser }
            })),
            Self::ClassSharded { group, most } => {
                ShardedCall { model, group: group.as_ref(), most: *most }.loss(samples, objective)
            }
        }
    }

    /// The predictions for images, of each of which `features` has `crops` rows one after the other.
    pub fn predict(
        &self,
        model: &Model,
        features: Option<&Tensor>,
        crops: i64,
    ) -> Result<Option<Predictions>, CollectiveError> {
        no_grad(|| match self {
            Self::Replicated => {
                Ok(features
                    .map(|features| Predictions::of(&mean_over_crops(model.classify(features), crops))))
            }
            Self::ClassSharded { group, most } => {
                ShardedCall { model, group: group.as_ref(), most: *most }.predict(features, crops)
            }
        })
    }
}

impl Classifier {
    /// The mean logits of images for all classes, `[n, classes]`, of each of which `features` has `crops` rows one after
    /// the other.
    pub fn logits(
        &self,
        model: &Model,
        features: Option<&Tensor>,
        crops: i64,
    ) -> Result<Option<Tensor>, CollectiveError> {
        no_grad(|| match self {
            Self::Replicated => Ok(features.map(|features| mean_over_crops(model.classify(features), crops))),
            Self::ClassSharded { group, most } => {
                ShardedCall { model, group: group.as_ref(), most: *most }.logits(features, crops)
            }
        })
    }
}

/// Mean logits of images, `[n, classes]`, from those of their crops, `[n * crops, classes]`, in the same kind.
pub fn mean_over_crops(logits: Tensor, crops: i64) -> Tensor {
    if crops == 1 {
        return logits;
    }
    logits.view([-1, crops, logits.size()[1]]).mean_dim([1i64].as_slice(), false, logits.kind())
}

/// `[n]`, in double precision, from `[n, classes]`: the logarithm of the softmax's denominator.
fn log_sum_exp(logits: &Tensor) -> Tensor {
    let kind = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    logits.to_kind(kind).logsumexp([1i64].as_slice(), false).to_kind(Kind::Double)
}

/// One call with sharded classes.
struct ShardedCall<'a> {
    model: &'a Model,
    group: &'a dyn ProcessGroup,
    most: i64,
}

impl ShardedCall<'_> {
    fn loss(
        &self,
        samples: Option<(&Tensor, &Tensor)>,
        TrainingObjective { loss, scale, .. }: TrainingObjective<'_>,
    ) -> Result<Option<SampleLoss>, CollectiveError> {
        let all = self.gather(samples.map(|(features, _)| features))?.set_requires_grad(true);
        let labels = self.gather_labels(samples.map(|(_, labels)| labels))?;
        let own = self.model.classes();
        let logits = loss.adjust(self.model.classify(&all), &labels, &own);
        let (losses, gradient) = ShardedSoftmax { group: self.group, loss, own }.losses(&logits, &labels)?;
        backward_from(&logits, &scale.of(gradient), false);
        let mut back = self.rows(1, &all);
        self.group.reduce_scatter(&all.grad(), &mut back)?;
        Ok(samples.map(|(features, labels)| {
            let n = labels.numel() as i64;
            // The graph of the features ends at them, so the gradient is stored where autograd would accumulate it.
            if features.requires_grad() {
                backward_from(features, &back.narrow(0, 0, n), false);
            }
            let own = losses.narrow(0, self.group.rank() as i64 * self.most, n);
            SampleLoss { sum: own.sum(own.kind()), normaliser: loss.normaliser(labels) }
        }))
    }

    fn predict(&self, features: Option<&Tensor>, crops: i64) -> Result<Option<Predictions>, CollectiveError> {
        // The rows of every rank are padded to `most`, which is a multiple of the crops of an image.
        let logits = mean_over_crops(self.model.classify(&self.gather(features)?), crops);
        let (value, class) = logits.max_dim(1, false);
        let class = class + self.model.classes().start;
        let (world, rows) = (self.group.size() as i64, value.numel() as i64);
        // Each logit keeps its value in double precision, and with it the order.
        let value = Tensor::stack(&[value.to_kind(Kind::Double), log_sum_exp(&logits)], 0);
        let mut values = Tensor::zeros([world, 2, rows], (value.kind(), value.device()));
        let mut classes = Tensor::zeros([world, rows], (class.kind(), class.device()));
        self.group.all_gather(&value, &mut values)?;
        self.group.all_gather(&class, &mut classes)?;
        let (greatest, denominators) = (values.select(1, 0), values.select(1, 1));
        let best = greatest.argmax(0, true);
        let classes = classes.gather(0, &best, false).squeeze_dim(0);
        let greatest = greatest.gather(0, &best, false).squeeze_dim(0);
        let confidences = (greatest - denominators.logsumexp([0i64].as_slice(), false)).exp();
        let start = self.group.rank() as i64 * self.most / crops;
        Ok(features.map(|features| {
            let own = |all: &Tensor| all.narrow(0, start, features.size()[0] / crops);
            Predictions { classes: own(&classes), confidences: own(&confidences) }
        }))
    }

    /// Every rank sends its columns for the images of all ranks, padded to the most classes of a rank.
    fn logits(&self, features: Option<&Tensor>, crops: i64) -> Result<Option<Tensor>, CollectiveError> {
        let own = mean_over_crops(self.model.classify(&self.gather(features)?), crops);
        let (world, total) = (self.group.size() as i64, self.model.total_classes());
        let (rows, most) = (own.size()[0], (total as u64).div_ceil(world as u64) as i64);
        let sent = own.constant_pad_nd([0, most - own.size()[1]]).contiguous();
        let mut all = Tensor::zeros([world, rows, most], (sent.kind(), sent.device()));
        self.group.all_gather(&sent, &mut all)?;
        let start = self.group.rank() as i64 * self.most / crops;
        Ok(features.map(|features| {
            let images = features.size()[0] / crops;
            let of_rank = |rank: i64| {
                let classes = share(total as u64, world as u64, rank as u64);
                let columns = (classes.end - classes.start) as i64;
                all.select(0, rank).narrow(0, start, images).narrow(1, 0, columns)
            };
            Tensor::cat(&(0..world).map(of_rank).collect::<Vec<_>>(), 1)
        }))
    }

    /// The features of all ranks, padded with zeros per rank: `[world * most, width]`.
    fn gather(&self, own: Option<&Tensor>) -> Result<Tensor, CollectiveError> {
        let like = self.model.trainables().flat();
        let width = self.model.tower().shape().width;
        let sent = Tensor::zeros([self.most, width], (like.kind(), like.device()));
        if let Some(own) = own {
            sent.narrow(0, 0, own.size()[0]).copy_(&own.detach());
        }
        let mut all = self.rows(self.group.size() as i64, &sent);
        self.group.all_gather(&sent, &mut all)?;
        Ok(all)
    }

    fn gather_labels(&self, own: Option<&Tensor>) -> Result<Tensor, CollectiveError> {
        let device = self.model.device();
        let sent = Tensor::full([self.most], NO_SAMPLE, (Kind::Int64, device));
        if let Some(own) = own {
            sent.narrow(0, 0, own.numel() as i64).copy_(own);
        }
        let mut all = Tensor::zeros([self.group.size() as i64 * self.most], (Kind::Int64, device));
        self.group.all_gather(&sent, &mut all)?;
        Ok(all)
    }

    /// An uninitialised tensor like `rows`, with `times` the largest number of rows of one rank.
    fn rows(&self, times: i64, rows: &Tensor) -> Tensor {
        Tensor::zeros([times * self.most, rows.size()[1]], (rows.kind(), rows.device()))
    }
}

//! The objective of the probe and its gradient, over the images of all ranks.

use super::super::class_mean::{add, class_sums, first_without_images};
use super::super::features::Features;
use crate::engine::failure::Failure;
use collectives::CollectiveError;
use tch::{Kind, Tensor};

/// Number of logits that are computed at once: 64 MB.
const AT_ONCE: i64 = 1 << 23;

/// Some images of this rank: those of a part of the list.
#[derive(Debug)]
pub struct ProbeSamples {
    /// `[n, width]`, in the type in which they were computed.
    pub features: Tensor,
    /// `[n]`.
    pub labels: Tensor,
}

/// The objective, in preconditioned coordinates.
///
/// Features are centred on their mean over classes, which changes only the intercepts. The probe, `[classes, width +
/// 1]` with the intercepts last, is the parameters times `scale`, the inverse root of the second derivatives at zero:
/// without it, correlated features would cost L-BFGS ten times the steps.
pub struct ProbeObjective<'a> {
    features: &'a Features<'a>,
    samples: Vec<ProbeSamples>,
    /// Number of images.
    images: f64,
    /// Weight of an image of each class.
    of_class: Tensor,
    mean: Tensor,
    /// `[width + 1, width + 1]`, symmetric.
    scale: Tensor,
}

impl ProbeSamples {
    /// Batches one after the other.
    pub(crate) fn of_batches(batches: Vec<(Tensor, Tensor)>, of: &Features<'_>) -> Self {
        let (features, labels): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        if features.is_empty() {
            let device = of.pass.model().device();
            let features = Tensor::zeros([0, of.width()], (Kind::Float, device));
            return Self { features, labels: Tensor::zeros([0], (Kind::Int64, device)) };
        }
        Self { features: Tensor::cat(&features, 0), labels: Tensor::cat(&labels, 0) }
    }
}

impl<'a> ProbeObjective<'a> {
    /// Over one sample for each part of this rank, or the first class without images; by all ranks together.
    pub fn new(features: &'a Features<'a>, samples: Vec<ProbeSamples>) -> Result<Result<Self, i64>, Failure> {
        let sums = class_sums(features, |sums| {
            for (sum, sample) in sums.iter_mut().zip(&samples) {
                for (x, labels) in sample.chunks(features.classes) {
                    add(sum, &x, &labels);
                }
            }
            Ok(())
        })?;
        let (width, classes) = (features.width(), features.classes);
        let counts = sums.select(1, width);
        if let Some(class) = first_without_images(&counts) {
            return Ok(Err(class));
        }
        let images = counts.sum(Kind::Double).double_value(&[]);
        let of_class = (classes as f64 * &counts).reciprocal() * images;
        let means = sums.narrow(1, 0, width) / counts.unsqueeze(1);
        let mean = means.mean_dim([0i64].as_slice(), false, Kind::Double);
        let scale = Tensor::eye(width + 1, (Kind::Double, mean.device()));
        let mut objective = Self { features, samples, images, of_class, mean, scale };
        objective.scale = objective.scale_at_zero()?;
        Ok(Ok(objective))
    }

    /// Shape of the parameters.
    pub fn shape(&self) -> [i64; 2] {
        [self.features.classes, self.features.width() + 1]
    }

    /// Bytes of this rank's features, and of a tensor of parameters.
    pub fn bytes(&self) -> (usize, usize) {
        let features = self
            .samples
            .iter()
            .map(|sample| sample.features.numel() * sample.features.kind().elt_size_in_bytes());
        (features.sum(), self.shape().iter().product::<i64>() as usize * size_of::<f64>())
    }

    /// The value at these parameters, and the gradient. Collective. All ranks receive the result of rank 0 bitwise, so
    /// that they make the same decisions even if their processors round differently.
    pub fn evaluate(&self, parameters: &Tensor) -> Result<(f64, Tensor), CollectiveError> {
        let [classes, columns] = self.shape();
        let probe = self.probe(parameters);
        let parts = self.samples.iter().map(|sample| self.of_part(sample, &probe)).collect();
        let sum = self.features.sum(parts)?;
        let count = classes * columns;
        let weight = self.weight(&probe);
        let gradient = sum.narrow(0, 0, count).view([classes, columns]);
        let _ = gradient.narrow(1, 0, columns - 1).g_add_(&weight);
        let value = sum.narrow(0, count, 1) + 0.5 * (&weight * &weight).sum(Kind::Double);
        let mut all = Tensor::cat(&[gradient.matmul(&self.scale).flatten(0, 1), value], 0);
        self.features.walk.rank.group.broadcast(&mut all, 0)?;
        Ok((all.double_value(&[count]), all.narrow(0, 0, count)))
    }

    /// The probe's weights, `[classes, width]`, of parameters.
    pub fn weights(&self, parameters: &Tensor) -> Tensor {
        self.weight(&self.probe(parameters)).copy()
    }

    fn probe(&self, parameters: &Tensor) -> Tensor {
        parameters.to_device(self.mean.device()).matmul(&self.scale)
    }

    fn weight(&self, probe: &Tensor) -> Tensor {
        probe.narrow(1, 0, self.features.width())
    }

    /// Gradient by the probe, row after row, and behind it the value, of one part.
    fn of_part(&self, sample: &ProbeSamples, probe: &Tensor) -> Tensor {
        let [classes, columns] = self.shape();
        let (weight, bias) = (self.weight(probe), probe.select(1, columns - 1));
        let sum = Tensor::zeros([classes * columns + 1], (Kind::Double, probe.device()));
        let of_probe = sum.narrow(0, 0, classes * columns).view([classes, columns]);
        for (x, labels) in sample.chunks(classes) {
            let x = x.to_kind(Kind::Double) - &self.mean;
            let log = x.linear(&weight, Some(&bias)).log_softmax(1, Kind::Double);
            let (label, by) = (labels.unsqueeze(1), self.of_class.index_select(0, &labels).unsqueeze(1));
            let value = -(log.gather(1, &label, false) * &by).sum(Kind::Double);
            let mut of_logits = log.exp() * &by;
            let _ = of_logits.scatter_add_(1, &label, &-by);
            let transposed = of_logits.transpose(0, 1);
            let _ = of_probe.narrow(1, 0, columns - 1).g_add_(&transposed.matmul(&x));
            let of_bias = of_logits.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let _ = of_probe.select(1, columns - 1).g_add_(&of_bias);
            let _ = sum.get(classes * columns).g_add_(&value);
        }
        sum
    }

    /// The inverse root of the second derivatives at zero weights, which are the same for each class: the images' second
    /// moments over the number of classes, and 1 from the penalty. By all ranks together.
    fn scale_at_zero(&self) -> Result<Tensor, CollectiveError> {
        let [classes, columns] = self.shape();
        let width = columns - 1;
        let moments = |sample: &ProbeSamples| {
            let sum = Tensor::zeros([width, width], (Kind::Double, self.mean.device()));
            for (x, labels) in sample.chunks(classes) {
                let x = x.to_kind(Kind::Double) - &self.mean;
                let by = self.of_class.index_select(0, &labels).unsqueeze(1);
                let _ = sum.shallow_clone().g_add_(&(&x * by).transpose(0, 1).matmul(&x));
            }
            sum
        };
        let moments = self.features.sum(self.samples.iter().map(moments).collect())? / classes as f64;
        let (values, vectors) = moments.linalg_eigh("L");
        let roots = (values.clamp_min(0.0) + 1.0).rsqrt();
        let mut scale = Tensor::zeros([columns, columns], (Kind::Double, self.mean.device()));
        scale
            .narrow(0, 0, width)
            .narrow(1, 0, width)
            .copy_(&(&vectors * roots).matmul(&vectors.transpose(0, 1)));
        let _ = scale.get(width).get(width).fill_((classes as f64 / self.images).sqrt());
        self.features.walk.rank.group.broadcast(&mut scale, 0)?;
        Ok(scale)
    }
}

impl ProbeSamples {
    /// Features and labels of so many images at a time that the logits stay small. The content of a chunk depends only
    /// on the part, and so do the bits of its sums.
    fn chunks(&self, classes: i64) -> impl Iterator<Item = (Tensor, Tensor)> {
        let rows = (AT_ONCE / classes.max(1)).clamp(1, 4096);
        let n = self.labels.numel() as i64;
        (0..n).step_by(rows as usize).map(move |start| {
            let count = rows.min(n - start);
            (self.features.narrow(0, start, count), self.labels.narrow(0, start, count))
        })
    }
}

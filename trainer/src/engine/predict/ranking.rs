//! The most probable classes of each image, over all ranks.

use crate::data::loader::Batch;
use crate::engine::eval::bad_images::{BadImageLimit, BadImages, ImageSet};
use crate::engine::eval::evaluate::Evaluation;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::engine::training::training_run::evaluation;
use crate::run::Reporter;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Instant;
use tch::{Kind, Tensor};

/// What is done to logits before their softmax: `scale z + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjustment {
    /// The inverse of a temperature.
    pub scale: f64,
    /// A constant for each class.
    pub offset: Option<Vec<f64>>,
}

/// A class and its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// The class, as a label.
    pub class: usize,
    /// Softmax of the logits.
    pub probability: f64,
}

/// What became of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Prediction {
    /// The most probable classes, in falling order.
    Ranked(Vec<Guess>),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// The predictions of all images.
pub struct PredictionRun {
    /// One for each image, in the order of the input.
    pub predictions: Vec<Prediction>,
    /// Duration, from the first image to the last.
    pub seconds: f64,
}

impl PredictionRun {
    /// Predicts the `most` most probable classes of each test image of the session, by its adjusted logits. Collective;
    /// every rank gets all predictions.
    pub fn make(
        session: &Session,
        (most, adjustment): (usize, &Adjustment),
        rank: &Rank,
        reporter: &mut Reporter,
    ) -> Result<Self, Failure> {
        let start = Instant::now();
        rank.begin("predicting");
        let pass = Evaluation {
            images: ImageSet::Input,
            split: session.test.clone(),
            limit: BadImageLimit::NONE,
            ..evaluation(session, rank)
        };
        let own = pass.own(rank);
        let mut ranked: Vec<Vec<Guess>> = vec![Vec::new(); (own.end - own.start) as usize];
        let mut problem = None;
        let mut each = |batch: &Batch, logits: &Tensor| match ranking(logits, most, adjustment) {
            Ok(rows) => {
                for (&sample, row) in batch.samples.iter().zip(rows) {
                    ranked[(sample - own.start) as usize] = row;
                }
            }
            Err(error) => problem = Some(error),
        };
        let left_out = pass.scores(rank, reporter, &mut BadImages::default(), &mut each)?;
        agreed(&rank.control, || problem.map_or(Ok(()), |error| Err(Failure::run(error))))?;
        let reasons: HashMap<&str, &str> =
            left_out.iter().map(|image| (image.path.as_str(), image.reason.as_str())).collect();
        let of_image = |(guesses, at): (Vec<Guess>, u64)| {
            if !guesses.is_empty() {
                return Prediction::Ranked(guesses);
            }
            let reason = reasons.get(pass.split.name(at as usize).as_str());
            Prediction::Unreadable(reason.map_or_else(String::new, |&reason| reason.to_owned()))
        };
        let own: Vec<Prediction> = ranked.into_iter().zip(own).map(of_image).collect();
        let predictions = gathered(&own, rank)?;
        Ok(Self { predictions, seconds: start.elapsed().as_secs_f64() })
    }
}

/// The predictions of all ranks, in rank order.
fn gathered(own: &[Prediction], rank: &Rank) -> Result<Vec<Prediction>, Failure> {
    let encoded = serde_json::to_vec(own).map_err(Failure::run)?;
    let mut all = Vec::new();
    for bytes in rank.control.all_gather(&encoded)? {
        all.extend(serde_json::from_slice::<Vec<Prediction>>(&bytes).map_err(Failure::run)?);
    }
    Ok(all)
}

/// The most probable classes of each row of `logits`.
fn ranking(logits: &Tensor, most: usize, adjustment: &Adjustment) -> Result<Vec<Vec<Guess>>, tch::TchError> {
    let most = most.min(logits.size()[1] as usize);
    let mut adjusted = logits.to_kind(Kind::Double) * adjustment.scale;
    if let Some(offset) = &adjustment.offset {
        adjusted = adjusted.f_add(&Tensor::from_slice(offset))?;
    }
    let probabilities = adjusted.f_softmax(1, Kind::Double)?;
    // Equal probabilities are in the order of the classes, as in an evaluation.
    let (values, classes) = probabilities.f_sort_stable(true, 1, true)?;
    let columns = |tensor: Tensor| tensor.f_narrow(1, 0, most as i64)?.f_contiguous();
    let values = Vec::<f64>::try_from(columns(values)?.reshape([-1]))?;
    let classes = Vec::<i64>::try_from(columns(classes)?.reshape([-1]))?;
    let guesses = classes.into_iter().zip(values);
    let guesses: Vec<Guess> =
        guesses.map(|(class, probability)| Guess { class: class as usize, probability }).collect();
    Ok(guesses.chunks(most).map(<[Guess]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_by_probability_and_equal_ones_by_number() {
        let logits = Tensor::from_slice(&[0.0, 2.0, 2.0, 1.0, 5.0, 0.0, 0.0, 0.0]).view([2, 4]);
        let by = |scale| Adjustment { scale, offset: None };
        let rows = ranking(&logits, 3, &by(1.0)).unwrap();
        let classes: Vec<Vec<usize>> =
            rows.iter().map(|row| row.iter().map(|guess| guess.class).collect()).collect();
        assert_eq!(classes, [[1, 2, 3], [0, 1, 2]]);
        let total: f64 =
            ranking(&logits, 9, &by(1.0)).unwrap()[0].iter().map(|guess| guess.probability).sum();
        assert!((total - 1.0).abs() < 1e-12);
        let expected = 2f64.exp() / (1.0 + 2.0 * 2f64.exp() + 1f64.exp());
        assert!((rows[0][0].probability - expected).abs() < 1e-12);
        // A smaller scale flattens the probabilities and keeps their order.
        let flat = ranking(&logits, 3, &by(0.5)).unwrap();
        assert!(flat[1][0].probability < rows[1][0].probability && flat[1][0].class == 0);
        let last = Adjustment { scale: 1.0, offset: Some(vec![0.0, 0.0, 0.0, 9.0]) };
        assert_eq!(ranking(&logits, 1, &last).unwrap()[0][0].class, 3);
    }
}

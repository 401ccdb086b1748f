//! The most probable classes of each image, over all ranks.

use crate::data::loader::Batch;
use crate::engine::calibrate::SetMaker;
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

/// How logits become predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Number of classes of each image.
    pub most: usize,
    /// What is done to the logits.
    pub adjustment: Adjustment,
    /// Makes the conformal set of each image.
    pub sets: Option<SetMaker>,
}

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
    /// What the model says of it.
    Ranked(Ranking),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// The most probable classes of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// In falling order.
    pub guesses: Vec<Guess>,
    /// The classes of its conformal set, in falling order, if sets are made.
    pub set: Option<Vec<Guess>>,
}

/// The predictions of all images.
pub struct PredictionRun {
    /// One for each image, in the order of the input.
    pub predictions: Vec<Prediction>,
    /// Duration, from the first image to the last.
    pub seconds: f64,
}

impl PredictionRun {
    /// Predicts the most probable classes of each test image of the session. Collective; every rank gets all predictions.
    pub fn make(
        session: &Session,
        rule: &Rule,
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
        let mut ranked = vec![Ranking::default(); (own.end - own.start) as usize];
        let mut problem = None;
        let mut each = |batch: &Batch, logits: &Tensor| match rankings(logits, rule) {
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
        let of_image = |(ranking, at): (Ranking, u64)| {
            if !ranking.guesses.is_empty() {
                return Prediction::Ranked(ranking);
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

/// The most probable classes of each row of `logits`, and its set.
fn rankings(logits: &Tensor, rule: &Rule) -> Result<Vec<Ranking>, tch::TchError> {
    let classes = logits.size()[1] as usize;
    let mut adjusted = logits.to_kind(Kind::Double) * rule.adjustment.scale;
    if let Some(offset) = &rule.adjustment.offset {
        adjusted = adjusted.f_add(&Tensor::from_slice(offset))?;
    }
    let probabilities = adjusted.f_softmax(1, Kind::Double)?;
    let guesses = most_probable(&probabilities, rule.most.min(classes))?;
    let Some(sets) = &rule.sets else {
        return Ok(guesses.into_iter().map(|guesses| Ranking { guesses, set: None }).collect());
    };
    let values = Vec::<f64>::try_from(probabilities.f_contiguous()?.f_reshape([-1])?)?;
    let with_set = |(guesses, row): (_, &[f64])| Ranking { guesses, set: Some(set_of(sets, row)) };
    Ok(guesses.into_iter().zip(values.chunks(classes)).map(with_set).collect())
}

/// The `most` most probable classes of each row, in falling order.
fn most_probable(probabilities: &Tensor, most: usize) -> Result<Vec<Vec<Guess>>, tch::TchError> {
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

/// The classes of the set, the most probable first.
fn set_of(sets: &SetMaker, probabilities: &[f64]) -> Vec<Guess> {
    let guess = |class: usize| Guess { class, probability: probabilities[class] };
    let mut set: Vec<Guess> = sets.set(probabilities).into_iter().map(guess).collect();
    set.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_by_probability_and_equal_ones_by_number() {
        let logits = Tensor::from_slice(&[0.0, 2.0, 2.0, 1.0, 5.0, 0.0, 0.0, 0.0]).view([2, 4]);
        let by = |scale| Adjustment { scale, offset: None };
        let ranking = |logits: &Tensor, most, adjustment: &Adjustment| {
            let rule = Rule { most, adjustment: adjustment.clone(), sets: None };
            rankings(logits, &rule).map(|rows| rows.into_iter().map(|row| row.guesses).collect::<Vec<_>>())
        };
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

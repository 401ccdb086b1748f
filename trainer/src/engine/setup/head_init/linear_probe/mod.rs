//! Linear probe: a multinomial logistic regression over the frozen features of all training images; the row of a class is
//! its weights, scaled to unit length.
//!
//! Minimised over weights `W` and intercepts `b`: `sum_i s_i * nll_i + |W|^2 / 2`, with `s_i = images / (classes * images
//! of the class of i)`, so that every class counts alike (scikit-learn's `LogisticRegression` with `C = 1` and balanced
//! classes, which the official code uses). Intercepts are not penalised, and not used: the official code drops them too.
//! It also stops after 100 iterations, converged or not. Here the norm of the gradient has to fall to
//! [`TOLERANCE`] of what it is at zero weights.
//!
//! Each rank stores the features of its own images: 437,513 images of iNaturalist with 768 numbers each in single
//! precision take 1.34 GB over all ranks, and twice that while they are concatenated. Objective and gradient are
//! computed in double precision and summed over ranks at each step of L-BFGS, which every rank makes. Its vectors have
//! the size of the weights: for 8,142 classes 50 MB each, and some 1.6 GB on every rank.

mod minimise;
mod objective;

pub use objective::{ProbeObjective, ProbeSamples};

use super::features::Features;
use super::view::{self, InitView};
use super::{HeadInit, InitContext, InitFacts, MakeHeadInit};
use crate::engine::failure::Failure;
use crate::model::text::unit_rows;
use crate::options::{Declared, Method};
use minimise::{VECTORS, minimise};
use std::time::{Duration, Instant};
use tch::{Tensor, no_grad};

/// The linear probe.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "linear_probe",
    about: "Weights of a class-balanced logistic regression on the features of all training images.",
    official: &["linear_probe"],
    options: &[&view::ViewOptions::SECTION],
    make: |_| Ok(Box::new(LinearProbe)),
};

/// The probe has converged when the norm of its gradient is this part of the one at zero weights.
pub const TOLERANCE: f64 = 1e-6;
/// Largest number of steps; a probe that has not converged then is used, with a warning.
const MOST_STEPS: u64 = 5000;
/// Time between reports.
const BETWEEN_REPORTS: Duration = Duration::from_secs(10);

/// The initialisation.
struct LinearProbe;

/// A fitted probe.
#[derive(Debug)]
pub struct Probe {
    /// `[classes, width]`.
    pub weight: Tensor,
    /// Value of the objective.
    pub objective: f64,
    /// Norm of the gradient, as a part of the one at zero weights.
    pub gradient: f64,
    /// Steps made.
    pub steps: u64,
}

impl HeadInit for LinearProbe {
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        if facts.class_names.len() < 2 {
            let found = facts.class_names.len();
            return Err(Failure::input(format!(
                "head.init=linear_probe needs 2 or more classes, found {found}\nhint: use head.init=class_mean"
            )));
        }
        facts.every_class_has_images()
    }

    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        let features = context.features(context.train, InitView::Plain);
        let samples = collect(&features)?;
        let objective = ProbeObjective::new(&features, samples)?.map_err(|class| context.unread(class))?;
        let report = |text: String| {
            tracing::info!("{text}");
            if context.rank.leads() {
                (context.report)(&format!("head.init: {text}"));
            }
        };
        report(memory(&objective));
        let mut last = Instant::now();
        let probe = fit(&objective, |number, value, gradient| {
            if last.elapsed() >= BETWEEN_REPORTS {
                last = Instant::now();
                report(format!(
                    "linear probe, evaluation {number}: objective {value:.6}, gradient {gradient:.1e} of the first"
                ));
            }
            context.check_requests()
        })?;
        let Probe { objective, gradient, steps, .. } = probe;
        let end =
            format!("after {steps} steps: objective {objective:.6}, gradient {gradient:.1e} of the first");
        if probe.gradient <= TOLERANCE {
            report(format!("the linear probe has converged {end}"));
        } else if context.rank.leads() {
            tracing::warn!(
                "head.init: the linear probe has not converged {end}, {TOLERANCE:.0e} expected; it is used anyway"
            );
        }
        Ok(Some(unit_rows(&probe.weight)))
    }
}

/// The frozen features of this rank's images, part by part.
pub fn collect(features: &Features<'_>) -> Result<Vec<ProbeSamples>, Failure> {
    let mut batches: Vec<Vec<(Tensor, Tensor)>> = (0..features.parts()).map(|_| Vec::new()).collect();
    features.for_each(|part, x, labels| batches[part].push((x.copy(), labels.copy())))?;
    Ok(batches.into_iter().map(|batches| ProbeSamples::of_batches(batches, features)).collect())
}

/// Fits the probe. `each` is called after every evaluation, by all ranks, with its number, the value and the part of the
/// gradient that is left.
pub fn fit(
    objective: &ProbeObjective<'_>,
    each: impl FnMut(u64, f64, f64) -> Result<(), Failure>,
) -> Result<Probe, Failure> {
    no_grad(|| minimise(objective, each))
}

/// Memory use of the fit.
fn memory(objective: &ProbeObjective<'_>) -> String {
    let (features, vector) = objective.bytes();
    format!(
        "linear probe over features of {:.1} MB on this rank; L-BFGS takes {:.1} MB on each",
        features as f64 / 1e6,
        (vector * VECTORS) as f64 / 1e6
    )
}

//! Charts over the steps of a run.

use super::super::charts::{ChartError, Curve, CurveLook, MOST_POINTS, curve};
use super::legend;
use crate::records::RunRecords;
use crate::records::metrics::{EvalLine, StepLine};
use maud::{Markup, PreEscaped, html};

type EvalFigure = fn(&EvalLine) -> Option<f64>;
const GROUPS: [(&str, EvalFigure); 4] = [
    ("many", |line| line.many),
    ("medium", |line| line.medium),
    ("few", |line| line.few),
    ("overall", |line| line.accuracy),
];

/// A chart: its curves with their names, if there are several, and its look.
struct Described {
    names: Vec<&'static str>,
    curves: Vec<Curve>,
    look: CurveLook<'static>,
}

/// The loss of a run.
pub fn loss(run: &RunRecords) -> Curve {
    over_steps(run, |step| step.loss)
}

/// Every chart over steps for which the run has numbers.
pub fn figures(run: &RunRecords) -> Result<Markup, ChartError> {
    let wait = |step: &StepLine| Some(100.0 * step.data_wait? / step.seconds()?);
    let charts = [
        losses(run),
        evaluations(run),
        one("Learning rate over the steps", "learning rate", over_steps(run, |step| step.learning_rate)),
        one(
            "Images a second over the steps, all ranks",
            "images/s",
            over_steps(run, |step| step.images_per_second),
        ),
        one("Waiting for images, share of the step on rank 0", "wait, %", over_steps(run, wait)),
    ];
    let mut drawn = Vec::new();
    for Described { names, curves, look } in charts {
        drawn.extend(curve(&curves, look)?.map(|svg| (svg, look.title, names)));
    }
    Ok(html! {
        @for (svg, title, names) in drawn {
            figure {
                @if !names.is_empty() { (legend(&names)) }
                (PreEscaped(svg))
                figcaption { (title) "." }
            }
        }
    })
}

fn one(title: &'static str, quantity: &'static str, points: Curve) -> Described {
    let look = CurveLook { title, quantity, from_zero: true, most: MOST_POINTS };
    Described { names: Vec::new(), curves: vec![points], look }
}

fn losses(run: &RunRecords) -> Described {
    let look =
        CurveLook { title: "Loss over the steps", quantity: "loss", from_zero: false, most: MOST_POINTS };
    let epochs = run.metrics.epochs.iter().filter_map(|epoch| Some((epoch.step as f64, epoch.loss?)));
    if run.metrics.epochs.len() > 1 {
        return Described {
            names: vec!["step", "mean of the epoch"],
            curves: vec![loss(run), epochs.collect()],
            look,
        };
    }
    Described { names: Vec::new(), curves: vec![loss(run)], look }
}

/// Groups as they move, if there was more than one evaluation.
fn evaluations(run: &RunRecords) -> Described {
    let look = CurveLook {
        title: "Accuracy by group during training",
        quantity: "accuracy, %",
        from_zero: false,
        most: MOST_POINTS,
    };
    if run.metrics.evaluations.len() < 2 {
        return Described { names: Vec::new(), curves: Vec::new(), look };
    }
    let points = |figure: EvalFigure| -> Curve {
        run.metrics.evaluations.iter().filter_map(|line| Some((line.step as f64, figure(line)?))).collect()
    };
    let names = GROUPS.map(|(name, _)| name).into();
    Described { names, curves: GROUPS.iter().map(|(_, figure)| points(*figure)).collect(), look }
}

fn over_steps(run: &RunRecords, value: impl Fn(&StepLine) -> Option<f64>) -> Curve {
    run.metrics.steps.iter().filter_map(|step| Some((step.step as f64, value(step)?))).collect()
}

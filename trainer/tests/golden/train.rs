//! Trajectories of training: losses, learning rates, final values, momentum, test logits.

use crate::case::{Case, PRECISIONS, cases};
use crate::losses::loss;
use crate::peft::{lift_name, model};
use collectives::Solo;
use std::rc::Rc;
use tch::{Kind, Tensor, no_grad};
use trainer::engine::step::classifier::Classifier;
use trainer::engine::step::gradient_sync::SyncOptions;
use trainer::engine::step::local_batch::{LocalBatch, MicroBatch};
use trainer::engine::step::pass::Pass;
use trainer::engine::step::scalar_row::StepFlags;
use trainer::engine::step::schedule::{LearningRate, Schedule};
use trainer::engine::step::step_parts::{Accumulation, EpochLoss, Reduction, StepParts};
use trainer::engine::step::stepper::Stepper;
use trainer::model::precision::Precision;

#[test]
pub fn golden_train() {
    for case in cases("train") {
        for (precision, tolerance) in PRECISIONS {
            check(&case, precision, tolerance);
        }
    }
}

/// Number of epochs, batch size and micro-batch size.
struct Plan {
    epochs: u64,
    batch: i64,
    micro: i64,
}

impl Plan {
    fn of(case: &Case) -> Self {
        let number = |name: &str| case.config()[name].as_i64();
        let batch = number("batch_size").unwrap();
        // LIFT has the size of a micro-batch, LIFT+ the number of micro-batches per step.
        let micro = number("micro_batch_size").unwrap_or_else(|| batch / number("accum_step").unwrap_or(1));
        Self { epochs: number("num_epochs").unwrap() as u64, batch, micro }
    }
}

fn check(case: &Case, precision: Precision, tolerance: &str) {
    let plan = Plan::of(case);
    let model = model(case, precision);
    let loss = loss(case, &case.class_counts(), precision.parameters);
    let number = |name: &str| case.config()[name].as_f64().unwrap();
    let accumulation = Accumulation::Official { micro_batches: (plan.batch / plan.micro) as u64 };
    let optimiser = (number("momentum"), number("weight_decay"));
    let reduction = Reduction::Buckets(SyncOptions { bucket_bytes: 1 << 20, overlap: true, wire: None });
    let (pass, group) = (Pass::new(&model, None), Rc::new(Solo));
    let classifier = &Classifier::Replicated;
    let (loss, cuda_graphs) = (EpochLoss { loss, distribution: Vec::new() }, false);
    let mut stepper = Stepper::new(StepParts {
        pass,
        classifier,
        loss,
        group,
        reduction,
        accumulation,
        optimiser,
        cuda_graphs,
    });
    let (images, labels) = (case.input("image_u8"), case.input("label"));
    let micro_batch = |ids: Tensor| MicroBatch {
        bytes: images.index_select(0, &ids),
        labels: labels.index_select(0, &ids),
    };
    let order = case.input("order").to_kind(Kind::Int64);
    let steps = (order.size()[1] as u64).div_ceil(plan.batch as u64) * plan.epochs;
    let rate =
        LearningRate { schedule: Schedule::CosinePerEpoch, base: number("lr"), epochs: plan.epochs, steps };
    let (mut losses, mut rates) = (Vec::new(), Vec::new());
    for epoch in 0..plan.epochs {
        for ids in order.get(epoch as i64).split(plan.batch, 0) {
            let parts: Vec<MicroBatch> = ids.split(plan.micro, 0).into_iter().map(micro_batch).collect();
            let rate = rate.at(epoch, rates.len() as u64);
            let outcome = stepper.reduced_gradient(&LocalBatch::alone(parts), StepFlags::default()).unwrap();
            stepper.update(&outcome, rate);
            losses.push(outcome.loss);
            rates.push(rate);
        }
    }
    compare_losses(case, &plan, &losses, tolerance);
    case.compare("lr_per_step", &Tensor::from_slice(&rates), tolerance);
    no_grad(|| case.compare("test_logits", &model.logits(&case.input("test_image_u8")), tolerance));
    compare_states(case, &model, &stepper, tolerance);
}

/// Compares the loss of each step with the mean of the reference's micro-batch losses, weighted by their sizes.
fn compare_losses(case: &Case, plan: &Plan, losses: &[f64], tolerance: &str) {
    let reference = Vec::<f64>::try_from(case.output("micro_losses")).unwrap();
    let samples = case.input("order").size()[1];
    let mut expected = Vec::new();
    let mut micro = reference.iter();
    for _ in 0..plan.epochs {
        for start in (0..samples).step_by(plan.batch as usize) {
            let size = plan.batch.min(samples - start);
            let sizes = (0..size).step_by(plan.micro as usize).map(|from| plan.micro.min(size - from));
            let sum: f64 = sizes.map(|n| n as f64 * micro.next().unwrap()).sum();
            expected.push(sum / size as f64);
        }
    }
    assert_eq!(expected.len(), losses.len(), "{}: steps", case.name);
    let limits = &case.manifest["tolerance"][tolerance];
    let greatest = reference.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let limit = limits["atol"].as_f64().unwrap() + limits["rtol"].as_f64().unwrap() * greatest;
    for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= limit,
            "{} loss of step {step} ({tolerance}): {found}, expected {expected}",
            case.name
        );
    }
}

fn compare_states(case: &Case, model: &trainer::model::Model, stepper: &Stepper<'_>, tolerance: &str) {
    let mut offset = 0;
    let mut momentum = std::collections::BTreeMap::new();
    for (name, tensor) in model.trainables().iter() {
        let n = tensor.numel() as i64;
        momentum
            .insert(name.to_owned(), stepper.momentum().narrow(0, offset, n).view(tensor.size().as_slice()));
        offset += n;
    }
    for output in case.manifest["outputs"].as_object().unwrap().keys() {
        let shape = case.shape(output);
        if let Some(name) = output.strip_prefix("final.") {
            let tensor = model.trainables().get(&lift_name(name)).unwrap();
            case.compare(output, &tensor.view(shape.as_slice()), tolerance);
        } else if let Some(name) = output.strip_prefix("momentum.") {
            case.compare(output, &momentum[&lift_name(name)].view(shape.as_slice()), tolerance);
        }
    }
}

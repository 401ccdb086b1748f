//! Blocks in fewer passes and by other libraries train as the equations are written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use tests::stripes::{data_beside, short_run};
use tests::succeed;

/// The losses of the steps of a run.
fn losses(output: &Path, kernels: &str, settings: &[&str]) -> Vec<f64> {
    let kernels = format!("train.kernels={kernels}");
    let all = [&["head.init=random", kernels.as_str()], settings].concat();
    succeed(&mut short_run(1, output, &all));
    tests::losses(output)
}

/// Tuners that act together, in all of their places.
const TOGETHER: [&str; 4] = [
    r#"["lora", "ia3", "vpt_deep", "ssf_attn"]"#,
    r#"["lora_mlp", "masked", "bias", "adapter"]"#,
    r#"["ssf_ln", "layer_norm", "adaptformer"]"#,
    r#"["full"]"#,
];

/// The greatest difference of the losses of both ways.
fn difference(settings: &[&str], steps: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    data_beside(&folder.path().join("fused"));
    let [fused, plain] =
        ["fused", "plain"].map(|kernels| losses(&folder.path().join(kernels), kernels, settings));
    assert_eq!((fused.len(), plain.len()), (steps, steps));
    assert!(fused[0] > fused[steps - 1], "nothing was learnt: {fused:?}");
    fused.iter().zip(&plain).map(|(fused, plain)| (fused - plain).abs()).fold(0.0, f64::max)
}

#[test]
fn twenty_steps_in_fp32_and_two_hundred_in_fp64_have_the_losses_of_the_plain_path() {
    let single = difference(&["train.max_steps=20", "train.epochs=20", "train.batch_size=8"], 20);
    println!("fp32: {single:e}");
    assert!(single < 1e-5, "{single}");
    let double = ["train.precision=fp64", "train.max_steps=200", "train.epochs=40", "train.batch_size=8"];
    let double = difference(&double, 200);
    println!("fp64: {double:e}");
    assert!(double < 1e-8, "{double}");
}

#[test]
fn blocks_that_are_computed_again_give_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    data_beside(&folder.path().join("kept"));
    let runs = ["false", "true"].map(|recompute| {
        let (path, recompute) = (folder.path().join(recompute), format!("train.recompute={recompute}"));
        losses(
            &path,
            "fused",
            &["train.max_steps=5", "train.epochs=20", "train.determinism=same_world", &recompute],
        )
    });
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn every_tuner_has_the_losses_of_the_plain_path() {
    for tuners in TOGETHER {
        let kinds = format!("tuner.kinds={tuners}");
        let away = difference(&[&kinds, "train.max_steps=5", "train.epochs=20", "train.batch_size=8"], 5);
        println!("{tuners}: {away:e}");
        assert!(away < 1e-5, "{tuners}: {away}");
    }
}

#[test]
fn a_residual_stream_in_bf16_has_the_losses_of_one_in_fp32_within_its_rounding() {
    let folder = tempfile::tempdir().unwrap();
    data_beside(&folder.path().join("fp32"));
    for (number, tuners) in TOGETHER.into_iter().enumerate() {
        let kinds = format!("tuner.kinds={tuners}");
        let run = |name: &str, residual: &str| {
            let residual = format!("train.residual={residual}");
            let settings = [
                kinds.as_str(),
                "train.precision=bf16",
                "train.determinism=same_world",
                "train.max_steps=5",
                "train.epochs=20",
                "train.batch_size=8",
                &residual,
            ];
            losses(&folder.path().join(format!("{name}-{number}")), "fused", &settings)
        };
        let [full, half, again] =
            [("fp32", "fp32"), ("bf16", "bf16"), ("again", "bf16")].map(|(n, r)| run(n, r));
        assert_eq!(half, again, "{tuners}");
        let away = full.iter().zip(&half).map(|(full, half)| (full - half).abs()).fold(0.0, f64::max);
        println!("{tuners}: {away:e}");
        assert!(away > 0.0 && away < 3e-2, "{tuners}: {full:?}, {half:?}");
    }
}

//! DINOv2 and SigLIP in the whole program: output of `check`, and training with sharded blocks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use tests::launched::repository;
use tests::{json, losses, run, stderr, succeed, trainer, within};

/// A small tower of the fixtures with the preset of its family, for images of 16 pixels.
fn arguments(command: &mut Command, preset: &str, fixture: &str) {
    let weights = repository().join("tests/fixtures/towers").join(fixture);
    command.args(["-d", "demo", "-m", preset, "--set", &format!("model.weights={}", weights.display())]);
    for setting in
        ["model.width=16", "model.layers=2", "model.patch=4", "model.resolution=16", "train.threads=1"]
    {
        command.args(["--set", setting]);
    }
}

fn check(preset: &str, fixture: &str, extra: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    let mut command = trainer(1);
    arguments(command.args(["check", "--json"]), preset, fixture);
    let output = run(command.args(extra));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr(&output))
}

#[test]
fn check_shows_family_pooling_and_registers() {
    for (preset, fixture, family, pooling, registers, note) in [
        (
            "dinov2_vit_s14",
            "timm_dinov2_reg4_resized",
            "DINOv2",
            "token",
            4,
            "6 x 6 patches in the file are resized to 4 x 4",
        ),
        ("dinov2_vit_b14", "hf_dinov2", "DINOv2", "token", 0, "mask_token"),
        ("siglip_vit_b16", "hf_siglip", "SigLIP", "map", 0, "text tower of this SigLIP is ignored"),
        ("siglip_vit_b16", "timm_siglip", "SigLIP", "map", 0, "model.activation: gelu, as"),
    ] {
        let (code, shown, messages) = check(preset, fixture, &[]);
        assert_eq!(code, Some(0), "{fixture}: {messages}");
        assert!(shown["family"].as_str().unwrap().contains(family), "{fixture}: {shown}");
        assert_eq!((&shown["pooling"], &shown["register_tokens"]), (&pooling.into(), &registers.into()));
        assert!(shown["notes"].to_string().contains(note), "{fixture}: {shown}");
    }
}

#[test]
fn text_initialisation_of_siglip_and_positions_of_another_resolution_are_refused() {
    let (code, _, messages) = check("siglip_vit_b16", "hf_siglip", &["--set", "head.init=text"]);
    assert_eq!(code, Some(2));
    assert!(messages.contains("text tower"), "{messages}");
    let as_they_are = ["--set", "model.positions=file"];
    let (code, _, messages) = check("dinov2_vit_s14", "timm_dinov2_reg4_resized", &as_they_are);
    assert_eq!(code, Some(2));
    assert!(messages.contains("pos_embed") && messages.contains("model.positions"), "{messages}");
}

#[test]
fn two_ranks_with_sharded_blocks_train_like_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    for (preset, fixture) in [("dinov2_vit_s14", "timm_dinov2_reg4"), ("siglip_vit_b16", "hf_siglip_vision")]
    {
        let path = |ranks: usize| folder.path().join(format!("{fixture}-{ranks}"));
        for ranks in [1, 2] {
            let mut command = trainer(ranks);
            arguments(command.args(["train", "-q"]), preset, fixture);
            let placement = if ranks == 1 { "replicated" } else { "sharded" };
            command.args(["--set", "train.max_steps=6", "--set", "train.batch_size=31"]);
            command.args(["--set", &format!("backbone.placement={placement}"), "--output"]);
            succeed(command.arg(path(ranks)));
        }
        within(&losses(&path(2)), &losses(&path(1)), 1e-5);
        let result = |ranks| json(&path(ranks).join("result.json"));
        assert_eq!(result(1)["frozen_fingerprint"], result(2)["frozen_fingerprint"], "{fixture}");
    }
}

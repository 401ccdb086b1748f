//! Every measurement prints a JSON report, and those over ranks run on several.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use tests::{json, run, stderr, succeed, trainer};

/// The report that rank 0 prints.
fn bench(ranks: usize, arguments: &[&str]) -> Value {
    let output = succeed(trainer(ranks).args(["bench", "--json"]).args(arguments));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{}", String::from_utf8_lossy(&output.stdout)))
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

#[test]
fn collectives_are_measured_on_two_ranks_and_on_one() {
    let arguments = ["collectives", "--max-bytes", "4096", "--rounds", "1", "--milliseconds", "1"];
    let report = bench(2, &arguments);
    assert_eq!((&report["backend"], &report["world_size"]), (&"mpi".into(), &2.into()));
    let rows = report["rows"].as_array().unwrap();
    for operation in
        ["all_reduce", "start_all_reduce", "all_gather", "reduce_scatter", "broadcast", "barrier"]
    {
        assert!(rows.iter().any(|row| row["operation"] == operation), "{operation}");
    }
    let large = rows.iter().find(|row| row["operation"] == "all_reduce" && row["bytes"] == 4096).unwrap();
    let bandwidth = 4096.0 / number(large, "/seconds");
    assert!((number(large, "/bus_bytes_per_second") / bandwidth - 1.0).abs() < 1e-9, "{large}");
    let alone = bench(1, &arguments);
    assert_eq!(alone["backend"], "solo");
    assert!(alone["rows"][0]["bus_bytes_per_second"].is_null());
}

#[test]
fn samplers_are_measured_on_one_of_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts.txt");
    std::fs::write(&counts, "500\n50\n5\n").unwrap();
    let of_file = bench(2, &["sampler", "--counts", counts.to_str().unwrap()]);
    assert_eq!((&of_file["images"], &of_file["classes"]), (&555.into(), &3.into()));
    assert_eq!(of_file["samplers"].as_array().unwrap().len(), 8);
    let zipf = bench(1, &["sampler", "--zipf", "20000,100"]);
    assert_eq!(zipf["images"], 20_000);
    let demo = bench(1, &["sampler"]);
    assert!(number(&demo, "/samplers/0/positions_per_second") > 0.0 && demo["limits"].is_object());
}

#[test]
fn the_loader_is_measured_by_stage() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/images/photos");
    let least = ["--threads", "2", "--seconds", "0.1"];
    for decode in ["exact", "fast"] {
        let report = bench(1, &[&["data", "--images", photos, "--decode", decode][..], &least].concat());
        assert_eq!((&report["decode"], &report["images_in_source"]), (&decode.into(), &5.into()));
        assert_eq!((&report["resolution"], &report["rows"][0]["threads"]), (&224.into(), &2.into()));
        for figure in ["/images_per_second", "/rows/0/milliseconds/decode", "/rows/0/milliseconds/transform"]
        {
            assert!(number(&report, figure) > 0.0, "{report:#}");
        }
        assert_eq!(report["rows"][0]["failed"], 0);
    }
    let demo = bench(1, &[&["data", "-d", "demo"][..], &least].concat());
    assert!(number(&demo, "/images_per_second") > 0.0 && demo["resolution"] != 224, "{demo:#}");
    // The size of a model without its weights.
    let of_model = bench(1, &[&["data", "-d", "demo", "-m", "clip_vit_b16"][..], &least].concat());
    assert_eq!(of_model["resolution"], 224, "{of_model:#}");
    let refused = run(trainer(1).args(["bench", "data", "--images", "no-such-folder"]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("cannot read `no-such-folder`"), "{}", stderr(&refused));
}

/// Measures one step of a small batch in one round.
fn one_step(ranks: usize, extra: &[&str]) -> Value {
    let least = ["step", "--steps", "1", "--rounds", "1"];
    let small = ["--set", "train.batch_size=8", "--set", "data.prefetch=1"];
    bench(ranks, &[&least[..], &small, extra].concat())
}

#[test]
fn a_step_is_measured_by_parts_on_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let (snapshots, saved) = (folder.path().join("snapshots"), folder.path().join("report.json"));
    let [snapshots_text, saved_text] = [&snapshots, &saved].map(|path| path.to_str().unwrap());
    let report = one_step(
        2,
        &[
            "--snapshots",
            "2",
            "--folder",
            snapshots_text,
            "--save",
            saved_text,
            "--compare",
            "overlap,determinism,backbone,head,samples",
        ],
    );
    assert_eq!(report, json(&saved));
    assert!(!snapshots.exists(), "the files of the measurement are removed");
    assert!(number(&report, "/checkpoint/seconds") > 0.0);
    assert!(number(&report, "/selected/figures/forward_backward_seconds") > 0.0);
    let comparisons = report["comparisons"].as_array().unwrap();
    let sides = |name: &str| {
        let found = comparisons.iter().find(|comparison| comparison["name"] == name).unwrap();
        found["variants"].as_array().unwrap()
    };
    for comparison in comparisons {
        for side in comparison["variants"].as_array().unwrap() {
            assert!(side["unavailable"].is_null() && number(side, "/figures/step_seconds") > 0.0, "{side}");
        }
    }
    let bytes = |name: &str, side: usize| number(&sides(name)[side], "/figures/bytes");
    assert_eq!(bytes("overlap", 2), 0.0, "nothing is sent without communication");
    assert_eq!(bytes("overlap", 0), bytes("overlap", 1), "overlap changes the order, not the bytes");
    // Two of three blocks are gathered, because the buffer still contains the others. Each rank sends its half.
    let gathered = bytes("backbone", 1) - bytes("backbone", 0);
    assert_eq!(gathered, 2.0 * 0.5 * f64::from(12 * 128 * 128 + 13 * 128) * 4.0);
    assert_eq!(sides("samples")[2]["batch_size"], 2);
}

#[test]
fn unsupported_measurements_are_reported_and_wrong_input_is_refused() {
    let determinism = ["--set", "train.determinism=any_world"];
    let report = one_step(1, &[&["--snapshots", "0", "--compare", "head"][..], &determinism].concat());
    let why = report["comparisons"][0]["variants"][1]["unavailable"].as_str().unwrap();
    assert!(why.contains("head.placement"), "{why}");
    let counts = Path::new("no-such-counts.txt");
    let refused = run(trainer(1).args(["bench", "sampler", "--counts"]).arg(counts));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("cannot read the counts `no-such-counts.txt`"), "{}", stderr(&refused));
}

/// Small batches, and values that need no text.
const PEER_SETTINGS: [&str; 6] =
    ["--set", "train.batch_size=4", "--set", "train.micro_batch_size=4", "--set", "head.init=random"];

/// Arguments of a comparison with the shell script `script`.
fn peer_arguments(script: &Path) -> Vec<&str> {
    let least = ["bench", "step", "--json", "--steps", "2", "--rounds", "2", "--precisions", "fp32"];
    [&least[..], &["--python", "sh", "--peer", script.to_str().unwrap()], &PEER_SETTINGS].concat()
}

#[test]
fn a_step_is_compared_with_a_peer_that_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("peer.sh");
    // The peer is a second trainer.
    let (program, settings) = (tests::binary("lift-trainer"), PEER_SETTINGS.join(" "));
    let line = format!(
        "mkdir \"$1/$2\"; exec {} bench step {settings} --set train.precision=$3 --side \"$1/$2\"\n",
        program.display()
    );
    std::fs::write(&script, line).unwrap();
    let shared = folder.path().join("shared");
    let mut command = trainer(1);
    command.args(peer_arguments(&script)).arg("--folder").arg(&shared);
    let report: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let sides: Vec<&str> = rows.iter().map(|row| row["side"].as_str().unwrap()).collect();
    assert_eq!(sides, ["lift", "eager", "compiled"]);
    for row in rows {
        assert_eq!(row["loss"], rows[0]["loss"]);
        for figure in ["images_per_second", "ratio_to_eager", "peak_bytes", "memory_ratio_to_eager"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure} of {row}");
        }
        let share = row["share_of_bound"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{row}");
    }
    assert_eq!((&report["batch_size"], rows[1]["ratio_to_eager"].as_f64()), (&4.0.into(), Some(1.0)));
    assert!(!shared.exists(), "what the sides share is removed");
}

#[test]
fn a_peer_that_computes_another_step_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("peer.sh");
    std::fs::write(&script, "echo '{\"loss\": 0.125, \"batch\": 4}'; while read n; do echo '{\"seconds\": [1], \"peak_bytes\": 1}'; done\n").unwrap();
    let output = run(trainer(1).args(peer_arguments(&script)));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the peer `eager` computes another step in fp32: on the same images its loss is 0.125"),
        "{said}"
    );
}

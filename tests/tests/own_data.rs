//! Own data: `init-data`, `check --decode-all`, `pack` and the cache, over real processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::stripes::{StripedDataSet, final_bytes};
use tests::{binary, run, stderr, succeed, trainer};

/// Files of a folder with their content.
fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // A killed process may leave a hidden unfinished file.
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    let mut files: Vec<PathBuf> = files.filter(|path| !is_hidden(path)).collect();
    files.sort();
    files.into_iter().map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

fn stripes(root: &Path, train: usize) -> PathBuf {
    let set = StripedDataSet::write(root, [train; 8], 3).unwrap();
    let preset = root.join("stripes.toml");
    fs::write(&preset, set.preset()).unwrap();
    preset
}

#[test]
fn a_bare_folder_becomes_a_run() {
    let root = tempfile::tempdir().unwrap();
    let pictures = root.path().join("my pictures");
    stripes(&root.path().join("source"), 9);
    // Names that a terminal, TOML, CSV or a web page might read as something else.
    let names =
        ["red", "<b>green", "blue\u{1b}[31m", "it's \"yellow\"", "a, b", "\u{202e}square", "q\\n", "single"];
    for (class, name) in names.into_iter().enumerate() {
        // A `/` cannot be in a name.
        fs::create_dir_all(pictures.join(name)).unwrap();
        for number in 0..if name == "single" { 1 } else { 9 } {
            let source = root.path().join(format!("source/train/{class}-{number}.jpg"));
            fs::copy(source, pictures.join(name).join(format!("{number}.jpg"))).unwrap();
        }
    }
    fs::copy(pictures.join("red/0.jpg"), pictures.join("red/copy.jpg")).unwrap();
    fs::copy(pictures.join("red/1.jpg"), pictures.join("a, b/other.jpg")).unwrap();
    fs::write(pictures.join("q\\n/broken.jpg"), b"\xff\xd8\xff").unwrap();
    let mut init = Command::new(binary("lift"));
    init.args(["init-data", "my pictures", "--json", "--output", "own.toml"]).current_dir(root.path());
    let output = succeed(&mut init);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["classes"].as_array().unwrap().len(), 8);
    assert_eq!(
        (&report["unreadable"][0]["image"], report["copies"].as_array().unwrap().len()),
        (&Value::from("q\\n/broken.jpg"), 2)
    );
    let messages = stderr(&output);
    assert!(!messages.contains('\u{1b}') && !messages.contains('\u{202e}'), "{messages:?}");
    assert!(messages.contains("the same content under different labels; left out"), "{messages}");
    // 64 pictures less the one of them that contradicts another; a fifth of each class tests, but for the single one.
    assert_eq!(
        (&report["train_images"], &report["test_images"]),
        (&Value::from(49), &Value::from(14)),
        "{report:#}"
    );
    let again = run(init.args(["--test", "0.5"]));
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("`own.toml` exists\nhint: "), "{}", stderr(&again));

    let mut train = trainer(1);
    train.args([
        "-q",
        "-d",
        "own.toml",
        "-m",
        "demo",
        "--set",
        "train.epochs=1",
        "--set",
        "head.init=class_mean",
    ]);
    succeed(train.args(["--output", "run"]).current_dir(root.path()));
    let result: Value =
        serde_json::from_slice(&fs::read(root.path().join("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["outcome"].as_str().unwrap_or("done"), "done");
}

/// A table whose labels count from 1, and groups for small classes: two flags, and no file to edit.
#[test]
fn shifted_labels_and_small_classes_need_no_editor() {
    let root = tempfile::tempdir().unwrap();
    stripes(root.path(), 4);
    let row = |class: usize, number: usize| format!("train/{class}-{number}.jpg,{}\n", class + 1);
    let rows =
        (0..8).flat_map(|class| (0..[2, 2, 2, 3, 3, 4, 4, 4][class]).map(move |number| row(class, number)));
    let table = String::from("image,label\n") + &rows.collect::<String>();
    let folder = root.path().join("own");
    fs::create_dir(&folder).unwrap();
    fs::rename(root.path().join("train"), folder.join("train")).unwrap();
    fs::write(folder.join("train.csv"), table).unwrap();
    let init = |flags: &[&str]| {
        succeed(
            Command::new(binary("lift"))
                .args(["init-data", "own", "--force"])
                .args(flags)
                .current_dir(root.path()),
        )
    };
    let output = init(&[]);
    let messages = stderr(&output);
    assert!(messages.contains("the labels seem to be counted from 1"), "{messages}");
    assert!(
        messages.contains(
            "hint: if class 1 is not `1`, set `data.first_label=1`; `lift init-data --first-label 1` does it"
        ),
        "{messages}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a group is empty; `--groups 2,2` makes groups"), "{text}");

    let output = init(&["--first-label", "1", "--groups", "2,2"]);
    assert!(!stderr(&output).contains("counted from 1"), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("many (more than 2 training images) 3, medium 2, few (fewer than 2) 3 classes"),
        "{text}"
    );
    let mut train = trainer(1);
    train.args(["train", "-q", "-d", "own.toml", "-m", "demo", "--output", "run"]).current_dir(root.path());
    let output = succeed(train.args([
        "--set",
        "train.max_steps=1",
        "--set",
        "train.threads=1",
        "--set",
        "head.init=class_mean",
    ]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("many (> 2 training images)") && text.contains("few (< 2)"), "{text}");
    let result = tests::json(&root.path().join("run/result.json"));
    assert_eq!(result["groups"], serde_json::json!({ "from": 2, "to": 2 }));
    assert_eq!(
        (&result["per_class"][0]["name"], &result["per_class"][7]["name"]),
        (&"1".into(), &"8".into())
    );
    assert!(["many", "medium", "few"].iter().all(|group| result[group].is_number()), "{result}");
    let mut report = Command::new(binary("lift"));
    report.args(["report", "--format", "markdown", "run"]).current_dir(root.path());
    let report = String::from_utf8(succeed(&mut report).stdout).unwrap();
    assert!(report.contains("| many | more than 2 | 3 |"), "{report}");
}

#[test]
fn a_folder_without_pictures_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("empty/notes")).unwrap();
    fs::write(root.path().join("empty/notes/a.txt"), "text").unwrap();
    let output = run(Command::new(binary("lift")).args(["init-data", "empty"]).current_dir(root.path()));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("found no folder with images\nhint: put the images of each class into"),
        "{}",
        stderr(&output)
    );
    assert!(!root.path().join("empty.toml").exists());
}

#[test]
fn check_decodes_everything_and_lists_what_is_broken() {
    let root = tempfile::tempdir().unwrap();
    let preset = stripes(root.path(), 2);
    fs::write(root.path().join("train/3-1.jpg"), b"\xff\xd8\xff").unwrap();
    let check = |more: &[&str]| {
        run(trainer(1).args(["check", "-q", "-m", "demo", "--decode-all", "-d"]).arg(&preset).args(more))
    };
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(2));
    let messages = stderr(&output);
    assert!(messages.contains("warning: image `train/3-1.jpg`: "), "{messages}");
    assert!(
        messages.contains("error: 1 of 40 images cannot be read, at most 0 are allowed\nhint: "),
        "{messages}"
    );
    let output = check(&["--set", "data.max_bad_images=1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["decoded_images"], &report["bad_images"]), (&Value::from(40), &Value::from(1)));
}

#[test]
fn a_killed_pack_continues_to_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let preset = stripes(root.path(), 12);
    let pack = |output: &Path| {
        let mut command = Command::new(binary("lift-trainer"));
        command.args(["pack", "-q", "--raw", "--images-per-shard", "1", "--threads", "2", "-d"]).arg(&preset);
        command.arg("--output").arg(output).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    succeed(&mut pack(&whole));
    let mut ends = 0;
    for shards in [1, 30, 70] {
        let mut process = pack(&killed).spawn().unwrap();
        let start = Instant::now();
        let is_there = || killed.join(format!("train-{shards:06}.json")).exists();
        while !is_there() && process.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(1));
        }
        process.kill().unwrap();
        ends += u64::from(process.wait().unwrap().code().is_none());
    }
    assert!(ends > 0, "no kill came before the end");
    let output = succeed(pack(&killed).arg("--json").stdout(Stdio::piped()));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["kept_shards"].as_u64().unwrap() >= 1, "{report}");
    let (whole, killed) = (content(&whole), content(&killed));
    assert!(whole == killed, "{} and {} files", whole.len(), killed.len());
}

/// Packing, caching and reading ahead change where bytes come from, and no result.
#[test]
fn a_run_is_the_same_from_packed_cached_and_announced_images() {
    let root = tempfile::tempdir().unwrap();
    let preset = stripes(root.path(), 4);
    let at = |name: &str| root.path().join(name).display().to_string();
    let copied = PathBuf::from(at("copied")).join("data.toml");
    let mut pack = Command::new(binary("lift-trainer"));
    succeed(pack.args(["pack", "-q", "-d"]).arg(&preset).args(["--output", &at("copied")]));
    let (cache, memory) = (format!("data.cache={}", at("cache")), "data.cache=memory".to_owned());
    let train = |data: &Path, settings: &[&str], output: &str| {
        let mut command = trainer(1);
        command
            .args(["train", "-q", "-m", "demo", "--set", "train.epochs=2", "--set", "train.threads=1", "-d"])
            .arg(data);
        for setting in settings {
            command.args(["--set", setting]);
        }
        succeed(command.args(["--output", &at(output)]));
        final_bytes(Path::new(&at(output)))
    };
    let tensors = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    let plain = tensors(&train(&preset, &[], "plain"));
    let variants: [(&str, &Path, &[&str]); 3] = [
        ("of-copied", &copied, &["data.read_ahead=4", &memory]),
        ("filling", &preset, &[&cache, "data.read_ahead=3"]),
        ("filled", &preset, &[&cache]),
    ];
    for (name, data, settings) in variants {
        assert!(tensors(&train(data, settings, name)) == plain, "{name}");
    }
    assert!(fs::read_dir(at("cache")).unwrap().count() == 1);
}

//! `lift-trainer predict`: the predictions of an evaluation, in the order of the input, on any number of ranks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tests::stripes::{CLASSES, short_run};
use tests::{run, stderr, succeed, trainer};

/// A run of two steps on the small data set beside it.
fn trained(folder: &Path) -> PathBuf {
    let path = folder.join("run");
    succeed(&mut short_run(1, &path, &["train.max_steps=2"]));
    path
}

fn predict(ranks: usize, run: &Path) -> Command {
    let mut command = trainer(ranks);
    command.args(["predict", "--set", "train.threads=1", "--run"]).arg(run);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn predictions_are_those_of_the_evaluation_in_the_order_of_the_input_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(folder.path());
    let list = fs::read_to_string(folder.path().join("test.txt")).unwrap();
    let paths: Vec<&str> = list.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    let classes = folder.path().join("classes.txt");
    let mut evaluate = trainer(1);
    evaluate.args(["eval", "-q", "--set", "train.threads=1", "--run"]).arg(&trained);
    succeed(evaluate.arg("--predictions").arg(&classes));
    let expected = fs::read_to_string(classes).unwrap();

    // The data set itself is gone, and only the images are left.
    for file in ["train.txt", "test.txt", "names.txt"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let own = folder.path().join("own.txt");
    fs::write(&own, paths.join("\n")).unwrap();
    let of = |ranks, inputs: &[&Path]| {
        let mut command = predict(ranks, &trained);
        stdout(command.args(["-q", "--json", "--set", "eval.batch_size=5"]).args(inputs))
    };
    let text = of(1, &[&own]);
    assert_eq!(of(3, &[&own]), text, "the same on three ranks");
    let found = lines(&text);
    let best = found.iter().map(|line| format!("{}\n", line["predictions"][0]["class"]));
    assert_eq!(best.collect::<String>(), expected);
    for (line, path) in found.iter().zip(&paths) {
        assert_eq!(line["image"], folder.path().join(path).to_str().unwrap());
        let guesses = line["predictions"].as_array().unwrap();
        assert_eq!(guesses.len(), 5);
        let probabilities: Vec<f64> =
            guesses.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b) && probabilities[0] <= 1.0);
    }

    // A folder is searched; standard input is a list of one rank that all ranks get.
    let folder_text = of(1, &[&folder.path().join("test")]);
    assert_eq!(lines(&folder_text).len(), paths.len());
    let mut command = predict(2, &trained);
    command.args(["-q", "--json", "--set", "eval.batch_size=5", "-"]).current_dir(folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(paths.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let from_list = lines(&String::from_utf8(output.stdout).unwrap());
    assert!(from_list.iter().zip(&found).all(|(a, b)| a["predictions"] == b["predictions"]));

    // Folding changes nothing but the last digits.
    let mut command = predict(1, &trained);
    let text = stdout(command.args(["-q", "--json", "--fold"]).arg(&own));
    for (folded, line) in lines(&text).iter().zip(&found) {
        let of = |line: &Value| line["predictions"][0]["probability"].as_f64().unwrap();
        assert!((of(folded) - of(line)).abs() < 1e-5, "{folded} {line}");
    }
}

#[test]
fn unreadable_images_are_reported_and_the_others_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(folder.path());
    let good = folder.path().join("test/0-0.jpg");
    let torn = folder.path().join("torn\u{1b}[31m.jpg");
    fs::write(&torn, &fs::read(&good).unwrap()[..500]).unwrap();
    let list = folder.path().join("list.json");
    let listed = |id: u32, path: &Path| serde_json::json!({ "id": id, "file_name": path });
    let listing = serde_json::json!({ "images": [listed(70, &good), listed(71, &torn), listed(72, &good)] });
    fs::write(&list, listing.to_string()).unwrap();

    let output = succeed(predict(2, &trained).args(["--top", "1"]).arg(&list));
    let (table, messages) = (String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output));
    assert!(table.contains("(cannot be read)"), "{table}");
    assert!(messages.contains("warning: 1 of 3 images cannot be read"), "{messages}");
    assert!(messages.contains("images a second"), "{messages}");
    assert!(!table.contains('\u{1b}') && !messages.contains('\u{1b}'), "{table}{messages}");

    let submission = folder.path().join("submission.csv");
    let mut command = predict(1, &trained);
    command.args(["-q", "--format", "inat", "--top", "3"]).arg(&list).arg("--output").arg(&submission);
    succeed(&mut command);
    let text = fs::read_to_string(submission).unwrap();
    let rows: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(',')).collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["id", "70", "72"]);
    assert_eq!(rows[1].1, rows[2].1);
    let classes: Vec<usize> = rows[1].1.split(' ').map(|class| class.parse().unwrap()).collect();
    assert!(classes.len() == 3 && classes.iter().all(|&class| class < CLASSES));

    let output = run(predict(1, &trained).arg("-q").arg(&torn));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with("error: none of the images can be read\n"), "{}", stderr(&output));
}

#[test]
fn wrong_input_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(folder.path());
    let image = folder.path().join("test/0-0.jpg");
    let refused = |command: &mut Command| {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2), "{command:?} {}", stderr(&output));
        stderr(&output)
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let said = refused(predict(2, &trained).arg(&empty));
    let expected = format!(
        "error: `{}` contains no image; expected JPEG, PNG, WebP, GIF, BMP, TIFF or PNM files, at any depth\n",
        empty.display()
    );
    // mpirun adds sentences of its own.
    assert!(said.starts_with(&expected) && said.matches("error:").count() == 1, "{said}");
    let said = refused(predict(1, &trained).arg("--calibrated").arg(&image));
    assert!(said.contains("is not calibrated\nhint: run `lift-trainer calibrate --run"), "{said}");
    let said = refused(predict(1, &trained).args(["--set", "train.seed=3"]).arg(&image));
    assert!(said.contains("train.seed is 0 in the run and 3 now"), "{said}");
    let said = refused(predict(1, &folder.path().join("absent")).arg(&image));
    assert!(said.contains("config.toml") && said.contains("--run needs the folder of a run"), "{said}");

    // A result of another version, then none, then no final tensors.
    let result = trained.join("result.json");
    fs::write(&result, "{\"data\": 3}").unwrap();
    let said = refused(predict(1, &trained).arg(&image));
    assert!(said.contains("result.json") && said.contains("invalid type"), "{said}");
    fs::remove_file(&result).unwrap();
    let said = refused(predict(1, &trained).arg(&image));
    assert!(said.contains("cannot read the result"), "{said}");
    fs::remove_file(trained.join("final.safetensors")).unwrap();
    let said = refused(predict(1, &trained).arg(&image));
    assert!(said.contains("the training of the run has not finished"), "{said}");
}

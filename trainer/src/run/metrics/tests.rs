//! Lines written, cut back, torn and read.

use super::*;
use proptest::prelude::*;

fn step(step: u64) -> MetricsRecord {
    MetricsRecord::Step(StepRecord {
        epoch: step / 10,
        step,
        loss: 1.0 / 3.0 + step as f64,
        learning_rate: 0.01,
        samples: 128,
        images_per_second: 250.0,
        data_wait: 0.125,
        wait: WaitSeconds::default(),
        finite: true,
        bytes: 0,
    })
}

fn eval() -> MetricsRecord {
    let summary = Summary {
        accuracy: Some(81.5),
        worst_class: Some(0.0),
        correct: 163,
        total: 200,
        ..Summary::default()
    };
    MetricsRecord::Eval(EvalRecord {
        epoch: 1,
        step: 20,
        split: "test".into(),
        crops: "five".into(),
        summary,
        seconds: 2.5,
    })
}

fn epoch() -> MetricsRecord {
    MetricsRecord::Epoch(EpochRecord { epoch: 0, step: 10, loss: 0.1, samples: 1280, seconds: 5.0 })
}

#[test]
fn lines_are_written_as_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    for record in [step(1), eval(), epoch()] {
        writer.append(&record).unwrap();
    }
    let expected = [
        r#"{"kind":"step","epoch":0,"step":1,"loss":1.3333333333333333,"learning_rate":0.01,"samples":128,"images_per_second":250.0,"data_wait":0.125,"wait_read":0.0,"wait_decode":0.0,"wait_queue":0.0,"finite":true,"bytes":0}"#,
        r#"{"kind":"eval","epoch":1,"step":20,"split":"test","crops":"five","accuracy":81.5,"many":null,"medium":null,"few":null,"macro_f1":null,"mean_class_accuracy":null,"worst_class":0.0,"harmonic_mean":null,"geometric_mean":null,"correct":163,"total":200,"seconds":2.5}"#,
        r#"{"kind":"epoch","epoch":0,"step":10,"loss":0.1,"samples":1280,"seconds":5.0}"#,
    ];
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(text.ends_with('\n'));
    let read = read_metrics(&path).unwrap();
    assert_eq!(read, Metrics { records: vec![step(1), eval(), epoch()], torn: None });
}

#[test]
fn steps_wait_and_everything_else_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let length = || std::fs::metadata(&path).unwrap().len();
    let mut writer = MetricsWriter::create(&path).unwrap();
    writer.append(&step(1)).unwrap();
    assert_eq!(length(), 0);
    assert!(writer.position() > 0);
    writer.append(&epoch()).unwrap();
    assert_eq!(length(), writer.position());
    writer.append(&step(2)).unwrap();
    writer.sync().unwrap();
    assert_eq!(length(), writer.position());
    writer.append(&step(3)).unwrap();
    writer.last_write -= LONGEST_WAIT;
    writer.append(&step(4)).unwrap();
    assert_eq!(length(), writer.position());
    writer.append(&step(5)).unwrap();
    drop(writer);
    assert_eq!(read_metrics(&path).unwrap().records.len(), 6);
}

#[test]
fn waiting_lines_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    for number in 1..=2000 {
        writer.append(&step(number)).unwrap();
        assert!(writer.waiting.len() <= MOST_WAITING);
    }
    assert!(writer.written > 0);
}

#[test]
fn a_resumed_run_loses_and_doubles_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    let mut writer = MetricsWriter::create(&whole).unwrap();
    (1..=9).for_each(|number| writer.append(&step(number)).unwrap());
    drop(writer);

    let mut writer = MetricsWriter::create(&parted).unwrap();
    (1..=4).for_each(|number| writer.append(&step(number)).unwrap());
    let checkpoint = writer.position();
    (5..=7).for_each(|number| writer.append(&step(number)).unwrap());
    drop(writer);
    // The killed writer also leaves half a line.
    File::options().append(true).open(&parted).unwrap().write_all(b"{\"kind\":\"st").unwrap();
    let mut writer =
        MetricsWriter::reopen(&parted, MetricsPosition { position: checkpoint, step: 4 }).unwrap();
    assert_eq!(writer.position(), checkpoint);
    (5..=9).for_each(|number| writer.append(&step(number)).unwrap());
    drop(writer);
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&parted).unwrap());
}

#[test]
fn cutting_back_takes_waiting_lines_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    writer.append(&step(1)).unwrap();
    let position = writer.position();
    writer.append(&step(2)).unwrap();
    writer.truncate_to(MetricsPosition { position, step: 1 }).unwrap();
    writer.append(&step(3)).unwrap();
    drop(writer);
    assert_eq!(read_metrics(&path).unwrap().records, [step(1), step(3)]);
    let writer = MetricsWriter::reopen(&path, MetricsPosition { position: 0, step: 0 }).unwrap();
    assert_eq!(writer.position(), 0);
}

#[test]
fn a_file_that_does_not_fit_the_checkpoint_keeps_the_lines_up_to_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let text: String = (1..=4).map(|number| serde_json::to_string(&step(number)).unwrap() + "\n").collect();
    let torn = text.clone() + "{\"kind\":\"st";
    // Lines are missing before the checkpoint, or its place lies within a line.
    for position in [text.len() as u64 + 99, 7] {
        std::fs::write(&path, &torn).unwrap();
        let mut writer = MetricsWriter::reopen(&path, MetricsPosition { position, step: 2 }).unwrap();
        writer.append(&step(3)).unwrap();
        drop(writer);
        assert_eq!(read_metrics(&path).unwrap().records, [step(1), step(2), step(3)]);
    }
    // There is nothing to resume with.
    std::fs::remove_file(&path).unwrap();
    let mut writer = MetricsWriter::reopen(&path, MetricsPosition { position: 700, step: 2 }).unwrap();
    writer.append(&step(3)).unwrap();
    drop(writer);
    assert_eq!(read_metrics(&path).unwrap().records, [step(3)]);
}

#[test]
fn what_others_do_to_the_file_loses_no_later_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    let mut add = |number| {
        writer.append(&step(number)).unwrap();
        writer.sync().unwrap();
        assert_eq!(writer.position(), std::fs::metadata(&path).unwrap().len());
        read_metrics(&path).unwrap().records
    };
    add(1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(add(2), [step(1), step(2)], "a removed file is brought back");
    File::create(&path).unwrap();
    assert_eq!(add(3), [step(3)], "a file that was emptied is appended to");
    let other = folder.path().join("other");
    // Without an end of its line.
    std::fs::write(&other, serde_json::to_string(&step(7)).unwrap()).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(add(8), [step(7), step(8)], "another file is appended to");
    std::fs::remove_file(&path).unwrap();
    writer.sync().unwrap();
    assert_eq!(read_metrics(&path).unwrap().records.len(), 2, "also when no line waits");
}

#[test]
fn a_file_that_exists_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    std::fs::write(&path, "old").unwrap();
    let message = MetricsWriter::create(&path).unwrap_err().to_string();
    assert_eq!(message, format!("cannot create the metrics `{}`: File exists (os error 17)", path.display()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn a_full_disk_is_told_and_the_lines_are_kept() {
    // Every write to this device fails as on a full disk.
    let full = Path::new("/dev/full");
    let mut writer = MetricsWriter::new(full, File::options().write(true).open(full).unwrap(), 0);
    writer.append(&step(1)).unwrap();
    let position = writer.position();
    let message = writer.flush().unwrap_err().to_string();
    assert_eq!(
        message,
        "cannot write the metrics `/dev/full`: No space left on device (os error 28)\nhint: free some space on that disk or \
         choose another --output"
    );
    assert_eq!(writer.position(), position);
    // There is room again: nothing is lost.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    (writer.path, writer.file) = (path.clone(), append_to(&path).unwrap());
    writer.append(&step(2)).unwrap();
    drop(writer);
    assert_eq!(read_metrics(&path).unwrap().records, [step(1), step(2)]);
}

/// Names the file that [`a_line_written_in_part`] writes to.
const LIMITED: &str = "LIFT_TEST_METRICS_LIMITED";

/// Runs in a process whose files may not grow beyond a few hundred bytes; without a name, not at all.
#[test]
fn a_line_written_in_part() {
    let Some(path) = std::env::var_os(LIMITED).map(PathBuf::from) else { return };
    let mut writer = MetricsWriter::create(&path).unwrap();
    writer.append(&step(1)).unwrap();
    writer.flush().unwrap();
    let whole = std::fs::read(&path).unwrap();
    (2..=40).for_each(|number| writer.append(&step(number)).unwrap());
    writer.flush().unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), whole, "half a line stays");
    println!("cut back");
}

#[test]
fn no_half_line_stays_when_the_disk_fills_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = module_path!().split_once("::").unwrap().1.to_owned() + "::a_line_written_in_part";
    // Without the trap the process would be killed by SIGXFSZ instead of getting an error.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(LIMITED, folder.path().join("metrics.jsonl"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("cut back"), "{output:?}");
}

#[test]
fn a_torn_last_line_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut text = serde_json::to_string(&step(1)).unwrap();
    text.push_str("\n{\"kind\":\"step\",\"ep");
    std::fs::write(&path, text).unwrap();
    let read = read_metrics(&path).unwrap();
    assert_eq!(read.records, [step(1)]);
    assert_eq!(read.torn.as_deref(), Some("{\"kind\":\"step\",\"ep"));
    std::fs::write(&path, "").unwrap();
    assert_eq!(read_metrics(&path).unwrap(), Metrics::default());
}

#[test]
fn a_broken_line_in_between_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let good = serde_json::to_string(&step(1)).unwrap();
    std::fs::write(&path, format!("{good}\n{{\"kind\":\"step\"}}\n{good}\n")).unwrap();
    let message = read_metrics(&path).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("metrics `{}`, line 2: missing field", path.display())),
        "{message}"
    );
    std::fs::write(&path, vec![b'x'; LONGEST_LINE as usize + 9]).unwrap();
    let message = read_metrics(&path).unwrap_err().to_string();
    assert!(message.ends_with("line 1: the line is longer than 1048576 bytes"), "{message}");
}

#[test]
fn losses_that_are_not_finite_are_null() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let MetricsRecord::Step(good) = step(1) else { unreachable!() };
    let mut writer = MetricsWriter::create(&path).unwrap();
    for loss in [f64::NAN, f64::INFINITY] {
        writer.append(&MetricsRecord::Step(StepRecord { loss, finite: false, ..good.clone() })).unwrap();
    }
    drop(writer);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\"loss\":null").count(), 2);
    for record in read_metrics(&path).unwrap().records {
        assert!(matches!(record, MetricsRecord::Step(step) if step.loss.is_nan() && !step.finite));
    }
}

proptest! {
    /// Full precision: the written text is that of the very number.
    #[test]
    fn losses_keep_every_bit(bits in any::<u64>()) {
        let loss = f64::from_bits(bits);
        prop_assume!(loss.is_finite());
        let MetricsRecord::Step(good) = step(1) else { unreachable!() };
        let line = serde_json::to_string(&MetricsRecord::Step(StepRecord { loss, ..good })).unwrap();
        let (_, rest) = line.split_once("\"loss\":").unwrap();
        let (text, _) = rest.split_once(',').unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
    }

    /// Wherever a file is cut off, the whole lines are read and the rest is reported.
    #[test]
    fn a_file_cut_anywhere_is_read(cut in 0.0..=1.0) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let records = [step(1), eval(), epoch(), step(11)];
        let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        let text = lines.concat();
        let text = &text[..(cut * text.len() as f64) as usize];
        std::fs::write(&path, text).unwrap();
        let read = read_metrics(&path).unwrap();
        prop_assert_eq!(read.records.len(), text.matches('\n').count());
        prop_assert_eq!(&read.records[..], &records[..read.records.len()]);
        prop_assert_eq!(read.torn.is_some(), !text.is_empty() && !text.ends_with('\n'));
    }
}

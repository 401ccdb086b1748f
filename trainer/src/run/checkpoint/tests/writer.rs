//! The thread that writes.

use super::*;
use std::time::{Duration, Instant};

fn options() -> WriterOptions {
    WriterOptions { max_failures: 2, pauses: vec![Duration::from_millis(5); 3] }
}

fn writer(folder: &Path, fault: Option<&str>) -> CheckpointWriter<State> {
    let disk = fault.map_or_else(Disk::default, |fault| Disk::with(Faults::one(fault)));
    CheckpointWriter::start(Store::with(folder, retention(9, false), disk).unwrap(), options()).unwrap()
}

/// Events in short: the step and a letter.
fn short(events: &[WriterEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            WriterEvent::Written(written) => format!("w{}", written.step),
            WriterEvent::Failed { step, in_a_row, gave_up, .. } => {
                format!("f{step}:{in_a_row}{}", if *gave_up { "!" } else { "" })
            }
            WriterEvent::Retried { step, .. } => format!("r{step}"),
            WriterEvent::Replaced { step, by } => format!("{step}<{by}"),
        })
        .collect()
}

#[test]
fn everything_submitted_one_after_the_other_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), None);
    for step in 1..5 {
        writer.submit(snapshot(step, 0), None);
        while !writer.is_idle() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let used = writer.recycle().unwrap();
        assert_eq!(used, snapshot(step, 0).tensors);
        assert_eq!(writer.recycle(), None);
    }
    writer.finish().unwrap();
    assert_eq!(short(&writer.events()), ["w1", "w2", "w3", "w4"]);
    assert_eq!(short(&writer.events()), [""; 0]);
    assert_eq!(reader(folder.path()).generations().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn while_one_is_written_the_newest_waits_and_what_must_be_kept_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    // The first write is held up by errors that pass.
    let fault = "fail:create@1:ESTALE:3";
    let mut slow = options();
    slow.pauses = vec![Duration::from_millis(100); 3];
    let store = faulty(folder.path(), retention(9, false), fault).unwrap();
    let mut writer = CheckpointWriter::start(store, slow).unwrap();
    writer.submit(snapshot(1, 0), None);
    let start = Instant::now();
    while writer.events().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    writer.submit(snapshot(2, 0), None);
    writer.submit(snapshot(3, 0), None);
    writer.submit_must_keep(snapshot(4, 0), None);
    writer.submit(snapshot(5, 0), None);
    writer.submit(snapshot(6, 0), None);
    writer.finish().unwrap();
    let mut events = short(&writer.events());
    events.retain(|event| event != "r1");
    assert_eq!(events, ["2<3", "3<4", "5<6", "w1", "w4", "w6"]);
    assert_eq!(reader(folder.path()).generations().unwrap(), [1, 4, 6]);
    assert!(writer.recycle().is_some() && writer.recycle().is_some() && writer.recycle().is_none());
}

#[test]
fn errors_that_pass_are_waited_for_and_errors_that_stay_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut passing = writer(folder.path(), Some("fail:fsync@2:EIO:2"));
    passing.submit(snapshot(1, 0), None);
    passing.finish().unwrap();
    assert_eq!(short(&passing.events()), ["r1", "r1", "w1"]);

    let mut staying = writer(folder.path(), Some("fail:create@1:ENOSPC:2"));
    for step in 2..5 {
        staying.submit_must_keep(snapshot(step, 0), None);
    }
    staying.finish().unwrap();
    assert_eq!(short(&staying.events()), ["f2:1", "f3:2!", "w4"]);

    let mut last = writer(folder.path(), Some("fail:fsync@1:EIO:99"));
    last.submit(snapshot(5, 0), None);
    let error = last.finish().unwrap_err();
    assert!(error.to_string().contains("Input/output error"), "{error}");
    assert_eq!(short(&last.events()), ["r5", "r5", "r5", "f5:1"]);
    assert_eq!(reader(folder.path()).generations().unwrap(), [1, 4]);
}

#[test]
fn a_panic_in_the_state_is_a_failure_like_others() {
    #[derive(Deserialize)]
    struct Wild(bool);
    impl Serialize for Wild {
        fn serialize<T: serde::Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
            assert!(!self.0, "wild");
            serializer.serialize_bool(self.0)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(1, false), &[]);
    let mut writer = CheckpointWriter::start(store, options()).unwrap();
    writer.submit_must_keep(Snapshot { step: 1, tensors: vec![], state: Wild(true) }, None);
    writer.submit_must_keep(Snapshot { step: 2, tensors: vec![], state: Wild(false) }, None);
    writer.finish().unwrap();
    assert_eq!(short(&writer.events()), ["f1:1", "w2"]);
}

#[test]
fn a_writer_that_is_dropped_writes_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(folder.path(), None);
    writer.submit(snapshot(1, 0), None);
    drop(writer);
    assert_eq!(reader(folder.path()).newest::<State>().unwrap().unwrap().snapshot, snapshot(1, 0));
}

#[test]
fn handing_over_takes_no_time_whatever_the_size() {
    const SIZE: usize = 32 << 20;
    let folder = tempfile::tempdir().unwrap();
    let large = |step| Snapshot {
        tensors: vec![TensorBytes {
            name: "a".into(),
            dtype: Dtype::U8,
            shape: vec![SIZE],
            bytes: vec![1; SIZE],
        }],
        ..snapshot(step, 0)
    };
    let mut writer = writer(folder.path(), None);
    let mut times: Vec<Duration> = (1..6)
        .map(|step| {
            let mut snapshot = large(step);
            if let Some(tensors) = writer.recycle() {
                snapshot.tensors = tensors;
            }
            let start = Instant::now();
            writer.submit(snapshot, None);
            start.elapsed()
        })
        .collect();
    times.sort();
    writer.finish().unwrap();
    println!("submit: {times:?}; {:?}", short(&writer.events()));
    // The median, because another process may take the core in between.
    assert!(times[times.len() / 2] < Duration::from_millis(1), "{times:?}");
    let newest = reader(folder.path()).newest::<State>().unwrap().unwrap();
    assert_eq!(newest.snapshot, large(5));
}

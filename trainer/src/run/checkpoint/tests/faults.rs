//! Calls that fail: at each call of a write, with errors that pass and errors that stay.

use super::*;
use crate::run::checkpoint::manifest::TENSORS;

const KEEP: usize = 2;

#[test]
fn whichever_call_fails_the_older_ones_stay_and_the_next_write_succeeds() {
    let template = tempfile::tempdir().unwrap();
    store_with(template.path(), retention(KEEP, true), &[(10, Some(0.5)), (20, Some(0.4))]);
    let mut failed = 0;
    for call in 1.. {
        let folder = tempfile::tempdir().unwrap();
        copy(template.path(), folder.path());
        let disk = Disk::with(Faults::one(&format!("fail:{call}:EACCES")));
        let opened = Store::with(folder.path(), retention(KEEP, true), disk.clone());
        let outcome = opened.and_then(|mut store| store.write(&snapshot(30, 0), Some(0.6)));
        let reader = reader(folder.path());
        let newest = reader.newest::<State>().unwrap().unwrap();
        assert_eq!(newest.skipped, []);
        match outcome {
            Ok(_) => assert_eq!(newest.snapshot, snapshot(30, 0), "call {call}"),
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains("Permission denied"), "{error}");
                assert!(reader.generations().unwrap().starts_with(&[10, 20]), "call {call}: {error}");
            }
        }
        let store = store_with(folder.path(), retention(KEEP, true), &[(40, None)]);
        let expected = if store.load::<State>(30).is_ok() { vec![30, 40] } else { vec![10, 20, 40] };
        let kept = store.generations().unwrap();
        assert!(kept.ends_with(&expected[expected.len() - 2..]), "call {call}: {kept:?}");
        assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')), "call {call}");
        if (disk.faults().names().len() as u64) < call {
            println!("{failed} of {} calls make a write fail", call - 1);
            break;
        }
    }
    assert!(failed > 15, "{failed}");
}

/// A power loss cannot be played here, so the order that survives one is held instead.
#[test]
fn everything_is_forced_to_disk_before_it_gets_its_name_and_before_anything_older_goes() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(1, true), &[(10, Some(0.1))]);
    let disk = Disk::default();
    let mut store = Store::with(folder.path(), retention(1, true), disk.clone()).unwrap();
    store.write(&snapshot(20, 0), Some(0.2)).unwrap();
    let mut calls = disk.faults().names();
    calls.retain(|name| !["list", "open", "read"].contains(name));
    let files = "create write write write write fsync create write fsync create write fsync";
    let best = "create write fsync rename fsync";
    let removal = "rename fsync unlink unlink unlink rmdir";
    // The first `mkdir` finds the folder of checkpoints there.
    assert_eq!(calls.join(" "), format!("mkdir mkdir {files} fsync rename fsync {best} {removal}"));
}

#[test]
fn a_load_waits_for_errors_that_pass_before_it_takes_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(2, false), &[(10, None), (20, None)]);
    for fault in ["fail:open@1:ESTALE:2", "fail:read@2:EIO", "fail:read@1:EINTR:5", "fail:list@2:ETIMEDOUT"] {
        let reader = CheckpointReader::with(folder.path(), Disk::with(Faults::one(fault)));
        let found = reader.newest::<State>().unwrap().unwrap();
        assert_eq!((found.snapshot, found.skipped), (snapshot(20, 0), vec![]), "{fault}");
    }
    let reader = CheckpointReader::with(folder.path(), Disk::with(Faults::one("fail:open@1:EIO:4")));
    let found = reader.newest::<State>().unwrap().unwrap();
    assert_eq!(found.snapshot, snapshot(10, 0), "an error that stays");
    assert!(found.skipped[0].1.contains("Input/output error"), "{:?}", found.skipped);
}

#[test]
fn planted_bugs_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let with = |bug| {
        let disk = Disk::with(Faults::default().with_bug(bug));
        Store::with(folder.path(), retention(2, false), disk).unwrap()
    };

    with("unsynced_byte").write(&snapshot(10, 0), None).unwrap();
    let found = reader(folder.path()).newest::<State>().unwrap().unwrap().snapshot;
    assert_ne!(found, snapshot(10, 0), "the checksums agree, the weights do not");
    assert_eq!(found.tensors[..2], snapshot(10, 0).tensors[..2]);

    let file = folder.path().join("00000010").join(TENSORS);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(reader(folder.path()).load::<State>(10).is_err());
    assert!(with("unverified_load").load::<State>(10).is_ok());

    with("early_prune").write(&snapshot(20, 0), None).unwrap();
    assert_eq!(reader(folder.path()).generations().unwrap(), [20]);
    with("torn_publish").write(&snapshot(30, 0), None).unwrap();
    assert_eq!(reader(folder.path()).load::<State>(30).unwrap(), snapshot(30, 0));
}

//! Which checkpoints stay, and which one is taken.

use super::*;
use std::fs;

fn damage(folder: &Path, step: u64) {
    let path = folder.join(format!("{step:08}/tensors.safetensors"));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn the_newest_stay_and_the_best_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let metrics =
        [(1, Some(0.5)), (2, Some(0.9)), (3, Some(0.9)), (4, None), (5, Some(f64::NAN)), (6, Some(0.1))];
    let store = store_with(folder.path(), retention(2, true), &metrics);
    assert_eq!(store.generations().unwrap(), [2, 5, 6]);
    let best = store.best().unwrap().unwrap();
    assert_eq!((best.step, best.metric), (2, 0.9), "of equals the first");
    assert_eq!(names(folder.path()), ["00000002", "00000005", "00000006", "best.json"]);
    let store = store_with(folder.path(), retention(2, true), &[(7, Some(1.5))]);
    assert_eq!(store.generations().unwrap(), [6, 7]);
    assert_eq!(store.best().unwrap().unwrap().step, 7);
}

#[test]
fn without_a_metric_only_the_newest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(1, false), &[(1, Some(0.5)), (2, None), (3, None)]);
    assert_eq!(store.generations().unwrap(), [3]);
    assert_eq!(names(folder.path()), ["00000003"]);
}

#[test]
fn the_best_is_known_without_a_sound_best_json() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(1, true), &[(1, Some(0.9)), (2, Some(0.3))]);
    let path = folder.path().join("best.json");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.reader().recorded_best(), None, "byte {at}");
        assert_eq!(store.best().unwrap().unwrap().step, 1);
    }
    store_with(folder.path(), retention(1, true), &[(3, None)]);
    assert_eq!(fs::read(&path).unwrap(), sound, "the next write repairs it");
}

#[test]
fn a_damaged_checkpoint_does_not_count_among_the_kept() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(3, false), &[(1, None), (2, None), (3, None)]);
    damage(folder.path(), 3);
    let store = store_with(folder.path(), retention(2, false), &[(4, None)]);
    assert_eq!(store.generations().unwrap(), [2, 3, 4], "2 and 4 are the two that are whole");
    let store = store_with(folder.path(), retention(2, false), &[(5, None)]);
    assert_eq!(store.generations().unwrap(), [4, 5]);
}

#[test]
fn the_newest_whole_one_is_taken_and_the_others_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(3, false), &[(1, None), (2, None), (3, None)]);
    damage(folder.path(), 3);
    fs::remove_file(folder.path().join("00000002/state.json")).unwrap();
    let found = store.newest::<State>().unwrap().unwrap();
    assert_eq!((found.snapshot, found.path), (snapshot(1, 0), folder.path().join("00000001")));
    let [(third, checksum), (second, missing)] = &found.skipped[..] else { panic!("{:?}", found.skipped) };
    assert!(third.ends_with("00000003") && checksum.contains("expected SHA-256 "), "{checksum}");
    assert!(second.ends_with("00000002"));
    assert_eq!(
        *missing,
        format!(
            "checkpoint `{}` is damaged: expected the files manifest.json, state.json and tensors.safetensors, found \
             manifest.json, tensors.safetensors\nhint: use an older one",
            second.display()
        )
    );
}

#[test]
fn checkpoints_of_which_none_can_be_used_are_an_error_and_no_fresh_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(3, false), &[(1, None), (2, None)]);
    damage(folder.path(), 1);
    damage(folder.path(), 2);
    let error = store.newest::<State>().unwrap_err();
    assert!(matches!(&error, CheckpointError::NoneUsable { skipped, .. } if skipped.len() == 2));
    let start = format!("none of the 2 checkpoints in `{}` can be used: ", folder.path().display());
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn another_state_is_another_version_and_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(3, false), &[(1, None)]);
    let error = store.load::<u64>(1).unwrap_err();
    assert!(matches!(error, CheckpointError::Version { .. }), "{error}");
}

/// Makes the checkpoint one of a later format, which has a file more.
fn make_newer(folder: &Path, step: u64) {
    let path = folder.join(format!("{step:08}"));
    let text = fs::read(path.join(manifest::MANIFEST)).unwrap();
    let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
    value.remove("checksum");
    value["format"] = 2.into();
    fs::write(path.join(manifest::MANIFEST), sealed::seal(&value).unwrap()).unwrap();
    fs::write(path.join("index.bin"), "of a later version").unwrap();
}

#[test]
fn a_checkpoint_of_a_newer_version_is_neither_passed_over_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store_with(folder.path(), retention(3, false), &[(1, None), (2, None), (3, None)]);
    make_newer(folder.path(), 3);
    let error = store.newest::<State>().unwrap_err();
    assert!(error.is_of_another_version(), "{error}");
    assert!(error.to_string().contains("expected format 1, found 2; it is kept"), "{error}");
    // Whoever resumes from an older one by name goes to another folder.
    let error = store.discard_after(1).unwrap_err();
    assert!(error.is_of_another_version(), "{error}");
    assert_eq!(names(folder.path()), ["00000001", "00000002", "00000003"]);
    assert_eq!(store.load::<State>(1).unwrap(), snapshot(1, 0));
}

#[test]
fn a_checkpoint_of_a_newer_version_outlives_the_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(3, false), &[(1, None), (2, None)]);
    make_newer(folder.path(), 1);
    let store = store_with(folder.path(), retention(1, false), &[(3, None), (4, None)]);
    assert_eq!(store.generations().unwrap(), [1, 4]);
    assert!(store.newest::<State>().unwrap().unwrap().skipped.is_empty());
}

#[test]
fn a_step_is_written_again_in_place_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store_with(folder.path(), retention(2, false), &[(1, None), (2, None)]);
    store.write(&snapshot(2, 9), None).unwrap();
    assert_eq!(store.load::<State>(2).unwrap(), snapshot(2, 9));
    assert_eq!(names(folder.path()), ["00000001", "00000002"]);
}

#[test]
fn a_run_that_goes_on_from_an_older_step_discards_the_later_ones_first() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = [(1, Some(0.1)), (2, Some(0.2)), (3, Some(0.3))];
    let mut store = store_with(folder.path(), retention(3, true), &metrics);
    let error = store.write(&snapshot(2, 1), None).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot write checkpoint 2 into `{}`: it has one of the later step 3\nhint: first discard those after the step \
             to resume from",
            folder.path().display()
        )
    );
    store.discard_after(1).unwrap();
    assert_eq!(names(folder.path()), ["00000001", "best.json"]);
    assert_eq!(store.best().unwrap().unwrap().step, 1);
    store.write(&snapshot(2, 1), None).unwrap();
    store.discard_after(0).unwrap();
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn what_a_writer_left_that_died_is_removed_and_what_stepped_aside_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let dead = std::process::Command::new("true").spawn().and_then(|mut child| {
        child.wait()?;
        Ok(child.id())
    });
    let dead = dead.unwrap();
    store_with(folder.path(), retention(3, false), &[(1, None), (2, None)]);
    let at = |name: String| folder.path().join(name);
    copy(&at("00000001".into()), &at(format!(".00000003.tmp-{dead}")));
    copy(&at("00000001".into()), &at(format!(".00000001.old-{dead}")));
    fs::create_dir_all(at(format!(".00000000.del-{dead}/more/of/it"))).unwrap();
    fs::write(at(format!(".best.json.tmp-{dead}")), b"{").unwrap();
    fs::rename(at("00000002".into()), at(format!(".00000002.old-{dead}"))).unwrap();
    fs::write(at(".somebody's file".into()), b"").unwrap();
    let store = store_with(folder.path(), retention(3, false), &[]);
    assert_eq!(names(folder.path()), [".somebody's file", "00000001", "00000002"]);
    assert_eq!(store.load::<State>(2).unwrap(), snapshot(2, 0));
}

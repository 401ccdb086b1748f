//! Folders that are moved, replaced and taken over while they are claimed.

use super::*;
use std::fs::TryLockError;

/// A folder to be claimed, inside one that is removed in the end.
fn place() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().canonicalize().unwrap().join("run");
    fs::create_dir(&path).unwrap();
    (parent, path)
}

fn said(claim: &Claim) -> String {
    claim.check().unwrap_err().to_string()
}

#[test]
fn a_folder_that_was_moved_is_lost_and_says_where_it_is() {
    let (parent, path) = place();
    let claim = Claim::take(&path).unwrap();
    claim.check().unwrap();
    let moved = parent.path().canonicalize().unwrap().join("old");
    fs::rename(&path, &moved).unwrap();
    let expected = format!(
        "`{}` is no longer the folder of this run: it was moved or removed; the run ends and writes nothing more there; \
         its own folder is `{1}` now\nhint: resume it with `--output {1} --resume auto`",
        path.display(),
        moved.display()
    );
    assert_eq!(said(&claim), expected);
    assert!(!path.exists(), "a look creates nothing");
    let last = claim.place_of_last_word().unwrap();
    assert_eq!(FolderId::of(&last).unwrap(), FolderId::of(&moved).unwrap());
    assert!(
        matches!(Claim::take(&moved), Err(RunFolderError::Locked { .. })),
        "the lock moves with the folder"
    );
    // Work was left out: the run is not taken up again in the middle.
    fs::rename(&moved, &path).unwrap();
    assert_eq!(said(&claim), expected);
    assert_eq!(claim.lost().unwrap().to_string(), expected);
}

#[test]
fn a_folder_in_the_place_of_a_moved_one_is_another_runs() {
    let (parent, path) = place();
    let claim = Claim::take(&path).unwrap();
    fs::rename(&path, parent.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    let second = Claim::take(&path).unwrap();
    assert!(said(&claim).contains("another folder has taken its place"), "{}", said(&claim));
    let last = claim.place_of_last_word().unwrap();
    assert_eq!(FolderId::of(&last).unwrap(), FolderId::of(&parent.path().join("old")).unwrap());
    second.check().unwrap();
}

#[test]
fn a_removed_folder_is_not_made_anew() {
    let (_parent, path) = place();
    let claim = Claim::take(&path).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert!(said(&claim).ends_with("the run ends and writes nothing more there"), "{}", said(&claim));
    assert_eq!(claim.place_of_last_word(), None);
    assert!(!path.exists());
}

#[test]
fn without_its_lock_file_a_folder_stays_claimed() {
    let (_parent, path) = place();
    let claim = Claim::take(&path).unwrap();
    let lock = path.join(layout::LOCK);
    let name = fs::read_to_string(&lock).unwrap();
    fs::remove_file(&lock).unwrap();
    let refusal = Claim::take(&path).unwrap_err().to_string();
    assert!(refusal.contains("is being written by another process"), "{refusal}");
    claim.check().unwrap();
    assert_eq!(fs::read_to_string(&lock).unwrap(), name, "it is put back");
    let refusal = Claim::take(&path).unwrap_err().to_string();
    assert!(refusal.contains(name.trim_end()), "{refusal}");
    // Where folders are not locked, the file put back keeps others out.
    assert!(lock_is_taken(&lock));
    drop(claim);
    Claim::take(&path).unwrap();
}

fn lock_is_taken(path: &Path) -> bool {
    matches!(File::open(path).unwrap().try_lock(), Err(TryLockError::WouldBlock))
}

#[test]
fn where_nothing_is_locked_the_name_in_the_lock_file_decides() {
    let (_parent, path) = place();
    let claim = Claim::take(&path).unwrap();
    fs::write(path.join(layout::LOCK), "process 7 on elsewhere\n").unwrap();
    let text = said(&claim);
    assert!(text.contains("process 7 on elsewhere has taken it over; the run ends"), "{text}");
    assert!(!text.contains("--resume"), "{text}");
    assert_eq!(claim.place_of_last_word(), None);
}

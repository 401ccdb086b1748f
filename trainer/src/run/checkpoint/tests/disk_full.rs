//! A disk that is really full.

use super::*;
use std::process::Command;

/// A small file system of its own, unmounted at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = nix::unistd::geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
                .arg(folder.path())
                .status()
                .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_keeps_the_old_ones_and_says_how_much_is_missing() {
    let Some(mount) = Mount::new() else {
        eprintln!(
            "skipped: a_full_disk_keeps_the_old_ones_and_says_how_much_is_missing (only root can mount a small file system to fill)"
        );
        return;
    };
    let folder = mount.0.path().join("checkpoints");
    let mut store = store_with(&folder, retention(2, true), &[(10, Some(0.5)), (20, Some(0.4))]);
    let mut large = snapshot(30, 0);
    large.tensors[0] =
        TensorBytes { name: "large".into(), dtype: Dtype::U8, shape: vec![50_000], bytes: vec![7; 50_000] };
    let error = store.write(&large, None).unwrap_err();
    let CheckpointError::NoRoom { needed, free: Some(free), .. } = error else { panic!("{error}") };
    assert!(needed > 50_000 && free < needed && free > 20_000, "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "no room for checkpoint `{}/00000030`: it needs {needed} bytes and {free} are free there (No space left on \
             device (os error 28))\nhint: free some space or set a smaller checkpoint.keep; older checkpoints are unchanged",
            folder.display()
        )
    );
    assert!(error.is_no_room() && !error.is_transient());
    assert_eq!(names(&folder), ["00000010", "00000020", "best.json"], "nothing is left beside");
    assert_eq!(store.newest::<State>().unwrap().unwrap().snapshot, snapshot(20, 0));
    store.write(&snapshot(30, 0), None).unwrap();
    assert_eq!(store.newest::<State>().unwrap().unwrap().snapshot, snapshot(30, 0));
}

#[test]
fn a_full_quota_is_told_likewise() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(2, false), &[(10, None)]);
    let mut store = faulty(folder.path(), retention(2, false), "fail:write@2:EDQUOT").unwrap();
    let error = store.write(&snapshot(20, 0), None).unwrap_err();
    assert!(matches!(error, CheckpointError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("os error 122"), "{error}");
    assert_eq!(names(folder.path()), ["00000010"]);
}

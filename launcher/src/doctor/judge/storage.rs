//! The folder for runs, and the data.

use super::DoctorFinding;
use crate::doctor::folder::FolderFacts;
use crate::doctor::units::{rate, size};

/// Free space below which a run is likely to fill the disk.
const LEAST_FREE: u64 = 1 << 30;
/// Speed below which checkpoints delay a run, in bytes per second.
const LEAST_SPEED: f64 = 5e6;

pub(super) fn output(facts: &FolderFacts) -> Vec<DoctorFinding> {
    const AREA: &str = "output";
    let path = facts.path.display();
    if facts.writable != Some(true) {
        let reason = facts.error.as_deref().unwrap_or("its file system does not answer");
        return vec![DoctorFinding::error(AREA, format!("`{path}` cannot be used: {reason}"), remedy(facts))];
    }
    let mut found = vec![DoctorFinding::ok(AREA, described(facts))];
    if facts.timed_out {
        found.push(DoctorFinding::warning(
            AREA,
            format!("`{path}` is slow: writing and reading a few MiB took longer than the time limit"),
            "choose a folder on another file system (`--output`), or repeat the command when the disk is idle",
        ));
    } else if let Some(reason) = &facts.error {
        found.push(DoctorFinding::warning(
            AREA,
            format!("`{path}`: {reason}"),
            "choose another folder (`--output`)",
        ));
    } else if let Some(speed) = facts.write_bytes_per_second.filter(|speed| *speed < LEAST_SPEED) {
        found.push(DoctorFinding::warning(
            AREA,
            format!("`{path}` is slow: {} with fsync; checkpoints may delay the run", rate(speed)),
            "choose a folder on another file system (`--output`), or save less often (`checkpoint.every_steps`)",
        ));
    }
    if let Some(free) = facts.free_bytes.filter(|free| *free < LEAST_FREE) {
        found.push(DoctorFinding::warning(
            AREA,
            format!("`{path}` has {} free; checkpoints may not fit", size(free)),
            "remove old runs, or choose another folder (`--output`)",
        ));
    }
    if facts.locks == Some(false) {
        found.push(DoctorFinding::warning(
            AREA,
            format!("`{path}` does not support locks, so a second run in the same folder is noticed late"),
            "mount it with locks (Lustre `-o flock`, NFS without `nolock`), and let each job write its own folder",
        ));
    }
    found
}

fn remedy(facts: &FolderFacts) -> &'static str {
    let reason = facts.error.as_deref().unwrap_or_default();
    if ["No space left", "quota"].iter().any(|word| reason.contains(word)) {
        "free space there, or choose another folder (`--output`)"
    } else if facts.timed_out || reason.is_empty() {
        "see whether `ls` of that folder returns; choose another folder (`--output`)"
    } else {
        "choose a folder that you can write (`--output`)"
    }
}

pub(super) fn data(facts: &FolderFacts) -> DoctorFinding {
    const AREA: &str = "data";
    let path = facts.path.display();
    if facts.exists == Some(false) {
        return DoctorFinding::error(
            AREA,
            format!("`{path}` does not exist"),
            "set `data.root` to the folder of the data",
        );
    }
    if facts.timed_out {
        return DoctorFinding::warning(
            AREA,
            format!("`{path}` is slow: it did not answer in time"),
            "copy the data to a local disk, or see whether `ls` of that folder returns",
        );
    }
    if let Some(reason) = &facts.error {
        return DoctorFinding::error(
            AREA,
            format!("`{path}`: {reason}"),
            "make the data readable for this user",
        );
    }
    DoctorFinding::ok(AREA, described(facts))
}

/// `runs on ext4 (/dev/vda, local), 53.0 GiB free; write 120 MB/s, read 1.9 GB/s`
fn described(facts: &FolderFacts) -> String {
    let place = facts.network.map(|network| if network { "network" } else { "local" });
    let inside: Vec<&str> = facts.source.as_deref().into_iter().chain(place).collect();
    let on = facts.file_system.as_ref().map(|kind| format!(" on {kind} ({})", inside.join(", ")));
    let free = facts.free_bytes.map(|free| format!(", {} free", size(free)));
    let text = format!("`{}`{}{}", facts.path.display(), on.unwrap_or_default(), free.unwrap_or_default());
    let speeds = [("write", facts.write_bytes_per_second), ("read", facts.read_bytes_per_second)];
    let speeds: Vec<String> =
        speeds.into_iter().filter_map(|(name, speed)| Some(format!("{name} {}", rate(speed?)))).collect();
    if speeds.is_empty() { text } else { format!("{text}; {}", speeds.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;

    fn good() -> FolderFacts {
        FolderFacts {
            path: "runs".into(),
            exists: Some(true),
            file_system: Some("nfs4".into()),
            source: Some("server:/home".into()),
            network: Some(true),
            size_bytes: Some(1 << 40),
            free_bytes: Some(53 << 30),
            writable: Some(true),
            locks: Some(true),
            write_bytes_per_second: Some(120e6),
            read_bytes_per_second: Some(1.9e9),
            ..FolderFacts::default()
        }
    }

    #[test]
    fn a_good_folder_is_described() {
        let expected = "`runs` on nfs4 (server:/home, network), 53.0 GiB free; write 120 MB/s, read 1.9 GB/s";
        assert_eq!(output(&good()), [DoctorFinding::ok("output", expected)]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let closed = |error: &str| FolderFacts { writable: Some(false), error: Some(error.into()), ..good() };
        let full = output(&closed("cannot write a file: No space left on device (os error 28)"));
        assert_eq!(levels(&full), ["output error"]);
        assert!(full[0].hint.as_ref().unwrap().starts_with("free space there"));
        let read_only = output(&closed("cannot write a file: Read-only file system (os error 30)"));
        assert!(read_only[0].hint.as_ref().unwrap().starts_with("choose a folder that you can write"));
        let hangs = FolderFacts { path: "x".into(), timed_out: true, ..FolderFacts::default() };
        assert_eq!(output(&hangs)[0].text, "`x` cannot be used: its file system does not answer");
    }

    #[test]
    fn a_folder_that_is_full_slow_or_without_locks_is_a_warning() {
        let warned = |facts: FolderFacts| {
            let found = output(&facts);
            assert_eq!(levels(&found), ["output ok", "output warning"]);
            found[1].text.clone()
        };
        assert!(warned(FolderFacts { free_bytes: Some(9 << 20), ..good() }).contains("has 9.0 MiB free"));
        assert!(warned(FolderFacts { locks: Some(false), ..good() }).contains("does not support locks"));
        let slow = FolderFacts { write_bytes_per_second: Some(2e6), ..good() };
        assert!(warned(slow).contains("is slow: 2 MB/s with fsync"));
        let late = FolderFacts { timed_out: true, error: Some("did not answer".into()), ..good() };
        assert!(warned(late).contains("took longer than the time limit"));
    }

    #[test]
    fn data_have_to_exist_and_to_be_readable() {
        let facts = |exists, error: Option<&str>| FolderFacts {
            exists: Some(exists),
            error: error.map(str::to_owned),
            ..good()
        };
        let found = [data(&facts(true, None)), data(&facts(false, None)), data(&facts(true, Some("denied")))];
        assert_eq!(levels(&found), ["data ok", "data error", "data error"]);
        let slow = FolderFacts { timed_out: true, ..good() };
        assert_eq!(levels([&data(&slow)]), ["data warning"]);
    }
}

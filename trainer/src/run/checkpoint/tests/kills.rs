//! A process that is killed between any two calls of a write, or in the middle of one, costs at most that checkpoint.
//!
//! The test starts its own program again, with one test and so one thread that does anything; that forks a child for
//! each place, so that hundreds of processes can die in a second.

use super::*;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// Environment variable that tells a started test its folder.
const FOLDER: &str = "CHECKPOINT_TEST_FOLDER";

/// What is in the folder, what is written, and what may be the newest afterwards.
struct Scene {
    retention: (usize, bool),
    before: &'static [(u64, Option<f64>)],
    step: u64,
    metric: Option<f64>,
    /// Generations after a write that was not disturbed.
    after: &'static [u64],
}

const SCENES: [Scene; 4] = [
    Scene {
        retention: (2, false),
        before: &[(10, None), (20, None)],
        step: 30,
        metric: None,
        after: &[20, 30],
    },
    // The best one changes, and two are removed.
    Scene {
        retention: (1, true),
        before: &[(10, Some(0.9)), (20, Some(0.1))],
        step: 30,
        metric: Some(0.95),
        after: &[30],
    },
    // A step is written again.
    Scene {
        retention: (1, true),
        before: &[(10, Some(0.9)), (20, Some(0.1))],
        step: 20,
        metric: Some(0.2),
        after: &[10, 20],
    },
    // The only one is written again.
    Scene { retention: (1, true), before: &[(20, Some(0.1))], step: 20, metric: Some(0.2), after: &[20] },
];

impl Scene {
    fn retention(&self) -> Retention {
        retention(self.retention.0, self.retention.1)
    }

    fn write(&self, folder: &Path, disk: Disk) {
        let mut store = Store::with(folder, self.retention(), disk).unwrap();
        store.write(&snapshot(self.step, 1), self.metric).unwrap();
    }

    /// Dies as `fault` says, and then looks at what is left.
    fn die(&self, template: &Path, fault: &str, faults: Faults) {
        let folder = tempfile::tempdir().unwrap();
        copy(template, folder.path());
        // SAFETY: this process has one thread that does anything, so no lock is held that the child might wait for.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                self.write(folder.path(), Disk::with(faults));
                std::process::exit(0);
            }
            ForkResult::Parent { child } => {
                assert_eq!(
                    waitpid(child, None).unwrap(),
                    WaitStatus::Signaled(child, Signal::SIGKILL, false)
                );
            }
        }
        self.check(folder.path(), fault);
    }

    fn check(&self, folder: &Path, fault: &str) {
        // Even before anything is cleared up, whoever looks finds a whole one and nothing damaged.
        let found = reader(folder).newest::<State>().unwrap().unwrap();
        assert_eq!(found.skipped, [], "{fault}");
        let mut store = Store::with(folder, self.retention(), lazy()).unwrap();
        let found = store.newest::<State>().unwrap().unwrap();
        assert_eq!(found.skipped, [], "{fault}");
        let old = self.before.last().unwrap().0;
        assert!([snapshot(old, 0), snapshot(self.step, 1)].contains(&found.snapshot), "{fault}");
        assert!(names(folder).iter().all(|name| !name.starts_with('.')), "{fault}: {:?}", names(folder));
        for step in store.generations().unwrap() {
            store.reader().verify(step).unwrap();
        }
        store.write(&snapshot(self.step, 1), self.metric).unwrap();
        assert_eq!(store.generations().unwrap(), self.after, "{fault}");
        let best = store.best().unwrap().map(|best| best.metric);
        let metrics = self.before.iter().map(|(_, metric)| *metric).chain([self.metric]);
        let expected = metrics.flatten().reduce(f64::max).filter(|_| self.retention.1);
        assert_eq!(best, expected, "{fault}");
        assert!(names(folder).iter().all(|name| !name.starts_with('.')), "{fault}");
    }
}

/// Runs one ignored test of this file in a process of its own.
fn start(program: &[&str], test: &str, folder: &Path) -> Output {
    let (_, module) = module_path!().split_once("::").unwrap();
    let this = std::env::current_exe().unwrap();
    let words = program.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]).collect::<Vec<_>>();
    Command::new(words[0])
        .args(&words[1..])
        .args([&format!("{module}::{test}"), "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[test]
fn killed_at_any_call_it_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(&[], "dies_at_every_call", folder.path());
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{told}");
    println!("{text}");
}

#[test]
#[ignore = "started by the test above in a process of its own"]
fn dies_at_every_call() {
    if std::env::var_os(FOLDER).is_none() {
        return;
    }
    for (number, scene) in SCENES.iter().enumerate() {
        let template = tempfile::tempdir().unwrap();
        store_with(template.path(), scene.retention(), scene.before);
        let undisturbed = tempfile::tempdir().unwrap();
        copy(template.path(), undisturbed.path());
        let disk = Disk::default();
        scene.write(undisturbed.path(), disk.clone());
        let calls = disk.faults().names();
        let writes = calls.iter().filter(|name| **name == "write").count();
        // After one call is before the next.
        let last = format!("kill-after:{}", calls.len());
        for fault in (1..=calls.len()).map(|call| format!("kill-before:{call}")).chain([last]) {
            scene.die(template.path(), &fault, Faults::one(&fault));
        }
        for write in 1..=writes {
            let fault = format!("tear:{write}");
            scene.die(template.path(), &fault, Faults::one(&fault));
        }
        println!(
            "scene {number}: killed before each of {} calls, after the last, and in {writes} writes",
            calls.len()
        );
    }
}

#[test]
fn killed_with_a_planted_bug_it_does_not_recover_and_that_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(&[], "dies_with_a_bug", folder.path());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "started by the test above in a process of its own"]
fn dies_with_a_bug() {
    if std::env::var_os(FOLDER).is_none() {
        return;
    }
    let scene = &SCENES[0];
    let template = tempfile::tempdir().unwrap();
    store_with(template.path(), scene.retention(), scene.before);
    for bug in ["early_prune", "torn_publish"] {
        let dies = |call: u64| {
            let fault = format!("kill-before:write@{call}");
            let die = || scene.die(template.path(), &fault, Faults::one(&fault).with_bug(bug));
            std::panic::catch_unwind(die).is_err()
        };
        assert!((1..=3).all(dies), "{bug} is not found");
    }
}

#[test]
fn killed_by_the_kernel_at_any_system_call_it_recovers() {
    let may_trace = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !may_trace.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: killed_by_the_kernel_at_any_system_call_it_recovers (strace is not there or may not trace)"
        );
        return;
    }
    let scene = &SCENES[1];
    let template = tempfile::tempdir().unwrap();
    store_with(template.path(), scene.retention(), scene.before);
    let mut killed = 0;
    for call in ["mkdir", "fsync", "rename", "unlink", "rmdir"] {
        for number in 1.. {
            let folder = tempfile::tempdir().unwrap();
            copy(template.path(), folder.path());
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let output = start(&strace, "writes_one", folder.path());
            scene.check(folder.path(), &inject);
            if output.status.success() {
                break;
            }
            let by_signal = output.status.signal() == Some(9) || output.status.code() == Some(128 + 9);
            assert!(by_signal, "{inject}: {output:?}");
            killed += 1;
        }
    }
    println!("killed at {killed} system calls");
    assert!(killed > 10, "{killed}");
}

#[test]
#[ignore = "started by the test above in a process of its own"]
fn writes_one() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        SCENES[1].write(Path::new(&folder), Disk::default());
    }
}

//! Fault injection: calls that fail, a process that dies between two calls or in the middle of a write, and planted
//! bugs. Compiled only for tests and with the feature `faults`.

use nix::libc;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Environment variable with the fault to inject into the checkpoints' calls to the file system:
///
/// - `fail:CALL:ERRNO` or `fail:CALL:ERRNO:TIMES` (that call and those after it, 1 if not given);
/// - `kill-before:CALL`, `kill-after:CALL`: the process sends itself KILL;
/// - `tear:N`: the N-th write is only half done, then the process sends itself KILL.
///
/// CALL counts from 1 over the process; `NAME@N` is the N-th call of that name (`mkdir create write fsync rename list
/// open read unlink rmdir`). ERRNO is a name such as `ENOSPC` or a number.
pub const FAULT: &str = "LIFT_FAULT";

/// Environment variable with a file to which every call is appended: its number, a space, its name.
pub const FAULT_LOG: &str = "LIFT_FAULT_LOG";

/// Environment variable with a bug that a harness has to find:
///
/// - `unsynced_byte`: one bit of the last tensor is stale in the file, and all checksums match the file. Only a
///   comparison of the weights of a resumed run finds it.
/// - `unverified_load`: contents are not compared with their checksums when a checkpoint is loaded.
/// - `early_prune`: older checkpoints are removed before the new one is written.
/// - `torn_publish`: the folder gets its name before its files are written.
/// - `stale_momentum`: a resumed run starts with the momentum of a new run.
/// - `lost_sample`: the first step of a resumed run lacks one sample.
/// - `failed_loader`: in a new run, the loader of rank 0 fails at the fourth step of the first epoch.
pub const PLANTED: &str = "LIFT_PLANTED";

const ERRNOS: [(&str, i32); 12] = [
    ("EINTR", libc::EINTR),
    ("EAGAIN", libc::EAGAIN),
    ("ESTALE", libc::ESTALE),
    ("EIO", libc::EIO),
    ("ENOLCK", libc::ENOLCK),
    ("ETIMEDOUT", libc::ETIMEDOUT),
    ("ENOSPC", libc::ENOSPC),
    ("EDQUOT", libc::EDQUOT),
    ("EACCES", libc::EACCES),
    ("EROFS", libc::EROFS),
    ("ENOENT", libc::ENOENT),
    ("EINVAL", libc::EINVAL),
];

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    UnsyncedByte,
    UnverifiedLoad,
    EarlyPrune,
    TornPublish,
    StaleMomentum,
    LostSample,
    FailedLoader,
    ChangedWeight,
}

impl Planted {
    /// Whether the environment requests this bug; for other modules.
    #[cfg(feature = "faults")]
    pub(crate) fn is_played(self) -> bool {
        Faults::of_environment().plays(self)
    }
}

/// Which call: the `at`-th of all, or of those called `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) name: Option<String>,
    pub(super) at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InjectedFault {
    Fail { which: Which, errno: i32, times: u64 },
    KillBefore(Which),
    KillAfter(Which),
    Tear(u64),
}

/// The requested fault, and the number of calls so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    fault: Option<InjectedFault>,
    planted: Option<Planted>,
    log: Option<File>,
    calls: Mutex<Calls>,
    /// Whether to skip all syncs to disk, for the setup and the checks of a test.
    #[cfg(test)]
    lazy: bool,
}

#[derive(Debug, Default)]
struct Calls {
    all: u64,
    by_name: HashMap<&'static str, u64>,
    names: Vec<&'static str>,
}

impl Faults {
    /// The faults of the environment, the same for the whole process. An invalid value ends the process: a harness must
    /// not mistake a run without a fault for one that survived it.
    pub(super) fn of_environment() -> Arc<Self> {
        static FAULTS: LazyLock<Arc<Faults>> = LazyLock::new(|| {
            let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
            let log = variable(FAULT_LOG).map(|path| {
                File::options()
                    .append(true)
                    .create(true)
                    .open(&path)
                    .unwrap_or_else(|error| panic!("cannot open {FAULT_LOG} `{path}`: {error}"))
            });
            Arc::new(Faults {
                fault: variable(FAULT)
                    .map(|text| parse(&text).unwrap_or_else(|| panic!("{FAULT} `{text}` is not a fault"))),
                planted: variable(PLANTED).map(|text| {
                    planted(&text).unwrap_or_else(|| panic!("{PLANTED} `{text}` is not a planted bug"))
                }),
                log,
                ..Faults::default()
            })
        });
        Arc::clone(&FAULTS)
    }

    #[cfg(test)]
    pub(super) fn one(text: &str) -> Self {
        Self { fault: Some(parse(text).unwrap()), ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn lazy() -> Self {
        Self { lazy: true, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn is_lazy(&self) -> bool {
        self.lazy
    }

    #[cfg(test)]
    pub(super) fn with_bug(self, text: &str) -> Self {
        Self { planted: Some(planted(text).unwrap()), ..self }
    }

    /// Names of all calls so far, in order.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().names.clone()
    }

    pub(super) fn plays(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    pub(super) fn call<T>(&self, name: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (all, named) = self.count(name);
        let hits = |which: &Which| match &which.name {
            None => which.at == all,
            Some(wanted) => wanted == name && which.at == named,
        };
        match &self.fault {
            Some(InjectedFault::Fail { which, errno, times }) => {
                let number = if which.name.is_some() { named } else { all };
                let same = which.name.as_ref().is_none_or(|wanted| wanted == name);
                if same && number >= which.at && number - which.at < *times {
                    return Err(io::Error::from_raw_os_error(*errno));
                }
            }
            Some(InjectedFault::KillBefore(which)) if hits(which) => die(),
            Some(InjectedFault::KillAfter(which)) if hits(which) => {
                drop(call());
                die();
            }
            _ => {}
        }
        call()
    }

    pub(super) fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        if let Some(InjectedFault::Tear(at)) = self.fault
            && self.lock().by_name.get("write").copied().unwrap_or(0) + 1 == at
        {
            drop(file.write_all(&bytes[..bytes.len() / 2]));
            die();
        }
        self.call("write", || file.write(bytes))
    }

    fn count(&self, name: &'static str) -> (u64, u64) {
        let mut calls = self.lock();
        calls.all += 1;
        if cfg!(test) {
            calls.names.push(name);
        }
        let named = calls.by_name.entry(name).or_default();
        *named += 1;
        let named = *named;
        if let Some(mut log) = self.log.as_ref() {
            // The run does not depend on the log.
            let _ = writeln!(log, "{} {name}", calls.all);
        }
        (calls.all, named)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process as a power failure would: nothing is cleaned up.
fn die() -> ! {
    loop {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

fn parse(text: &str) -> Option<InjectedFault> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["fail", call, errno] => {
            Some(InjectedFault::Fail { which: which(call)?, errno: number(errno)?, times: 1 })
        }
        ["fail", call, errno, times] => Some(InjectedFault::Fail {
            which: which(call)?,
            errno: number(errno)?,
            times: times.parse().ok()?,
        }),
        ["kill-before", call] => Some(InjectedFault::KillBefore(which(call)?)),
        ["kill-after", call] => Some(InjectedFault::KillAfter(which(call)?)),
        ["tear", at] => Some(InjectedFault::Tear(at.parse().ok()?)),
        _ => None,
    }
}

fn which(text: &str) -> Option<Which> {
    match text.split_once('@') {
        None => Some(Which { name: None, at: text.parse().ok()? }),
        Some((name, at)) => Some(Which { name: Some(name.to_owned()), at: at.parse().ok()? }),
    }
}

fn number(errno: &str) -> Option<i32> {
    let named = ERRNOS.iter().find(|(name, _)| *name == errno).map(|(_, number)| *number);
    named.or_else(|| errno.parse().ok())
}

fn planted(text: &str) -> Option<Planted> {
    match text {
        "unsynced_byte" => Some(Planted::UnsyncedByte),
        "unverified_load" => Some(Planted::UnverifiedLoad),
        "early_prune" => Some(Planted::EarlyPrune),
        "torn_publish" => Some(Planted::TornPublish),
        "stale_momentum" => Some(Planted::StaleMomentum),
        "lost_sample" => Some(Planted::LostSample),
        "failed_loader" => Some(Planted::FailedLoader),
        "changed_weight" => Some(Planted::ChangedWeight),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_documented() {
        let all = |at| Which { name: None, at };
        assert_eq!(parse("kill-before:7"), Some(InjectedFault::KillBefore(all(7))));
        assert_eq!(parse("tear:2"), Some(InjectedFault::Tear(2)));
        assert_eq!(
            parse("fail:fsync@3:EIO:2"),
            Some(InjectedFault::Fail {
                which: Which { name: Some("fsync".into()), at: 3 },
                errno: 5,
                times: 2
            })
        );
        assert_eq!(parse("fail:3:28"), Some(InjectedFault::Fail { which: all(3), errno: 28, times: 1 }));
        for wrong in ["", "fail", "fail:x:EIO", "fail:1:ENOTHING", "kill:3", "tear:fsync@1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

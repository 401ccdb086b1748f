//! The hosts that ranks run on.

use crate::limits::RANKS_OF_HOST;
use protocol::environment;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Timeout in seconds for the answer of a host.
const CONNECT_TIMEOUT_SECONDS: u32 = 10;

/// A host and its number of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name for `ssh`.
    pub name: String,
    /// Number of ranks.
    pub slots: usize,
}

/// An invalid list of hosts.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A host without a name, or with an invalid number of ranks.
    #[error("`{found}` in {place} is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`")]
    Entry {
        /// The text found.
        found: String,
        /// The option or the line.
        place: String,
    },
    /// A line of a host file with more than a name and slots.
    #[error("`{found}` in line {line} of `{}` is not a host; expected e.g. `node1 slots=4`", path.display())]
    Line {
        /// The text found.
        found: String,
        /// Counted from 1.
        line: usize,
        /// The file.
        path: PathBuf,
    },
    /// More ranks than allowed on one host.
    #[error(
        "`{found}` in {place} asks for more than {RANKS_OF_HOST} ranks on one host\nhint: correct the number"
    )]
    TooMany {
        /// The text found.
        found: String,
        /// The option or the line.
        place: String,
    },
    /// The same host twice.
    #[error("host `{0}` is named twice\nhint: give its ranks as one number")]
    Twice(String),
    /// No host.
    #[error("{0} names no host")]
    None(String),
    /// The file cannot be read.
    #[error("cannot read the host file `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// `a:4,b:4`
pub fn parse_list(text: &str) -> Result<Vec<Host>, HostsError> {
    let one = |entry: &str| {
        let (found, place) = (entry.to_owned(), "--hosts".to_owned());
        let (name, slots) = entry.rsplit_once(':').unwrap_or((entry, "1"));
        host(name, slots).map_err(|wrong| match wrong {
            HostProblem::Form => HostsError::Entry { found, place },
            HostProblem::TooMany => HostsError::TooMany { found, place },
        })
    };
    let hosts = text.split(',').filter(|entry| !entry.trim().is_empty()).map(|entry| one(entry.trim()));
    checked(hosts.collect::<Result<_, _>>()?, "--hosts")
}

/// Lines of `NAME`, `NAME slots=N` or `NAME:N`; `#` begins a comment.
pub fn read_file(path: &Path) -> Result<Vec<Host>, HostsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| HostsError::Read { path: path.to_owned(), source })?;
    let mut hosts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let (found, number, path) = (line.to_owned(), number + 1, path.to_owned());
            hosts.push(file_line(line).map_err(|wrong| match wrong {
                HostProblem::Form => HostsError::Line { found, line: number, path },
                HostProblem::TooMany => {
                    let place = format!("line {number} of `{}`", path.display());
                    HostsError::TooMany { found, place }
                }
            })?);
        }
    }
    checked(hosts, &format!("the host file `{}`", path.display()))
}

/// Why a host is invalid.
enum HostProblem {
    /// It does not have the form of a host.
    Form,
    /// Its number of ranks is too large.
    TooMany,
}

fn file_line(line: &str) -> Result<Host, HostProblem> {
    let mut words = line.split_whitespace();
    let name = words.next().ok_or(HostProblem::Form)?;
    let Some(word) = words.next() else {
        let (name, slots) = name.rsplit_once(':').unwrap_or((name, "1"));
        return host(name, slots);
    };
    let slots = word.strip_prefix("slots=").ok_or(HostProblem::Form)?;
    // mpirun also accepts `max_slots`; it has no effect here.
    if words.all(|word| word.starts_with("max_slots=") || word.starts_with("max-slots=")) {
        host(name, slots)
    } else {
        Err(HostProblem::Form)
    }
}

fn host(name: &str, slots: &str) -> Result<Host, HostProblem> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let digits = !slots.is_empty() && slots.bytes().all(|byte| byte.is_ascii_digit());
    if !letters || !digits || name.is_empty() || name.starts_with('-') {
        return Err(HostProblem::Form);
    }
    // Digits that do not parse are a number that is too large.
    match slots.parse().unwrap_or(usize::MAX) {
        0 => Err(HostProblem::Form),
        slots if slots > RANKS_OF_HOST as usize => Err(HostProblem::TooMany),
        slots => Ok(Host { name: name.to_owned(), slots }),
    }
}

fn checked(hosts: Vec<Host>, place: &str) -> Result<Vec<Host>, HostsError> {
    for (index, host) in hosts.iter().enumerate() {
        if hosts[..index].iter().any(|other| other.name == host.name) {
            return Err(HostsError::Twice(host.name.clone()));
        }
    }
    if hosts.is_empty() { Err(HostsError::None(place.to_owned())) } else { Ok(hosts) }
}

/// Total number of ranks of these hosts.
pub fn slots(hosts: &[Host]) -> usize {
    hosts.iter().map(|host| host.slots).sum()
}

/// Splits hosts into those that answer and those that do not. All are probed at the same time.
pub fn present(hosts: &[Host]) -> (Vec<Host>, Vec<Host>) {
    let answers: Vec<bool> = std::thread::scope(|scope| {
        let asked: Vec<_> = hosts.iter().map(|host| scope.spawn(|| answers(&host.name))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or(false)).collect()
    });
    let (mut here, mut gone) = (Vec::new(), Vec::new());
    for (host, answered) in hosts.iter().zip(answers) {
        if answered { &mut here } else { &mut gone }.push(host.clone());
    }
    (here, gone)
}

/// The program that reaches other hosts.
pub fn ssh() -> OsString {
    std::env::var_os(environment::SSH).filter(|program| !program.is_empty()).unwrap_or_else(|| "ssh".into())
}

/// Whether a name certainly means this machine.
pub fn is_here(name: &str) -> bool {
    let this = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name == "localhost" || name == "127.0.0.1" || name == this.trim()
}

fn answers(name: &str) -> bool {
    if is_here(name) {
        return true;
    }
    let program = ssh();
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &CONNECT_TIMEOUT_SECONDS.to_string()]).arg(&program);
    if Path::new(&program).file_name().is_some_and(|file| file == "ssh") {
        command.args(["-x", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]);
    }
    command.args([name, "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hosts: &[Host]) -> String {
        let words: Vec<String> = hosts.iter().map(|host| format!("{}={}", host.name, host.slots)).collect();
        words.join(" ")
    }

    #[test]
    fn lists_and_files_say_the_same() {
        assert_eq!(shown(&parse_list("a:4, b.net:2,c").unwrap()), "a=4 b.net=2 c=1");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# ours\na slots=4\n\nb.net slots=2 max_slots=8 # two\nc\nd:3\n")
            .unwrap();
        assert_eq!(shown(&read_file(file.path()).unwrap()), "a=4 b.net=2 c=1 d=3");
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for (text, message) in [
            ("a:0", "`a:0` in --hosts is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`"),
            ("a:x", "`a:x` in --hosts is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`"),
            ("-o:1", "`-o:1` in --hosts is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`"),
            (":4", "`:4` in --hosts is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`"),
            ("a:1,a:2", "host `a` is named twice\nhint: give its ranks as one number"),
            (" ,", "--hosts names no host"),
            (
                "a:2,x:99999999999",
                "`x:99999999999` in --hosts asks for more than 1024 ranks on one host\nhint: correct the number",
            ),
            (
                "x:99999999999999999999999",
                "`x:99999999999999999999999` in --hosts asks for more than 1024 ranks on one host\nhint: correct the number",
            ),
            ("a:+4", "`a:+4` in --hosts is not a host; expected NAME or NAME:RANKS, e.g. `node1:4`"),
        ] {
            assert_eq!(parse_list(text).unwrap_err().to_string(), message);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\nb cores=4\n").unwrap();
        let message = read_file(file.path()).unwrap_err().to_string();
        assert!(message.starts_with("`b cores=4` in line 2 of `"), "{message}");
        for line in ["b slots=99999999999", "b:1025"] {
            std::fs::write(file.path(), format!("a\n{line}\n")).unwrap();
            let message = read_file(file.path()).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{line}` in line 2 of `")), "{message}");
            assert!(
                message.ends_with("` asks for more than 1024 ranks on one host\nhint: correct the number"),
                "{message}"
            );
        }
    }

    #[test]
    fn this_machine_answers_without_being_asked() {
        let hosts = parse_list("localhost:2").unwrap();
        assert_eq!(present(&hosts), (hosts, Vec::new()));
    }
}

//! Ranks on this machine, through `mpirun`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Why ranks could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The trainer is not beside the launcher.
    #[error("{} does not exist; build it with `make build`", .0.display())]
    NoTrainer(PathBuf),
    /// `mpirun` cannot be started.
    #[error("cannot start {program}: {source}; load your MPI module, or run `make setup`")]
    NoMpirun {
        /// What was tried.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused a call that always works.
    #[error("cannot watch the ranks: {0}")]
    Watch(io::Error),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct LocalRun {
    /// Number of ranks.
    pub ranks: usize,
    /// Arguments of `lift-trainer`.
    pub arguments: Vec<OsString>,
}

/// Time between two looks at the ranks.
const LOOK: Duration = Duration::from_millis(20);

impl LocalRun {
    /// Starts the ranks, passes signals on, and waits for the end. Gives the exit code.
    pub fn run(&self) -> Result<i32, LocalError> {
        let trainer = beside_launcher("lift-trainer")?;
        let mut command = self.command(&trainer);
        let program = command.get_program().to_string_lossy().into_owned();
        signals::record().map_err(|errno| LocalError::Watch(errno.into()))?;
        let mut child = command.spawn().map_err(|source| LocalError::NoMpirun { program, source })?;
        wait(&mut child).map(exit_code).map_err(LocalError::Watch)
    }

    fn command(&self, trainer: &Path) -> Command {
        if self.ranks == 1 {
            let mut command = Command::new(trainer);
            command.args(&self.arguments);
            return command;
        }
        let mut command = Command::new(mpirun());
        command.args(["-n", &self.ranks.to_string(), "--oversubscribe"]).arg(trainer).args(&self.arguments);
        // mpirun passes TERM on and kills a second later: too soon for a step to end.
        command.env("OMPI_MCA_odls_base_sigkill_timeout", "30");
        if geteuid().is_root() {
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
                command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
            }
        }
        command
    }
}

fn beside_launcher(name: &str) -> Result<PathBuf, LocalError> {
    let own = std::env::current_exe().map_err(LocalError::Watch)?;
    let path = own.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(LocalError::NoTrainer(path)) }
}

/// The `mpirun` that set-up brought along, or the one on the path.
fn mpirun() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|path| Some(path.ancestors().nth(3)?.join(".mpi/bin/mpirun")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("mpirun"))
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(signal) = signals::take() {
            // The child may be gone by now; then there is nobody to tell.
            let _ = kill(Pid::from_raw(child.id() as i32), signal);
        }
        std::thread::sleep(LOOK);
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Signals that arrived, to be passed on by the waiting loop.
mod signals {
    use super::{AtomicI32, Ordering, Signal};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};

    static ARRIVED: AtomicI32 = AtomicI32::new(0);

    extern "C" fn note(signal: i32) {
        ARRIVED.store(signal, Ordering::SeqCst);
    }

    pub(super) fn record() -> nix::Result<()> {
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP] {
            // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
            unsafe { sigaction(signal, &action)? };
        }
        Ok(())
    }

    pub(super) fn take() -> Option<Signal> {
        let signal = ARRIVED.swap(0, Ordering::SeqCst);
        Signal::try_from(signal).ok()
    }
}

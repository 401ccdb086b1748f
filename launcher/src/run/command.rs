//! The command that starts the ranks.

use super::hosts::{self, Host};
use nix::unistd::geteuid;
use protocol::arguments::TrainerArguments;
use protocol::environment;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Seconds between CONT, TERM and KILL when `mpirun` ends the ranks. Its default of one second is too short to finish a
/// step; each further second delays the end of a failed run.
const GRACE_SECONDS: &str = "2";

/// Variables that are forwarded to ranks on other hosts, in addition to those that begin with `LIFT_` or `NCCL_`.
const CARRIED: [&str; 8] = [
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "NO_COLOR",
    "TERM",
    "RUST_BACKTRACE",
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBTORCH",
];

/// CPU binding of a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CpuBinding {
    /// No binding: the trainer divides the cores of a host among its ranks
    #[default]
    None,
    /// One core
    Core,
    /// All cores of one socket
    Socket,
}

/// Options of the command that starts the ranks; the same for all attempts of a run, except `restarts`.
#[derive(Debug, Clone)]
pub struct RankCommand {
    /// Path of the trainer.
    pub trainer: PathBuf,
    /// Arguments of the trainer.
    pub arguments: TrainerArguments,
    /// Number of ranks.
    pub ranks: usize,
    /// Hosts; empty means this machine.
    pub hosts: Vec<Host>,
    /// CPU binding of each rank.
    pub bind: CpuBinding,
    /// Threads of each rank.
    pub threads: Option<u32>,
    /// GPUs that every rank sees; a rank uses the one with its local rank.
    pub gpus: Option<String>,
    /// Folder for the standard output and standard error of each rank.
    pub streams: Option<PathBuf>,
    /// Number of earlier attempts.
    pub restarts: u32,
}

impl RankCommand {
    /// Whether `mpirun` is needed.
    pub fn through_mpirun(&self) -> bool {
        self.ranks > 1 || !self.hosts.is_empty() || self.streams.is_some()
    }

    /// The command with its environment. Standard input is closed because ranks do not read it; the other streams are
    /// inherited.
    pub fn command(&self) -> Command {
        let mut command = if self.through_mpirun() { self.mpirun() } else { Command::new(&self.trainer) };
        for (name, value) in self.variables() {
            command.env(name, value);
        }
        if self.through_mpirun() {
            self.carry(&mut command);
            command.arg(&self.trainer);
        }
        command.args(self.arguments.list()).stdin(Stdio::null());
        command
    }

    fn variables(&self) -> Vec<(String, OsString)> {
        let mut list: Vec<(String, OsString)> = vec![
            (environment::LAUNCHER_PID.into(), std::process::id().to_string().into()),
            (environment::RESTART_COUNT.into(), self.restarts.to_string().into()),
        ];
        if let Some(threads) = self.threads {
            list.push(("OMP_NUM_THREADS".into(), threads.to_string().into()));
        }
        if let Some(gpus) = &self.gpus {
            list.push(("CUDA_VISIBLE_DEVICES".into(), gpus.into()));
        }
        list
    }

    fn mpirun(&self) -> Command {
        let mut command = Command::new(mpirun());
        command.args(["-n", &self.ranks.to_string()]);
        if self.hosts.is_empty() {
            // Open MPI up to 4 reads OMPI_..., from 5 on its launcher reads PRTE_...; other MPIs read neither.
            command.env("OMPI_MCA_rmaps_base_oversubscribe", "true");
            command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
        } else {
            let list: Vec<String> =
                self.hosts.iter().map(|host| format!("{}:{}", host.name, host.slots)).collect();
            command.args(["--host", &list.join(",")]);
            let ssh = hosts::ssh();
            command.env("OMPI_MCA_plm_rsh_agent", &ssh).env("PRTE_MCA_plm_ssh_agent", ssh);
        }
        self.bind_to(&mut command);
        if let Some(folder) = &self.streams {
            command.arg("--output-filename").arg(folder);
        }
        set_grace(&mut command, GRACE_SECONDS);
        if geteuid().is_root() {
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
                command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
            }
        }
        if ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()) {
            // Containers usually do not allow one rank to read the memory of another.
            command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none").env("OMPI_MCA_smsc", "^cma");
        }
        command
    }

    /// A requested binding is set through the environment: the trainer sees it there and does not change it.
    fn bind_to(&self, command: &mut Command) {
        let (four, five) = match self.bind {
            CpuBinding::None => {
                command.args(["--bind-to", "none"]);
                return;
            }
            CpuBinding::Core => ("core", "core"),
            CpuBinding::Socket => ("socket", "package"),
        };
        command.env("OMPI_MCA_hwloc_base_binding_policy", four);
        command.env("PRTE_MCA_hwloc_default_binding_policy", five);
    }

    /// `mpirun` forwards to other hosts only the variables named with `-x`.
    fn carry(&self, command: &mut Command) {
        if self.hosts.is_empty() {
            return;
        }
        let set_here =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        let mut names: Vec<OsString> =
            std::env::vars_os().chain(set_here).map(|(name, _)| name).filter(|name| carried(name)).collect();
        names.sort();
        names.dedup();
        for name in names {
            command.arg("-x").arg(name);
        }
    }
}

/// Sets the time that `mpirun` leaves its ranks between TERM and KILL. Its default is one second.
pub(crate) fn set_grace(mpirun: &mut Command, seconds: &str) {
    mpirun.env("OMPI_MCA_odls_base_sigkill_timeout", seconds);
    mpirun.env("PRTE_MCA_odls_base_sigkill_timeout", seconds);
}

fn carried(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    let policy = name.contains("_binding_policy");
    policy || CARRIED.contains(&&*name) || name.starts_with("LIFT_") || name.starts_with("NCCL_")
}

/// The `mpirun` that `make setup` installed, or the one on PATH.
pub(crate) fn mpirun() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|path| Some(path.ancestors().nth(3)?.join(".mpi/bin/mpirun")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("mpirun"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> RankCommand {
        RankCommand {
            trainer: "/bin/lift-trainer".into(),
            arguments: TrainerArguments::new(vec!["train".into()]),
            ranks: 1,
            hosts: Vec::new(),
            bind: CpuBinding::None,
            threads: None,
            gpus: None,
            streams: None,
            restarts: 0,
        }
    }

    fn words(command: &Command) -> String {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    fn variable(command: &Command, name: &str) -> Option<String> {
        let found = command.get_envs().find(|(key, _)| *key == name)?.1?;
        Some(found.to_string_lossy().into_owned())
    }

    #[test]
    fn one_rank_here_needs_no_mpirun() {
        let command = start().command();
        assert_eq!(
            (command.get_program(), words(&command).as_str()),
            ("/bin/lift-trainer".as_ref(), "train")
        );
        assert_eq!(variable(&command, "LIFT_RESTART_COUNT").as_deref(), Some("0"));
    }

    #[test]
    fn ranks_here_may_be_more_than_cores() {
        let command = RankCommand { ranks: 4, threads: Some(3), restarts: 2, ..start() }.command();
        assert_eq!(words(&command), "-n 4 --bind-to none /bin/lift-trainer train");
        assert_eq!(variable(&command, "OMPI_MCA_rmaps_base_oversubscribe").as_deref(), Some("true"));
        assert_eq!(variable(&command, "OMP_NUM_THREADS").as_deref(), Some("3"));
        assert_eq!(variable(&command, "LIFT_RESTART_COUNT").as_deref(), Some("2"));
    }

    #[test]
    fn other_hosts_are_given_our_variables() {
        let hosts = hosts::parse_list("a:4,b:2").unwrap();
        let command = RankCommand { ranks: 6, hosts, gpus: Some("0,1".into()), ..start() }.command();
        let line = words(&command);
        assert!(line.starts_with("-n 6 --host a:4,b:2 --bind-to none -x "), "{line}");
        for name in ["CUDA_VISIBLE_DEVICES", "LIFT_LAUNCHER_PID", "LIFT_RESTART_COUNT"] {
            assert!(line.contains(&format!("-x {name} ")), "{line}");
        }
        assert!(variable(&command, "OMPI_MCA_rmaps_base_oversubscribe").is_none());
    }

    #[test]
    fn a_binding_is_told_to_both_open_mpis() {
        let command = RankCommand { ranks: 2, bind: CpuBinding::Socket, ..start() }.command();
        assert_eq!(words(&command), "-n 2 /bin/lift-trainer train");
        assert_eq!(variable(&command, "OMPI_MCA_hwloc_base_binding_policy").as_deref(), Some("socket"));
        assert_eq!(variable(&command, "PRTE_MCA_hwloc_default_binding_policy").as_deref(), Some("package"));
    }
}

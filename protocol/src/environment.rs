//! The environment variables that launcher and trainer read.

/// Folder of configuration presets that replaces the built-in ones.
pub const CONFIGS: &str = "LIFT_CONFIGS";

/// Folder of golden fixtures that tests compare with.
pub const FIXTURES: &str = "LIFT_FIXTURES";

/// Folder of data sets for tests and for `make accuracy`.
pub const DATA: &str = "LIFT_DATA";

/// Folder of pretrained backbones for tests and for `make accuracy`.
pub const BACKBONES: &str = "LIFT_BACKBONES";

/// `1` or `0`: `make setup` installs libtorch with or without its CUDA libraries, regardless of the hardware.
pub const CUDA: &str = "LIFT_CUDA";

/// Folder of the libtorch to build with.
pub const LIBTORCH: &str = "LIBTORCH";

/// Which messages go to the log files: a level (`debug`) or directives (`trainer=debug,info`). With `info,samples=trace`
/// each rank logs the samples of each step.
pub const LOG: &str = "LIFT_LOG";

/// The trainer that the launcher starts instead of the `lift-trainer` beside it.
pub const TRAINER: &str = "LIFT_TRAINER";

/// How often the run was started before: absent or 0 at first. From 1 on, `--resume auto` is the trainer's default.
pub const RESTART_COUNT: &str = "LIFT_RESTART_COUNT";

/// Process ID of the `lift run` that started the ranks. If it is set, a rank exits when its parent process is gone: see
/// [`orphan`](crate::orphan).
pub const LAUNCHER_PID: &str = "LIFT_LAUNCHER_PID";

/// The program that reaches other hosts instead of `ssh`: for `mpirun`, and to probe whether a host answers.
pub const SSH: &str = "LIFT_SSH";

/// Maximum number of times that a batch job is requeued.
pub const MAX_RESTARTS: &str = "LIFT_MAX_RESTARTS";

/// Ranks on each node of a batch job; if absent: one per GPU, or the value of `--ntasks-per-node`, or one.
pub const RANKS_PER_NODE: &str = "LIFT_RANKS_PER_NODE";

/// Seconds after which a batch job ends ranks whose `status.json` has not changed; absent or 0: never, because ranks
/// monitor each other.
pub const HANG_SECONDS: &str = "LIFT_HANG_SECONDS";

/// Image with the trainer for a batch job.
pub const CONTAINER: &str = "LIFT_CONTAINER";

/// Timeout in seconds for the start of all ranks and for their shutdown; 600 if absent. In between, ranks monitor each
/// other: see `distributed.timeout_seconds`.
pub const START_SECONDS: &str = "LIFT_START_SECONDS";

/// Every variable with one sentence about it, for `--help` and the documentation.
pub const ALL: [(&str, &str); 16] = [
    (CONFIGS, "folder of configuration presets that replaces the built-in ones"),
    (FIXTURES, "folder of golden fixtures for the tests"),
    (DATA, "folder of data sets for tests and `make accuracy`"),
    (BACKBONES, "folder of pretrained backbones for tests and `make accuracy`"),
    (CUDA, "1 or 0: `make setup` with or without the CUDA libraries of libtorch"),
    (LIBTORCH, "folder of the libtorch to build with"),
    (LOG, "which messages go to the log files, e.g. debug or trainer=debug,info"),
    (TRAINER, "the trainer to start, in place of the lift-trainer beside lift"),
    (RESTART_COUNT, "set by the launcher: how often the run was started before"),
    (LAUNCHER_PID, "set by `lift run`: its process number"),
    (SSH, "the program that reaches other hosts, in place of ssh"),
    (MAX_RESTARTS, "how often a batch job is put back into the queue at most"),
    (RANKS_PER_NODE, "ranks on each node of a batch job"),
    (HANG_SECONDS, "seconds after which a batch job ends ranks whose status.json has not changed"),
    (CONTAINER, "image with the trainer for a batch job"),
    (START_SECONDS, "seconds that the start of all ranks may take, and their parting"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay() {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "LIFT_CONFIGS",
                "LIFT_FIXTURES",
                "LIFT_DATA",
                "LIFT_BACKBONES",
                "LIFT_CUDA",
                "LIBTORCH",
                "LIFT_LOG",
                "LIFT_TRAINER",
                "LIFT_RESTART_COUNT",
                "LIFT_LAUNCHER_PID",
                "LIFT_SSH",
                "LIFT_MAX_RESTARTS",
                "LIFT_RANKS_PER_NODE",
                "LIFT_HANG_SECONDS",
                "LIFT_CONTAINER",
                "LIFT_START_SECONDS"
            ]
        );
    }
}

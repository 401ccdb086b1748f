//! Names inside a run folder. Other people's tools rely on them: add, do not change.

/// The resolved configuration, with the origin of each value.
pub const CONFIG: &str = "config.toml";

/// One JSON line per step, evaluation and epoch.
pub const METRICS: &str = "metrics.jsonl";

/// What the launcher reads: phase, step, time, outcome.
pub const STATUS: &str = "status.json";

/// Folder of checkpoints, one folder of eight digits each.
pub const CHECKPOINTS: &str = "checkpoints";

/// The trained tensors.
pub const FINAL_WEIGHTS: &str = "final.safetensors";

/// The figures of the finished run.
pub const RESULT: &str = "result.json";

/// Folder of log files, one per rank.
pub const LOGS: &str = "logs";

/// Which Slurm job writes the folder, if `lift submit` sent it.
pub const JOB: &str = "job.json";

/// In [`LOGS`]: `lift cancel` ends the job that writes the folder, so the job does not put itself back into the queue.
pub const CANCELLED: &str = "cancelled";

/// In [`LOGS`]: the step of the checkpoint that the last failing start of the job did not get beyond.
pub const WITHOUT_GAIN: &str = "without-gain";

/// Held by the process that writes the folder; its content names that process.
pub const LOCK: &str = "run.lock";

/// Name of a rank's log file inside [`LOGS`].
pub fn rank_log(rank: usize) -> String {
    format!("rank-{rank}.log")
}

/// Name of a checkpoint's folder inside [`CHECKPOINTS`]: the step it was taken after.
pub fn checkpoint(step: u64) -> String {
    format!("{step:08}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logs_and_checkpoints() {
        assert_eq!(rank_log(12), "rank-12.log");
        assert_eq!(checkpoint(420), "00000420");
        assert_eq!(checkpoint(123_456_789), "123456789");
    }
}

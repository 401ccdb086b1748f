//! Names inside a run folder. External tools rely on them: add names, but do not change them.

/// The resolved configuration, with the origin of each value.
pub const CONFIG: &str = "config.toml";

/// Format of [`CONFIG`]. It increases when the meaning of a key or the tables of the record change, but not with a new or renamed
/// key, because former names are still read. A record without a number has format 1.
pub const CONFIG_FORMAT: i64 = 2;

/// One JSON line per step, evaluation and epoch.
pub const METRICS: &str = "metrics.jsonl";

/// Phase, step, time and outcome, for the launcher.
pub const STATUS: &str = "status.json";

/// Folder of checkpoints, one folder of eight digits each.
pub const CHECKPOINTS: &str = "checkpoints";

/// The trained tensors.
pub const FINAL_WEIGHTS: &str = "final.safetensors";

/// The figures of the finished run.
pub const RESULT: &str = "result.json";

/// Confusion, calibration and the most confident mistakes of the last evaluation.
pub const EVALUATION: &str = "evaluation.json";

/// Folder of small pictures of mistakes.
pub const MISTAKES: &str = "mistakes";

/// Folder of log files, one per rank.
pub const LOGS: &str = "logs";

/// The Slurm job that writes the folder, if `lift submit` submitted it.
pub const JOB: &str = "job.json";

/// In [`LOGS`]: marks that `lift cancel` ends the job that writes the folder, so that the job does not requeue itself.
pub const CANCELLED: &str = "cancelled";

/// In [`LOGS`]: the step of the newest checkpoint, if the last failed attempt of the job saved no newer one.
pub const WITHOUT_GAIN: &str = "without-gain";

/// Locked by the process that writes the folder; its content names that process.
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

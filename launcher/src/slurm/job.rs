//! Options of a Slurm job, checked before they are passed to Slurm.

use super::SlurmError;
use crate::limits;
use std::ffi::OsString;

/// Options of `lift render` and `lift submit`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct JobOptions {
    /// Number of nodes
    #[arg(long, default_value_t = 1)]
    pub nodes: u32,
    /// GPUs per node
    #[arg(long, default_value_t = 0)]
    pub gpus_per_node: u32,
    /// Ranks per node [default: one per GPU, or one]
    #[arg(long)]
    pub ranks_per_node: Option<u32>,
    /// CPUs per rank [default: set by the cluster]
    #[arg(long)]
    pub cpus_per_rank: Option<u32>,
    /// Partition
    #[arg(long, short)]
    pub partition: Option<String>,
    /// Account to charge
    #[arg(long, short = 'A')]
    pub account: Option<String>,
    /// Quality of service
    #[arg(long)]
    pub qos: Option<String>,
    /// Time limit, e.g. 90 (minutes), 8:00:00 or 2-12:00:00; the ranks save a checkpoint two minutes before it
    #[arg(long, short)]
    pub time: Option<String>,
    /// Memory per node, e.g. 64G
    #[arg(long)]
    pub mem: Option<String>,
    /// Features that the nodes must have
    #[arg(long, short = 'C')]
    pub constraint: Option<String>,
    /// Job name
    #[arg(long, short = 'J', default_value = "lift")]
    pub job_name: String,
    /// Tasks of a job array, e.g. 0-4 or 1-9%2; %a in the arguments is replaced by the task number
    #[arg(long, value_name = "TASKS")]
    pub array: Option<String>,
    /// Apptainer image that contains lift-trainer
    #[arg(long, value_name = "IMAGE")]
    pub container: Option<String>,
    /// Additional option of sbatch, e.g. --sbatch=--exclusive; may be repeated
    #[arg(long = "sbatch", value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Requeue the job at most N times after a preemption, a time limit or a failure; two failures in a row without a
    /// newer checkpoint end it
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub restarts: u32,
    /// Arguments of lift-trainer [default: train the embedded demo]
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

impl JobOptions {
    /// Refuses options that Slurm would misread, or would refuse with a less helpful message.
    pub fn check(&self) -> Result<(), SlurmError> {
        for (option, number, least, most) in [
            ("--nodes", Some(self.nodes), 1, limits::NODES),
            ("--gpus-per-node", Some(self.gpus_per_node), 0, limits::RANKS_OF_HOST),
            ("--ranks-per-node", self.ranks_per_node, 1, limits::RANKS_OF_HOST),
            ("--cpus-per-rank", self.cpus_per_rank, 1, limits::THREADS),
            ("--restarts", Some(self.restarts), 0, limits::RESTARTS),
        ] {
            match number {
                Some(0) if least > 0 => {
                    return refuse(format!("{option} 0 asks for nothing; expected 1 or more"));
                }
                Some(number) if number > most => {
                    return refuse(format!(
                        "{option} {number} is out of range; expected from {least} to {most}"
                    ));
                }
                _ => {}
            }
        }
        if self.gpus_per_node > 0 && self.ranks() > self.gpus_per_node {
            let (ranks, gpus) = (self.ranks(), self.gpus_per_node);
            return refuse(format!(
                "--ranks-per-node {ranks} with --gpus-per-node {gpus}: each rank needs a GPU of its own"
            ));
        }
        self.check_words()?;
        if let Some(time) = &self.time
            && seconds(time).is_none()
        {
            return refuse(format!(
                "--time `{time}` is not a Slurm time, or is above ten years; expected minutes, or [DAYS-]HOURS:MINUTES:SECONDS, e.g. 8:00:00"
            ));
        }
        if let Some(memory) = self.mem.as_deref().filter(|text| !is_memory(text)) {
            return refuse(format!(
                "--mem `{memory}` is not an amount of memory for a node; expected e.g. 64G"
            ));
        }
        if let Some(array) = self.array.as_deref().filter(|text| !is_array(text)) {
            return refuse(format!(
                "--array `{array}` is not a list of tasks; expected e.g. 0-4, 1,3,5 or 1-9%2"
            ));
        }
        match self.sbatch.iter().find(|line| !line.starts_with('-') || line.contains('\n')) {
            Some(line) => refuse(format!(
                "--sbatch `{line}` is not an option of sbatch; expected e.g. --sbatch=--exclusive"
            )),
            None => Ok(()),
        }
    }

    fn check_words(&self) -> Result<(), SlurmError> {
        for (option, word) in [
            ("--partition", self.partition.as_ref()),
            ("--account", self.account.as_ref()),
            ("--qos", self.qos.as_ref()),
            ("--constraint", self.constraint.as_ref()),
            ("--job-name", Some(&self.job_name)),
        ] {
            let Some(word) = word else { continue };
            if word.is_empty() || word.contains(char::is_whitespace) {
                return refuse(format!("{option} `{word}` is not a name; expected one word"));
            }
            // In a script, sbatch treats these characters as quotes or cuts the line there.
            if let Some(letter) = word.chars().find(|letter| ['"', '\'', '\\', '#'].contains(letter)) {
                return refuse(format!(
                    "{option} `{word}`: sbatch misreads {letter} in a name\nhint: remove it"
                ));
            }
        }
        Ok(())
    }

    /// Ranks on each node.
    pub fn ranks(&self) -> u32 {
        self.ranks_per_node.unwrap_or(self.gpus_per_node.max(1))
    }

    /// Seconds before the time limit at which the ranks are asked to save.
    pub fn lead_seconds(&self) -> u64 {
        let quarter = self.time.as_deref().and_then(seconds).flatten().map_or(u64::MAX, |time| time / 4);
        quarter.clamp(10, 120)
    }
}

fn refuse<T>(sentence: String) -> Result<T, SlurmError> {
    Err(SlurmError::InvalidArguments(sentence))
}

/// Seconds of a Slurm time: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`, up to ten years. `Some(None)` is no limit.
#[allow(clippy::option_option, reason = "an invalid time, no limit and a limit are three cases")]
fn seconds(text: &str) -> Option<Option<u64>> {
    if ["unlimited", "infinite"].contains(&text.to_ascii_lowercase().as_str()) {
        return Some(None);
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days.parse::<u64>().ok()?), clock),
        None => (None, text),
    };
    let parts = clock.split(':').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u64>().ok()).flatten()
    });
    let parts: Vec<u64> = parts.collect::<Option<_>>()?;
    let clock = match (days, &parts[..]) {
        (None, [minutes]) => minutes.checked_mul(60)?,
        (None, [minutes, seconds]) => minutes.checked_mul(60)?.checked_add(*seconds)?,
        (Some(_), [hours]) => hours.checked_mul(3600)?,
        (Some(_), [hours, minutes]) => hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?,
        (_, [hours, minutes, seconds]) => {
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(*seconds)?
        }
        _ => return None,
    };
    let all = days.unwrap_or(0).checked_mul(86_400)?.checked_add(clock)?;
    (1..=limits::JOB_SECONDS).contains(&all).then_some(Some(all))
}

/// `N` in mebibytes, or with K, M, G or T. 0 is all memory of the node.
fn is_memory(text: &str) -> bool {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit.to_ascii_uppercase()),
        _ => (text, 'M'),
    };
    let most = match unit {
        'K' => limits::MEMORY_MEBIBYTES << 10,
        'M' => limits::MEMORY_MEBIBYTES,
        'G' => limits::MEMORY_MEBIBYTES >> 10,
        'T' => limits::MEMORY_MEBIBYTES >> 20,
        _ => return false,
    };
    number.bytes().all(|byte| byte.is_ascii_digit())
        && number.parse::<u64>().is_ok_and(|number| number <= most)
}

/// Task numbers and ranges `FIRST-LAST:STEP`, then `%` and the number of tasks that may run at once.
fn is_array(text: &str) -> bool {
    let (list, most) = text.split_once('%').map_or((text, None), |(list, most)| (list, Some(most)));
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| digits && *number <= limits::ARRAY_TASK)
    };
    let positive = |text: &str| number(text).is_some_and(|number| number > 0);
    let range = |text: &str| {
        let (range, step) = text.split_once(':').map_or((text, None), |(range, step)| (range, Some(step)));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let ends = number(first).zip(number(last)).is_some_and(|(first, last)| first <= last);
        ends && step.is_none_or(positive)
    };
    list.split(',').all(range) && most.is_none_or(positive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobOptions {
        JobOptions { nodes: 1, job_name: "lift".into(), ..JobOptions::default() }
    }

    #[test]
    fn times_of_slurm_are_understood_and_others_are_not() {
        for (text, expected) in [
            ("90", 5400),
            ("1:30", 90),
            ("8:00:00", 28_800),
            ("2-12", 216_000),
            ("1-0:30", 88_200),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(seconds(text), Some(Some(expected)), "{text}");
        }
        assert_eq!(seconds("UNLIMITED"), Some(None));
        for text in [
            "",
            "0",
            "8h",
            "1:2:3:4",
            "-5",
            "1-",
            "1-2:3:4:5",
            "1::2",
            "+1",
            "99999999999999999999",
            "9999999999999999999-0",
            "99999999999",
            "3651-0",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (job, sentence) in [
            (JobOptions { nodes: 0, ..job() }, "--nodes 0 asks for nothing; expected 1 or more"),
            (
                JobOptions { ranks_per_node: Some(0), ..job() },
                "--ranks-per-node 0 asks for nothing; expected 1 or more",
            ),
            (
                JobOptions { gpus_per_node: 4, ranks_per_node: Some(8), ..job() },
                "--ranks-per-node 8 with --gpus-per-node 4: each rank needs a GPU of its own",
            ),
            (
                JobOptions { time: Some("8h".into()), ..job() },
                "--time `8h` is not a Slurm time, or is above ten years; expected minutes, or [DAYS-]HOURS:MINUTES:SECONDS, e.g. 8:00:00",
            ),
            (
                JobOptions { mem: Some("64 GB".into()), ..job() },
                "--mem `64 GB` is not an amount of memory for a node; expected e.g. 64G",
            ),
            (
                JobOptions { mem: Some("99999999999T".into()), ..job() },
                "--mem `99999999999T` is not an amount of memory for a node; expected e.g. 64G",
            ),
            (
                JobOptions { nodes: u32::MAX, ..job() },
                "--nodes 4294967295 is out of range; expected from 1 to 100000",
            ),
            (
                JobOptions { gpus_per_node: 999_999, ..job() },
                "--gpus-per-node 999999 is out of range; expected from 0 to 1024",
            ),
            (
                JobOptions { ranks_per_node: Some(999_999), ..job() },
                "--ranks-per-node 999999 is out of range; expected from 1 to 1024",
            ),
            (
                JobOptions { restarts: u32::MAX, ..job() },
                "--restarts 4294967295 is out of range; expected from 0 to 1000000",
            ),
            (
                JobOptions { array: Some("1..4".into()), ..job() },
                "--array `1..4` is not a list of tasks; expected e.g. 0-4, 1,3,5 or 1-9%2",
            ),
            (
                JobOptions { partition: Some("a b".into()), ..job() },
                "--partition `a b` is not a name; expected one word",
            ),
            (
                JobOptions { job_name: "seed#3".into(), ..job() },
                "--job-name `seed#3`: sbatch misreads # in a name\nhint: remove it",
            ),
            (
                JobOptions { job_name: "it's".into(), ..job() },
                "--job-name `it's`: sbatch misreads ' in a name\nhint: remove it",
            ),
            (
                JobOptions { job_name: r"a\b".into(), ..job() },
                "--job-name `a\\b`: sbatch misreads \\ in a name\nhint: remove it",
            ),
            (
                JobOptions { account: Some("a\"b".into()), ..job() },
                "--account `a\"b`: sbatch misreads \" in a name\nhint: remove it",
            ),
            (
                JobOptions { sbatch: vec!["exclusive".into()], ..job() },
                "--sbatch `exclusive` is not an option of sbatch; expected e.g. --sbatch=--exclusive",
            ),
        ] {
            assert_eq!(job.check().unwrap_err().to_string(), sentence);
        }
        let fine = JobOptions {
            array: Some("0-8:2,11%3".into()),
            mem: Some("64G".into()),
            time: Some("90".into()),
            ..job()
        };
        fine.check().unwrap();
    }

    #[test]
    fn tasks_of_an_array_are_numbers_that_slurm_takes() {
        for text in ["0-4", "1,3,5", "1-9%2", "0-8:2,11%3", "7", "0-4000000"] {
            assert!(is_array(text), "{text}");
        }
        for text in ["", "4-0", "0-4:0", "0-4%0", "+1", "0-4294967295", "99999999999", "1-", "1,,2", "a"] {
            assert!(!is_array(text), "{text}");
        }
    }

    #[test]
    fn ranks_have_time_to_save_also_in_a_short_job() {
        for (time, lead) in [(None, 120), (Some("8:00:00"), 120), (Some("4"), 60), (Some("0:20"), 10)] {
            assert_eq!(JobOptions { time: time.map(str::to_owned), ..job() }.lead_seconds(), lead);
        }
    }
}

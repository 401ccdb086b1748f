//! The batch script: the options of sbatch, then `lift job`.

use super::{JobOptions, SlurmError};
use crate::run::{StartError, is_program, trainer};
use protocol::arguments::TrainerArguments;
use protocol::{Timestamp, environment, layout};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A batch script and its folders.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The script.
    pub text: String,
    /// The run folder; for an array, the parent of the run folders of its tasks.
    pub run: PathBuf,
    /// For an array: the run folder of a task, with `%a` for its number.
    pub tasks: Option<PathBuf>,
    /// Folder for the output of the job, or of each task of the array.
    pub logs: PathBuf,
}

/// Checks the job and writes its script. Relative paths are resolved from `submit_folder`.
pub fn render(job: &JobOptions, submit_folder: &Path) -> Result<Rendered, SlurmError> {
    job.check()?;
    let trainer = match &job.container {
        Some(_) => std::env::var_os(environment::TRAINER).map(PathBuf::from),
        None => Some(trainer()?),
    };
    let own = std::env::current_exe().map_err(StartError::Watch)?;
    let lift = command(std::env::args_os().next(), own);
    rendered(job, submit_folder, trainer.as_deref(), &lift)
}

/// What the script starts: the command as it was called, because that may be a script which starts this program (as the
/// Python package has one). A relative path has no meaning in a job.
fn command(called: Option<OsString>, own: PathBuf) -> PathBuf {
    called.map(PathBuf::from).filter(|path| path.is_absolute() && is_program(path)).unwrap_or(own)
}

fn rendered(
    job: &JobOptions,
    submit_folder: &Path,
    trainer: Option<&Path>,
    lift: &Path,
) -> Result<Rendered, SlurmError> {
    let mut arguments = TrainerArguments::new(job.arguments.clone());
    arguments.check().map_err(StartError::from)?;
    if !arguments.train() {
        let verb = arguments.verb().unwrap_or_else(|| "--help".into());
        let verb = verb.display();
        return Err(SlurmError::InvalidArguments(format!(
            "a job trains: expected `-- train ...` or no arguments, found `{verb}`"
        )));
    }
    let output = match arguments.output() {
        Some(named) => check_task(job, named)?,
        None => default_output(job),
    };
    if arguments.output().is_none() {
        arguments = arguments.with("--output", &output);
    }
    let tasks = job.array.as_ref().map(|_| submit_folder.join(&output));
    let run = submit_folder.join(if tasks.is_some() { without_task(&output) } else { output });
    let logs = run.join(layout::LOGS);
    let mut text = header(job, &logs)?;
    for (name, value) in [
        (environment::TRAINER, trainer.map(|path| quoted(path.as_os_str())).transpose()?),
        (
            environment::CONTAINER,
            job.container.as_deref().map(|image| quoted(OsStr::new(image))).transpose()?,
        ),
        (environment::MAX_RESTARTS, Some(job.restarts.to_string())),
        (environment::RANKS_PER_NODE, Some(job.ranks().to_string())),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "export {name}={value}");
        }
    }
    let words: Vec<String> = arguments.list().iter().map(|word| quoted(word)).collect::<Result<_, _>>()?;
    let _ = writeln!(text, "exec {} job -- {}", quoted(lift.as_os_str())?, words.join(" "));
    Ok(Rendered { text, run, tasks, logs })
}

fn default_output(job: &JobOptions) -> PathBuf {
    let time = Timestamp::now().to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    let run = PathBuf::from(format!("runs/{}-{digits}-{}", job.job_name, std::process::id()));
    if job.array.is_some() { run.join("task-%a") } else { run }
}

/// Each task of an array needs its own folder.
fn check_task(job: &JobOptions, output: PathBuf) -> Result<PathBuf, SlurmError> {
    if job.array.is_none() || output.to_string_lossy().contains("%a") {
        return Ok(output);
    }
    let output = output.display();
    Err(SlurmError::InvalidArguments(format!(
        "--array with --output `{output}`: all tasks would write the same run folder\nhint: put %a, the number of a task, \
         into its name, e.g. `{output}/%a`"
    )))
}

/// The part of a path before the first folder name that contains the task number.
fn without_task(path: &Path) -> PathBuf {
    path.components().take_while(|part| !part.as_os_str().to_string_lossy().contains("%a")).collect()
}

fn header(job: &JobOptions, logs: &Path) -> Result<String, SlurmError> {
    let name = if job.array.is_some() { "slurm-%A_%a.out" } else { "slurm-%j.out" };
    let log = logs.to_str().filter(|log| !log.contains(['"', '\\', '\n'])).ok_or_else(|| {
        SlurmError::InvalidArguments(format!(
            "`{}` cannot be written in a batch script\nhint: choose a run folder without quotes and backslashes",
            logs.display()
        ))
    })?;
    // Slurm reads %x in the name of a log as a field, and %% as a percent sign.
    let log = format!("{}/{name}", log.replace('%', "%%"));
    let mut lines = vec![
        format!("--job-name={}", job.job_name),
        format!("--nodes={}", job.nodes),
        format!("--ntasks-per-node={}", job.ranks()),
    ];
    let mut add =
        |option: &str, value: Option<String>| lines.extend(value.map(|value| format!("{option}={value}")));
    add("--gpus-per-node", (job.gpus_per_node > 0).then(|| job.gpus_per_node.to_string()));
    add("--cpus-per-task", job.cpus_per_rank.map(|cpus| cpus.to_string()));
    add("--partition", job.partition.clone());
    add("--account", job.account.clone());
    add("--qos", job.qos.clone());
    add("--time", job.time.clone());
    add("--mem", job.mem.clone());
    add("--constraint", job.constraint.as_ref().map(|features| format!("\"{features}\"")));
    add("--array", job.array.clone());
    add("--output", Some(format!("\"{log}\"")));
    lines.extend(["--open-mode=append".to_owned(), "--requeue".to_owned()]);
    lines.push(format!("--signal=B:USR2@{}", job.lead_seconds()));
    lines.extend(job.sbatch.iter().cloned());
    Ok(format!("#!/bin/bash\n#SBATCH {}\nset -u\n", lines.join("\n#SBATCH ")))
}

/// Quotes a word for bash.
fn quoted(word: &OsStr) -> Result<String, SlurmError> {
    let word = word.to_str().ok_or_else(|| {
        SlurmError::InvalidArguments(format!(
            "`{}` is not UTF-8 and cannot be written in a batch script",
            word.display()
        ))
    })?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./,:@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        Ok(word.to_owned())
    } else {
        Ok(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(arguments: &[&str]) -> JobOptions {
        let arguments = arguments.iter().map(OsString::from).collect();
        JobOptions { nodes: 1, job_name: "lift".into(), restarts: 10, arguments, ..JobOptions::default() }
    }

    const LIFT: &str = "/home/me/lift/target/release/lift";

    fn script_of(job: &JobOptions, folder: &str) -> Result<Rendered, SlurmError> {
        let trainer = Path::new(LIFT).with_file_name("lift-trainer");
        let trainer = job.container.is_none().then_some(trainer);
        rendered(job, Path::new(folder), trainer.as_deref(), Path::new(LIFT))
    }

    #[test]
    fn a_job_starts_the_command_that_was_called() {
        let of = |called: &str| command(Some(called.into()), LIFT.into());
        assert_eq!(of("/bin/sh"), Path::new("/bin/sh"));
        for called in ["lift", "target/release/lift", "/etc", "/nowhere/lift"] {
            assert_eq!(of(called), Path::new(LIFT), "{called}");
        }
        assert_eq!(command(None, LIFT.into()), Path::new(LIFT));
    }

    #[test]
    fn scripts_are_as_expected() {
        let small = job(&["train", "--output", "runs/x"]);
        let large = JobOptions {
            nodes: 4,
            gpus_per_node: 8,
            cpus_per_rank: Some(12),
            partition: Some("gpu".into()),
            account: Some("vision".into()),
            qos: Some("long".into()),
            time: Some("2-00:00:00".into()),
            mem: Some("480G".into()),
            constraint: Some("a100&nvlink".into()),
            job_name: "inat".into(),
            sbatch: vec!["--exclusive".into(), "--mail-type=END".into()],
            restarts: 3,
            ..job(&["train", "-d", "inat2018", "--set", "data.root=/data/i nat", "--output", "/scratch/inat"])
        };
        let array = JobOptions {
            array: Some("0-4%2".into()),
            container: Some("images/lift.sif".into()),
            ..job(&["train", "--set", "train.seed=%a", "--output", "runs/seeds/%a"])
        };
        for (job, expected) in [
            (small, include_str!("expected/small.sbatch")),
            (large, include_str!("expected/large.sbatch")),
            (array, include_str!("expected/array.sbatch")),
        ] {
            assert_eq!(script_of(&job, "/home/me/lift").unwrap().text, expected);
        }
    }

    #[test]
    fn a_run_without_a_folder_gets_one_that_a_restart_finds() {
        let script = script_of(&job(&[]), "/home").unwrap();
        let name = script.run.strip_prefix("/home").unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("runs/lift-2"), "{name}");
        assert!(script.text.ends_with(&format!("/lift job -- train --output {name}\n")), "{}", script.text);
        let array = JobOptions { array: Some("0-1".into()), ..job(&[]) };
        assert!(script_of(&array, "/home").unwrap().text.ends_with("/task-%a\n"));
    }

    #[test]
    fn tasks_of_an_array_have_a_run_folder_each() {
        let array = |output: &str| {
            let job = JobOptions { array: Some("0-1".into()), ..job(&["train", "--output", output]) };
            script_of(&job, "/home")
        };
        let script = array("runs/seed-%a/x").unwrap();
        assert_eq!(script.tasks, Some("/home/runs/seed-%a/x".into()));
        assert_eq!((script.run, script.logs), ("/home/runs".into(), "/home/runs/logs".into()));
        assert_eq!(
            array("runs/x").unwrap_err().to_string(),
            "--array with --output `runs/x`: all tasks would write the same run folder\nhint: put %a, the number of a task, \
             into its name, e.g. `runs/x/%a`"
        );
        let single = script_of(&job(&["train", "--output", "runs/%a"]), "/home").unwrap();
        assert_eq!((single.run, single.tasks), ("/home/runs/%a".into(), None));
    }

    #[test]
    fn what_does_not_train_is_no_job() {
        let message = script_of(&job(&["eval", "--run", "x"]), "/").unwrap_err().to_string();
        assert_eq!(message, "a job trains: expected `-- train ...` or no arguments, found `eval`");
    }

    #[test]
    fn words_reach_the_trainer_as_they_were_typed() {
        for word in ["", "a b", "it's", "$HOME", "`ls`", "a\nb", "*", "~", "\\", "\"", "-d", "a=b/c.d:e@f%a"]
        {
            let line = format!("printf %s {}", quoted(OsStr::new(word)).unwrap());
            let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}

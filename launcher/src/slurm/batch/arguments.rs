//! The trainer's arguments in a job, from the script or a line of a sweep, completed so that a restart finds its run.

use super::allocation::Allocation;
use crate::run::StartError;
use crate::slurm::SlurmError;
use protocol::arguments::TrainerArguments;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Placeholder for the task number, as in the names of Slurm's logs.
const TASK: &[u8] = b"%a";

/// The arguments that the user gave to the job, without a leading `--`.
pub fn typed(
    sweep: Option<&Path>,
    words: &[OsString],
    allocation: &Allocation,
) -> Result<Vec<OsString>, SlurmError> {
    let words = words.strip_prefix(&[OsString::from("--")]).unwrap_or(words);
    let mut all = sweep.map(|file| line(file, allocation)).transpose()?.unwrap_or_default();
    all.extend_from_slice(words);
    let task = allocation.task.as_ref().map(|(_, task)| task.as_str());
    Ok(all.iter().map(|word| task.map_or_else(|| word.clone(), |task| with_task(word, task))).collect())
}

/// The arguments of this attempt and its run folder; no folder for a command that does not train.
pub fn completed(
    words: Vec<OsString>,
    allocation: &Allocation,
) -> Result<(TrainerArguments, Option<PathBuf>), SlurmError> {
    let mut arguments = TrainerArguments::new(words);
    arguments.check().map_err(StartError::from)?;
    if !arguments.train() {
        return Ok((arguments, None));
    }
    let run = arguments.output().unwrap_or_else(|| {
        let run = PathBuf::from(format!("runs/slurm-{}", allocation.name()));
        arguments = arguments.clone().with("--output", &run);
        run
    });
    let arguments = if allocation.restarts > 0 { arguments.resumed() } else { arguments };
    Ok((arguments, Some(run)))
}

/// The line of a sweep that belongs to the task.
fn line(file: &Path, allocation: &Allocation) -> Result<Vec<OsString>, SlurmError> {
    let Some((_, task)) = &allocation.task else {
        return Err(SlurmError::InvalidArguments(
            "a sweep is for an array\nhint: use --array=1-N".to_owned(),
        ));
    };
    let text = std::fs::read_to_string(file).map_err(|source| SlurmError::File {
        operation: "read",
        path: file.to_owned(),
        source,
    })?;
    let number: usize = task.parse().unwrap_or(0);
    let line = number.checked_sub(1).and_then(|index| text.lines().nth(index));
    let line = line.filter(|line| !line.trim().is_empty()).ok_or_else(|| {
        SlurmError::InvalidArguments(format!(
            "{} has no line {task}\nhint: use --array=1-{}",
            file.display(),
            text.lines().count()
        ))
    })?;
    let words = shlex::split(line).ok_or_else(|| {
        SlurmError::InvalidArguments(format!("line {task} of {}: a quote is not closed", file.display()))
    })?;
    Ok(words.into_iter().map(OsString::from).collect())
}

fn with_task(word: &OsStr, task: &str) -> OsString {
    let mut rest = word.as_bytes();
    let mut filled = Vec::with_capacity(rest.len());
    while let Some(at) = rest.windows(TASK.len()).position(|bytes| bytes == TASK) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(task.as_bytes());
        rest = &rest[at + TASK.len()..];
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::allocation;
    use super::*;

    const TASK_TWO: [(&str, &str); 2] = [("SLURM_ARRAY_JOB_ID", "16"), ("SLURM_ARRAY_TASK_ID", "2")];

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn complete(line: &str, variables: &[(&str, &str)]) -> (String, Option<PathBuf>) {
        let (arguments, run) = completed(words(line), &allocation(variables).unwrap()).unwrap();
        let words: Vec<_> = arguments.list().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        (words.join(" "), run)
    }

    #[test]
    fn a_run_without_a_folder_gets_one_by_the_number_of_the_job() {
        let job = complete("", &[]);
        assert_eq!(job, ("train --output runs/slurm-17".to_owned(), Some("runs/slurm-17".into())));
        let task = complete("train -d x", &TASK_TWO);
        assert_eq!(task, ("train -d x --output runs/slurm-16_2".to_owned(), Some("runs/slurm-16_2".into())));
    }

    #[test]
    fn a_restart_resumes_and_what_trains_nothing_stays() {
        let restarted = [("SLURM_RESTART_COUNT", "1")];
        assert_eq!(complete("train -o a --resume never", &restarted).0, "train -o a --resume auto");
        assert_eq!(complete("train -o a --resume b", &restarted).0, "train -o a --resume b");
        assert_eq!(complete("eval --run a", &restarted), ("eval --run a".to_owned(), None));
    }

    #[test]
    fn a_task_takes_its_line_and_its_number_replaces_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep");
        std::fs::write(&file, "train\ntrain --set 'data.root=/a b' -o %a/x%a\n\ntrain 'x\n").unwrap();
        let of = |task: &str| {
            let job = allocation(&[("SLURM_ARRAY_JOB_ID", "16"), ("SLURM_ARRAY_TASK_ID", task)]).unwrap();
            typed(Some(&file), &words("-- --quiet"), &job).map_err(|error| error.to_string())
        };
        assert_eq!(of("2").unwrap(), ["train", "--set", "data.root=/a b", "-o", "2/x2", "--quiet"]);
        let file = file.display();
        assert_eq!(of("3").unwrap_err(), format!("{file} has no line 3\nhint: use --array=1-4"));
        assert_eq!(of("4").unwrap_err(), format!("line 4 of {file}: a quote is not closed"));
        assert_eq!(of("0").unwrap_err(), format!("{file} has no line 0\nhint: use --array=1-4"));
        let alone = typed(Some(Path::new("x")), &[], &allocation(&[]).unwrap()).unwrap_err().to_string();
        assert_eq!(alone, "a sweep is for an array\nhint: use --array=1-N");
    }
}

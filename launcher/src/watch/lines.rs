//! A watched run as lines, for pipes and files.

use super::WatchError;
use super::follow::Watched;
use crate::records::metrics::{EvalLine, StepLine};
use protocol::terminal::{self, OutputReader};
use std::thread::sleep;
use std::time::Duration;

/// Prints a line for each evaluation and at most one for the steps of an interval, until the run ends.
pub fn print(watched: &mut Watched, interval: Duration) -> Result<(), WatchError> {
    let mut told = Told::default();
    loop {
        // The state at the time of the last look, so that nothing of the run is missed.
        let ended = watched.has_ended();
        for line in told.news(watched) {
            if terminal::print(&format!("{line}\n"))? == OutputReader::Left {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        sleep(interval);
        watched.look()?;
    }
}

/// How much of a run was told.
#[derive(Debug, Default)]
struct Told {
    state: String,
    step: u64,
    evaluations: usize,
    restarts: u64,
}

impl Told {
    /// The lines about what is new.
    fn news(&mut self, watched: &Watched) -> Vec<String> {
        let mut lines = Vec::new();
        if watched.restarts != self.restarts {
            *self = Self {
                restarts: watched.restarts,
                state: std::mem::take(&mut self.state),
                ..Self::default()
            };
            lines.push("the run resumed from a checkpoint".to_owned());
        }
        if let Some(step) = watched.metrics.steps.last().filter(|step| step.step > self.step) {
            self.step = step.step;
            lines.push(of_step(step));
        }
        lines.extend(watched.metrics.evaluations.iter().skip(self.evaluations).map(of_evaluation));
        self.evaluations = watched.metrics.evaluations.len();
        let state = watched.state();
        // The number of silent seconds alone is not news.
        let kind = |state: &str| state.split(" for ").next().unwrap_or_default().to_owned();
        if kind(&state) != kind(&self.state) {
            self.state.clone_from(&state);
            lines.push(state);
        }
        lines
    }
}

/// A step in words; epochs count from 1, as in the output of the run.
pub fn of_step(step: &StepLine) -> String {
    let number = |number: Option<f64>, digits: usize| {
        number.map_or_else(|| "-".to_owned(), |n| format!("{n:.digits$}"))
    };
    let wait = step.data_wait.zip(step.seconds()).map(|(wait, seconds)| 100.0 * wait / seconds);
    format!(
        "epoch {} step {}  loss {}  {} images/s  waiting for data {} %",
        step.epoch + 1,
        step.step,
        number(step.loss, 4),
        number(step.images_per_second, 0),
        number(wait, 1)
    )
}

/// An evaluation in words.
pub fn of_evaluation(line: &EvalLine) -> String {
    let percent =
        |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"));
    let [overall, many, medium, few] = [line.accuracy, line.many, line.medium, line.few].map(percent);
    format!("evaluation after step {}  overall {overall}  many {many}  medium {medium}  few {few}", line.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn news_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let step = |number: u64| {
            format!(
                "{{\"kind\":\"step\",\"epoch\":0,\"step\":{number},\"loss\":2.0,\"learning_rate\":0.1,\"samples\":4,\
                 \"images_per_second\":8.0,\"data_wait\":0.05,\"finite\":true}}\n"
            )
        };
        let evaluation =
            "{\"kind\":\"eval\",\"epoch\":1,\"step\":2,\"accuracy\":50.0,\"many\":60.0,\"few\":null}\n";
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, step(1)).unwrap();
        let (mut watched, mut told) = (Watched::open(folder.path()).unwrap(), Told::default());
        let first = "epoch 1 step 1  loss 2.0000  8 images/s  waiting for data 10.0 %";
        assert_eq!(told.news(&watched), [first, "has not written its status yet"]);
        assert!(told.news(&watched).is_empty());
        fs::write(&path, step(1) + &step(2) + evaluation).unwrap();
        watched.look().unwrap();
        let news = told.news(&watched);
        assert_eq!(news[1], "evaluation after step 2  overall 50.0  many 60.0  medium -  few -");
        fs::write(&path, step(1)).unwrap();
        watched.look().unwrap();
        assert_eq!(told.news(&watched), ["the run resumed from a checkpoint", first]);
    }
}

//! Compares the result of a disturbed run with that of an undisturbed one.

use super::job::STEPS;
use protocol::layout;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The result of an undisturbed run.
#[derive(Clone, Debug)]
pub struct Expected {
    weights: Vec<u8>,
    lines: Vec<Value>,
    result: Value,
    /// The best checkpoint, if it exists.
    best: Option<Value>,
}

/// The differences of a run.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// One sentence per difference.
    pub messages: Vec<String>,
    /// The run succeeded with other weights or counts.
    pub corrupt: bool,
    /// Samples of steps that are missing in the metrics.
    pub lost: u64,
    /// Samples of steps that occur twice in the metrics.
    pub repeated: u64,
}

/// Fields that depend on time, on the machine or on the number of ranks.
const IGNORED_FIELDS: [&str; 11] = [
    "images_per_second",
    "data_wait",
    "wait_read",
    "wait_decode",
    "wait_queue",
    "seconds",
    "bytes",
    "world_size",
    "time",
    "pid",
    "backend",
];

impl Expected {
    /// Reads a finished run.
    pub fn of(run: &Path) -> Result<Self, String> {
        let weights = fs::read(run.join(layout::FINAL_WEIGHTS))
            .map_err(|error| format!("{}: {error}", layout::FINAL_WEIGHTS))?;
        let text = fs::read_to_string(run.join(layout::METRICS))
            .map_err(|error| format!("{}: {error}", layout::METRICS))?;
        let lines = text
            .lines()
            .map(|line| {
                without_ignored_fields(line).map_err(|error| format!("metrics line `{line}`: {error}"))
            })
            .collect::<Result<_, _>>()?;
        let result = fs::read_to_string(run.join(layout::RESULT))
            .map_err(|error| format!("{}: {error}", layout::RESULT))?;
        let result =
            without_ignored_fields(&result).map_err(|error| format!("{}: {error}", layout::RESULT))?;
        Ok(Self { weights, lines, result, best: best(run) })
    }

    /// Compares `found` with this result; the best checkpoint only with `with_best`, if every checkpoint could be
    /// written.
    pub fn compare(&self, found: &Self, with_best: bool) -> Differences {
        let mut differences = Differences::default();
        if self.weights != found.weights {
            differences.corrupt = true;
            differences
                .messages
                .push("final.safetensors differs from that of the undisturbed run".to_owned());
        }
        if self.result != found.result {
            differences.corrupt = true;
            differences.messages.push(self.result_difference(found));
        }
        if with_best && self.best != found.best {
            let text = format!("the best checkpoint is {:?}, expected {:?}", found.best, self.best);
            differences.messages.push(text);
        }
        self.compare_steps(found, &mut differences);
        if self.lines != found.lines {
            differences.messages.push(self.first_line(found));
        }
        differences
    }

    fn result_difference(&self, found: &Self) -> String {
        let keys = self.result.as_object().into_iter().flat_map(serde_json::Map::keys);
        let other = keys.filter(|key| self.result[key.as_str()] != found.result[key.as_str()]);
        let keys: Vec<&str> = other.map(String::as_str).collect();
        format!(
            "result.json differs in {}: {} correct, expected {}",
            keys.join(", "),
            found.result["correct"],
            self.result["correct"]
        )
    }

    fn compare_steps(&self, found: &Self, differences: &mut Differences) {
        let samples = |step| steps(&self.lines).find(|line| line["step"] == step).map_or(0, samples_of);
        for step in 1..=STEPS {
            match steps(&found.lines).filter(|line| line["step"] == step).count() as u64 {
                0 => differences.lost += samples(step),
                1 => {}
                times => differences.repeated += (times - 1) * samples(step),
            }
        }
        let sum = |lines| steps(lines).map(samples_of).sum::<u64>();
        let (all, made) = (sum(&self.lines), sum(&found.lines));
        let known = made + differences.lost - differences.repeated;
        differences.lost += all.saturating_sub(known);
        differences.repeated += known.saturating_sub(all);
    }

    fn first_line(&self, found: &Self) -> String {
        let at = self.lines.iter().zip(&found.lines).position(|(a, b)| a != b);
        let at = at.unwrap_or(self.lines.len().min(found.lines.len()));
        let line = |lines: &[Value]| lines.get(at).map_or("nothing".to_owned(), Value::to_string);
        format!("line {} of metrics.jsonl is {}, expected {}", at + 1, line(&found.lines), line(&self.lines))
    }
}

/// The content of `best.json`, if its checkpoint exists.
fn best(run: &Path) -> Option<Value> {
    let folder = run.join(layout::CHECKPOINTS);
    let best: Value = serde_json::from_slice(&fs::read(folder.join("best.json")).ok()?).ok()?;
    folder.join(layout::checkpoint(best["step"].as_u64()?)).exists().then_some(best)
}

fn steps(lines: &[Value]) -> impl Iterator<Item = &Value> {
    lines.iter().filter(|line| line["kind"] == "step")
}

fn samples_of(line: &Value) -> u64 {
    line["samples"].as_u64().unwrap_or(0)
}

fn without_ignored_fields(text: &str) -> serde_json::Result<Value> {
    let mut value: Value = serde_json::from_str(text)?;
    if let Some(fields) = value.as_object_mut() {
        for name in IGNORED_FIELDS {
            fields.remove(name);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: impl IntoIterator<Item = u64>) -> Expected {
        let line = |step| serde_json::json!({"kind": "step", "step": step, "samples": 12, "loss": 0.5});
        Expected {
            weights: vec![1],
            lines: steps.into_iter().map(line).collect(),
            result: serde_json::json!({"correct": 7}),
            best: None,
        }
    }

    #[test]
    fn equal_runs_do_not_differ() {
        let differences = run(1..=STEPS).compare(&run(1..=STEPS), true);
        assert!(differences.messages.is_empty() && !differences.corrupt);
        let best = Expected { best: Some(serde_json::json!({"step": 8})), ..run(1..=STEPS) };
        assert_eq!(best.compare(&run(1..=STEPS), true).messages.len(), 1);
    }

    #[test]
    fn lost_and_repeated_steps_and_samples_are_counted() {
        let expected = run(1..=STEPS);
        let lost = expected.compare(&run((1..=STEPS).filter(|&step| step != 5)), true);
        assert_eq!((lost.lost, lost.repeated, lost.messages.len()), (12, 0, 1));
        let repeated = expected.compare(&run((1..=STEPS).chain([5])), true);
        assert_eq!((repeated.lost, repeated.repeated, repeated.messages.len()), (0, 12, 1));
        let mut short = run(1..=STEPS);
        short.lines[3]["samples"] = 11.into();
        assert_eq!(expected.compare(&short, true).lost, 1);
    }

    #[test]
    fn other_weights_and_counts_are_silent_corruption() {
        let expected = run(1..=STEPS);
        let other = Expected { weights: vec![2], ..run(1..=STEPS) };
        assert!(expected.compare(&other, true).corrupt);
        let other = Expected { result: serde_json::json!({"correct": 8}), ..run(1..=STEPS) };
        let differences = expected.compare(&other, true);
        assert!(differences.corrupt);
        assert_eq!(differences.messages, ["result.json differs in correct: 8 correct, expected 7"]);
    }
}

//! Comparison of the results of two runs.

use protocol::layout;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The result of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedOutcome {
    steps: Vec<ComparedStep>,
    weights: Vec<u8>,
    predictions: String,
    counts: Vec<(&'static str, Value)>,
}

/// A step in the metrics. The values are compared as numbers; the file contains them in full precision.
#[derive(Clone, Debug, PartialEq)]
struct ComparedStep {
    number: u64,
    samples: u64,
    loss: f64,
    learning_rate: f64,
}

/// The required equality of two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Equal {
    /// Bitwise, except for fields that depend on time and machine.
    Bitwise,
    /// Equal steps and samples, and losses within this relative difference.
    Within(f64),
}

/// Lower bound of the divisor of relative differences: the error of a loss near zero is the absolute error of the
/// logits, which does not become smaller with the loss.
const SMALL_LOSS: f64 = 0.1;

/// Fields of `result.json` that do not depend on time and machine.
const COUNTS: [&str; 6] =
    ["correct", "total", "per_class", "evaluation", "trainable_parameters", "frozen_fingerprint"];

impl ComparedOutcome {
    /// Reads a finished run.
    pub fn read(run: &Path, predictions: &Path) -> Result<Self, String> {
        let weights = run.join(layout::FINAL_WEIGHTS);
        let weights = fs::read(&weights).map_err(|error| format!("{}: {error}", weights.display()))?;
        let result: Value = serde_json::from_str(&text(&run.join(layout::RESULT))?)
            .map_err(|error| format!("{}: {error}", layout::RESULT))?;
        let counts = COUNTS.map(|name| (name, result[name].clone())).into();
        let steps = steps(&text(&run.join(layout::METRICS))?)?;
        Ok(Self { steps, weights, predictions: text(predictions)?, counts })
    }

    /// The differences from the expected result.
    pub fn differences(&self, expected: &Self, equal: Equal) -> Vec<String> {
        let mut found = Vec::new();
        if self.steps.len() != expected.steps.len() {
            found.push(format!("{} steps, expected {}", self.steps.len(), expected.steps.len()));
        }
        let steps = self.steps.iter().zip(&expected.steps);
        let first = steps.clone().find(|(one, other)| !one.equals(other, equal));
        found.extend(first.map(|(one, other)| format!("{one:?}, expected {other:?}")));
        if equal == Equal::Bitwise {
            if self.weights != expected.weights {
                found.push(format!("{} differs", layout::FINAL_WEIGHTS));
            }
            if self.predictions != expected.predictions {
                found.push("predictions differ".to_owned());
            }
        }
        let exact = |name: &str| equal == Equal::Bitwise || !matches!(name, "correct" | "per_class");
        for ((name, one), (_, other)) in self.counts.iter().zip(&expected.counts) {
            if one != other && exact(name) {
                found.push(format!("{name} is {one}, expected {other}"));
            }
        }
        found
    }

    /// Maximum relative difference of a loss from the expected one.
    pub fn distance(&self, expected: &Self) -> f64 {
        let steps = self.steps.iter().zip(&expected.steps);
        steps.map(|(one, other)| one.distance(other)).fold(0.0, f64::max)
    }
}

impl ComparedStep {
    fn equals(&self, expected: &Self, equal: Equal) -> bool {
        match equal {
            Equal::Bitwise => self == expected && self.loss.to_bits() == expected.loss.to_bits(),
            Equal::Within(tolerance) => {
                let same_step = (self.number, self.samples) == (expected.number, expected.samples);
                same_step
                    && self.learning_rate == expected.learning_rate
                    && self.distance(expected) <= tolerance
            }
        }
    }

    fn distance(&self, expected: &Self) -> f64 {
        (self.loss - expected.loss).abs() / expected.loss.abs().max(SMALL_LOSS)
    }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn steps(metrics: &str) -> Result<Vec<ComparedStep>, String> {
    let mut steps = Vec::new();
    for line in metrics.lines() {
        let invalid_line = || format!("{}: `{line}`", layout::METRICS);
        let row: Value = serde_json::from_str(line).map_err(|_| invalid_line())?;
        if row["kind"] == "step" {
            let whole = |name: &str| row[name].as_u64().ok_or_else(invalid_line);
            let float = |name: &str| row[name].as_f64().ok_or_else(invalid_line);
            let (loss, learning_rate) = (float("loss")?, float("learning_rate")?);
            steps.push(ComparedStep {
                number: whole("step")?,
                samples: whole("samples")?,
                loss,
                learning_rate,
            });
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(losses: &[f64]) -> ComparedOutcome {
        let step = |(at, &loss)| ComparedStep { number: at as u64 + 1, samples: 9, loss, learning_rate: 0.1 };
        ComparedOutcome {
            steps: losses.iter().enumerate().map(step).collect(),
            weights: vec![1],
            predictions: "1\n2\n".to_owned(),
            counts: vec![("correct", 1.into()), ("total", 2.into())],
        }
    }

    #[test]
    fn each_difference_is_found() {
        let expected = run(&[2.0, 1.0]);
        assert!(expected.differences(&expected, Equal::Bitwise).is_empty());
        let others = [
            run(&[2.0]),
            run(&[2.0, 1.0 + f64::EPSILON]),
            ComparedOutcome { weights: vec![2], ..expected.clone() },
            ComparedOutcome { predictions: "2\n2\n".to_owned(), ..expected.clone() },
            ComparedOutcome { counts: vec![("correct", 2.into()), ("total", 2.into())], ..expected.clone() },
        ];
        for other in others {
            assert_eq!(other.differences(&expected, Equal::Bitwise).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn rounding_is_allowed_where_it_is_and_no_more() {
        let expected = run(&[2.0, 1.0]);
        let near = ComparedOutcome { weights: vec![2], predictions: String::new(), ..run(&[2.0, 1.000_009]) };
        assert!(near.differences(&expected, Equal::Within(1e-5)).is_empty());
        assert_eq!(run(&[2.0, 1.000_011]).differences(&expected, Equal::Within(1e-5)).len(), 1);
        assert_eq!(run(&[f64::NAN, 1.0]).differences(&expected, Equal::Within(1e-5)).len(), 1);
        assert!(run(&[2.0, 0.001_000_9]).differences(&run(&[2.0, 0.001]), Equal::Within(1e-5)).is_empty());
        assert_eq!(run(&[2.0, 0.001_002]).differences(&run(&[2.0, 0.001]), Equal::Within(1e-5)).len(), 1);
        let fewer =
            ComparedOutcome { counts: vec![("correct", 1.into()), ("total", 1.into())], ..expected.clone() };
        assert_eq!(fewer.differences(&expected, Equal::Within(1e-5)), ["total is 1, expected 2"]);
        let mut short = expected.clone();
        short.steps[1].samples = 8;
        assert_eq!(short.differences(&expected, Equal::Within(1e-5)).len(), 1);
    }

    #[test]
    fn steps_are_read_and_a_torn_line_is_named() {
        let line = r#"{"kind":"step","step":1,"samples":3,"loss":0.5,"learning_rate":0.1}"#;
        let read = steps(&format!("{line}\n{{\"kind\":\"eval\"}}\n"));
        assert_eq!(read, Ok(vec![ComparedStep { number: 1, samples: 3, loss: 0.5, learning_rate: 0.1 }]));
        assert!(steps(&line[..20]).is_err_and(|error| error.contains(&line[..20])));
    }
}

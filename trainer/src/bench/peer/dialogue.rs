//! A program that answers each line with a line of JSON.

use crate::engine::failure::Failure;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The program, and both ends of the conversation.
pub(super) struct Dialogue {
    name: String,
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One answer.
pub(super) struct Answer {
    name: String,
    value: Value,
}

impl Dialogue {
    /// Starts the program; its messages go to the standard error of this one.
    pub fn start(name: &str, mut command: Command) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| {
            Failure::run(format!("cannot start `{program}` for the side `{name}`: {error}"))
        })?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::run(format!("the side `{name}` has no standard input or output")));
        };
        Ok(Self { name: name.to_owned(), child, asks, answers: BufReader::new(answers) })
    }

    /// Writes a line, and waits for the answer.
    pub fn ask(&mut self, line: &str) -> Result<Answer, Failure> {
        let written = writeln!(self.asks, "{line}").and_then(|()| self.asks.flush());
        written.map_err(|error| Failure::run(format!("the side `{}` reads nothing: {error}", self.name)))?;
        self.answer()
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(Failure::run)?;
        if read == 0 {
            let ended = self.child.wait().map_err(Failure::run)?;
            return Err(Failure::run(format!("the side `{}` ended early: {ended}", self.name)));
        }
        let value = serde_json::from_str(&line).map_err(|error| {
            Failure::run(format!(
                "the side `{}` must answer in JSON, found `{}`: {error}",
                self.name,
                line.trim_end()
            ))
        })?;
        Ok(Answer { name: self.name.clone(), value })
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // It may have ended already; either way it must be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// A number.
    pub fn number(&self, field: &str) -> Result<f64, Failure> {
        self.value[field].as_f64().ok_or_else(|| self.lacks(field))
    }

    /// A list of numbers.
    pub fn numbers(&self, field: &str) -> Result<Vec<f64>, Failure> {
        let list = self.value[field].as_array().ok_or_else(|| self.lacks(field))?;
        list.iter().map(|number| number.as_f64().ok_or_else(|| self.lacks(field))).collect()
    }

    fn lacks(&self, field: &str) -> Failure {
        Failure::run(format!("the answer of the side `{}` has no `{field}`: {}", self.name, self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Dialogue {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Dialogue::start("shell", command).unwrap()
    }

    #[test]
    fn a_side_answers_in_lines_of_json() {
        let mut side = shell(r#"echo '{"loss": 1.5}'; read n; echo "{\"seconds\": [$n, 2]}""#);
        assert_eq!(side.answer().unwrap().number("loss").unwrap(), 1.5);
        let answer = side.ask("7").unwrap();
        assert_eq!(answer.numbers("seconds").unwrap(), [7.0, 2.0]);
        let error = answer.number("peak_bytes").unwrap_err().to_string();
        assert_eq!(error, r#"the answer of the side `shell` has no `peak_bytes`: {"seconds":[7,2]}"#);
    }

    #[test]
    fn a_side_that_ends_or_talks_is_reported() {
        let ended = shell("exit 3").answer().err().unwrap().to_string();
        assert_eq!(ended, "the side `shell` ended early: exit status: 3");
        let talks = shell("echo hello").answer().err().unwrap().to_string();
        assert!(talks.starts_with("the side `shell` must answer in JSON, found `hello`: "), "{talks}");
    }
}

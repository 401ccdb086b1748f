//! The report: a table for people, or one JSON object.

use super::facts::Facts;
use super::judge::{DoctorFinding, Level};
use super::plan::RunPlan;
use super::units::count;
use protocol::terminal::escaped_line;
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that `lift doctor` prints. The names of the fields are those of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of `lift`.
    pub version: &'static str,
    /// Name of this machine.
    pub host: Option<String>,
    /// Whether training can start: no finding is an error.
    pub ready: bool,
    /// The findings, by area.
    pub findings: Vec<DoctorFinding>,
    /// What a run would use.
    pub run: Option<RunPlan>,
    /// What the findings are based on.
    pub facts: Facts,
}

impl Report {
    /// The report for people. The level is a word, so no colour is needed.
    pub(super) fn table(&self) -> String {
        let host = self.host.as_ref().map(|host| format!(" on {}", escaped_line(host))).unwrap_or_default();
        let mut text = format!("lift {}{host}\n\n", self.version);
        let mut last = "";
        for finding in &self.findings {
            let area = if finding.area == last { "" } else { finding.area };
            last = finding.area;
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "{area:<13}  {:<7}  {}", finding.level.word(), escaped_line(&finding.text));
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "{:<24}hint: {}", "", escaped_line(hint));
            }
        }
        if let Some(run) = &self.run {
            text += "\nA run here would use:\n";
            for (name, value) in run.rows() {
                let _ = writeln!(text, "{name:<13}  {}", escaped_line(&value));
            }
        }
        let _ = writeln!(text, "\n{}", self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let number = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (number(Level::Error), number(Level::Warning));
        let parts = [(errors, "error"), (warnings, "warning")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| count(number, what))
            .collect();
        let start = if self.ready { "training can start" } else { "training cannot start" };
        if parts.is_empty() { start.to_owned() } else { format!("{start}: {}", parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let finding = |area, level, text: &str, hint: Option<&str>| DoctorFinding {
            area,
            level,
            text: text.into(),
            hint: hint.map(str::to_owned),
        };
        Report {
            version: "0.1.0",
            host: Some("node1".into()),
            ready: false,
            findings: vec![
                finding("cores", Level::Ok, "2 of 2", None),
                finding("output", Level::Error, "`a\nb` cannot be used", Some("choose another")),
                finding("output", Level::Warning, "slow", Some("wait")),
            ],
            run: None,
            facts: Facts::default(),
        }
    }

    #[test]
    fn the_table_names_levels_and_remedies_in_words() {
        let expected = "\
lift 0.1.0 on node1

cores          ok       2 of 2
output         error    `a\\nb` cannot be used
                        hint: choose another
               warning  slow
                        hint: wait

training cannot start: 1 error, 1 warning
";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn names_of_the_json_fields_stay() {
        let json = serde_json::to_value(report()).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["facts", "findings", "host", "ready", "run", "version"]);
        let facts: Vec<&str> = json["facts"].as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "cores",
            "data",
            "gpus",
            "limits",
            "memory",
            "mpi",
            "output",
            "shared_memory",
            "slurm",
            "trainer",
        ];
        assert_eq!(facts, expected);
        assert_eq!(json["findings"][1]["level"], "error");
        assert_eq!(json["findings"][1]["hint"], "choose another");
    }
}

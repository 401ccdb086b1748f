//! Output of `lift run`: messages for the user, or one line of JSON per event.

use super::end::AttemptEnd;
use super::restart::NoRestart;
use nix::sys::signal::Signal;
use protocol::arguments::TrainerArguments;
use protocol::terminal::{escaped_line, print_json, say, shell_words};
use protocol::{Outcome, Timestamp, hint};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Where events go.
#[derive(Debug, Clone, Copy)]
pub struct EventLog {
    /// JSON on standard output instead of messages on standard error.
    pub json: bool,
    /// Whether the command trains; only training can be resumed.
    pub trains: bool,
}

impl EventLog {
    /// Ranks are about to start.
    pub fn start(self, ranks: usize, restarts: u32, run: Option<&Path>) {
        self.event(&json!({"event": "start", "ranks": ranks, "restarts": restarts, "run": run}));
    }

    /// Hosts did not answer.
    pub fn hosts_gone(self, gone: &[String], ranks_left: usize) {
        self.event(&json!({"event": "hosts_gone", "hosts": gone, "ranks_left": ranks_left}));
        let answer = if gone.len() == 1 { "does" } else { "do" };
        let left = if ranks_left == 1 { "rank is" } else { "ranks are" };
        self.say(&format!("{} {answer} not answer; {ranks_left} {left} left", gone.join(", ")));
    }

    /// This process received a request to stop, from the user at the terminal or from another program.
    pub fn asked(self, signal: Option<Signal>, by_person: bool) {
        let signal = signal.map_or("a signal", Signal::as_str);
        self.event(&json!({"event": "asked", "signal": signal}));
        let again = if by_person { "; once more to stop at once" } else { "" };
        if self.trains {
            let resume = shell_words(&resume_command(&std::env::args_os().collect::<Vec<_>>()));
            self.say(&format!("{signal}: the ranks save and stop{again}; resume with: {resume}"));
        } else {
            self.say(&format!("{signal}: the ranks stop{again}"));
        }
    }

    /// The ranks have exited.
    pub fn end(self, end: &AttemptEnd, streams: Option<&Path>, run: Option<&Path>) {
        let explanation = end.message.as_deref().map(hint::split);
        self.event(&json!({
            "event": "end", "outcome": end.outcome, "code": end.code, "step": end.step,
            "rank": end.rank.as_ref().map(|failed| failed.rank),
            "how": end.rank.as_ref().and_then(|failed| failed.how.as_ref()),
            "message": explanation.map(|(message, _)| message), "hint": explanation.and_then(|(_, hint)| hint),
        }));
        if end.outcome == Outcome::Failed {
            self.failed(end, streams, run);
        }
    }

    /// Prints the rank that failed first and the last lines of its log.
    fn failed(self, end: &AttemptEnd, streams: Option<&Path>, run: Option<&Path>) {
        let how = end.rank.as_ref().and_then(|failed| failed.how.clone());
        let how = how.or_else(|| end.message.clone()).unwrap_or_else(|| code_in_words(end.code));
        match &end.rank {
            Some(failed) => self.say(&format!("rank {} failed first: {how}", failed.rank)),
            None => self.say(&format!("failed: {how}")),
        }
        if let Some((log, lines)) = end.last_log_lines(streams, run) {
            self.say(&format!("last lines of {}:", log.display()));
            for line in lines {
                self.quote(&line);
            }
        }
    }

    /// A restart follows.
    pub fn restart(self, number: u32, limit: u32, pause: Duration, step: u64) {
        let seconds = pause.as_secs_f64();
        self.event(
            &json!({"event": "restart", "number": number, "of": limit, "seconds": seconds, "step": step}),
        );
        self.say(&format!(
            "restart {number} of {limit} in {seconds} s, from step {step} or the checkpoint before it"
        ));
    }

    /// No restart follows. `restarts` is the number of restarts so far.
    pub fn finish(self, outcome: Outcome, step: u64, restarts: u32, why: NoRestart) {
        let reason = (why != NoRestart::Ended).then(|| why.to_string());
        self.event(&json!({
            "event": "finish", "outcome": outcome, "code": outcome.exit_code(), "step": step,
            "restarts": restarts, "reason": reason,
        }));
        if let Some(reason) = reason {
            self.say(&reason);
        }
    }

    fn say(self, sentence: &str) {
        if !self.json {
            say(format_args!("lift: {sentence}"));
        }
    }

    fn quote(self, line: &str) {
        if !self.json {
            say(format_args!("    {}", escaped_line(line)));
        }
    }

    fn event(self, event: &Value) {
        if self.json {
            let mut event = event.clone();
            event["time"] = json!(Timestamp::now().to_string());
            if let Err(error) = print_json(&format!("{event}\n")) {
                // The ranks continue; their outcome is in the run folder.
                say(format_args!("lift: {error}; this event is lost: {event}"));
            }
        }
    }
}

/// This command with `--resume auto` for the trainer.
fn resume_command(own: &[OsString]) -> Vec<OsString> {
    let divider = own.iter().position(|word| word == "--").unwrap_or(own.len());
    let typed = own.get(divider + 1..).unwrap_or_default().to_vec();
    let mut words = own[..divider].to_vec();
    words.push("--".into());
    words.extend(TrainerArguments::new(typed).resumed_from_its_folder().list().iter().cloned());
    words
}

fn code_in_words(code: i32) -> String {
    match code - 128 {
        signal @ 1..=64 => nix::sys::signal::Signal::try_from(signal)
            .map_or_else(|_| format!("signal {signal}"), |name| format!("ended by {name}")),
        _ => format!("exit code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_resumes_is_what_was_typed_with_a_word_for_the_trainer() {
        let resumed = |text: &str| {
            shell_words(&resume_command(&text.split(' ').map(OsString::from).collect::<Vec<_>>()))
        };
        assert_eq!(
            resumed("lift run -n 2 -- train -o x --resume never"),
            "lift run -n 2 -- train -o x --resume auto"
        );
        assert_eq!(resumed("lift run -n 2"), "lift run -n 2 -- train --resume auto");
    }
}

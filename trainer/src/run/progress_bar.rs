//! Progress of a run, on rank 0: a bar on a terminal, plain lines elsewhere.
//!
//! Progress goes to standard error, so that standard output has only results. A closed terminal never stops a run.

use super::{EpochRecord, StepRecord, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::terminal::{self, escaped};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refresh interval of the figures beside the bar: frequent enough to look alive, at negligible cost.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Default interval of lines about steps.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Template of the bar, without colours.
const TEMPLATE: &str = "{bar:24} {pos}/{len}  {msg}  {eta} left";

/// The bar on the terminal; other output must be written around it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressOutput {
    /// A bar that is redrawn.
    Bar,
    /// A line at intervals.
    Lines,
    /// Nothing; warnings are still printed.
    Quiet,
}

impl ProgressOutput {
    /// Chooses the output for standard error. `--json` has no effect here: its data go to standard output.
    pub fn choose(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal.is_empty() || terminal == "dumb");
        Self::fitting(quiet, io::stderr().is_terminal() && !dumb)
    }

    const fn fitting(quiet: bool, terminal: bool) -> Self {
        match (quiet, terminal) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bar,
            (false, false) => Self::Lines,
        }
    }
}

/// The extent of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressPlan {
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps that were done before this process started.
    pub steps_done: u64,
    /// Steps between two lines; 0: a line every ten seconds.
    pub steps_per_line: u64,
}

/// Shows the progress of one run.
pub struct Reporter {
    output: ProgressOutput,
    plan: ProgressPlan,
    out: Box<dyn Write + Send>,
    bar: Option<ProgressBar>,
    /// The line under construction. The buffer is reused.
    line: String,
    begun: Instant,
    shown: Instant,
}

impl Reporter {
    /// Shows progress on standard error.
    pub fn new(output: ProgressOutput, plan: ProgressPlan) -> Self {
        let bar = (output == ProgressOutput::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(Some(plan.steps), ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_position(plan.steps_done);
            bar.reset_eta();
            bar
        });
        set_bar(bar.clone());
        Self::onto(output, plan, Box::new(io::stderr()), bar)
    }

    fn onto(
        output: ProgressOutput,
        plan: ProgressPlan,
        out: Box<dyn Write + Send>,
        bar: Option<ProgressBar>,
    ) -> Self {
        let now = Instant::now();
        Self { output, plan, out, bar, line: String::new(), begun: now, shown: now }
    }

    /// Reports a step.
    pub fn step(&mut self, step: &StepRecord) {
        match (self.output, &self.bar) {
            (ProgressOutput::Bar, Some(bar)) => {
                bar.set_position(step.step);
                if self.shown.elapsed() >= BAR_INTERVAL || step.step == self.plan.steps_done + 1 {
                    self.shown = Instant::now();
                    self.line.clear();
                    self.write_figures(step);
                    if let Some(bar) = &self.bar {
                        bar.set_message(self.line.clone());
                    }
                }
            }
            (ProgressOutput::Lines, _) if self.is_line_due(step.step) => {
                self.shown = Instant::now();
                self.write_step_line(step);
                self.print();
            }
            _ => {}
        }
    }

    /// Reports a part of longer work without steps, such as an evaluation.
    pub fn progress(&mut self, work: &str, done: u64, all: u64) {
        if self.shown.elapsed() < if self.bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL } {
            return;
        }
        self.shown = Instant::now();
        let done = done.min(all);
        match &self.bar {
            Some(bar) => bar.set_message(format!("{work}: {done} of {all}")),
            None => self.say(&format!("{work}: {done} of {all}")),
        }
    }

    /// Reports an epoch.
    pub fn epoch(&mut self, epoch: &EpochRecord) {
        let rate = epoch.samples as f64 / epoch.seconds.max(f64::MIN_POSITIVE);
        self.say(&format!(
            "epoch {}/{} done: loss {:.4}, {} images in {:.1} s, {rate:.0} img/s",
            epoch.epoch + 1,
            self.plan.epochs,
            epoch.loss,
            epoch.samples,
            epoch.seconds,
        ));
    }

    /// Reports an evaluation.
    pub fn evaluation(&mut self, split: &str, summary: &Summary) {
        let mut text = format!("{split}: {} of {} right", summary.correct, summary.total);
        let figures = [
            ("overall", summary.accuracy),
            ("many", summary.many),
            ("medium", summary.medium),
            ("few", summary.few),
        ];
        for (name, value) in figures {
            if let Some(value) = value {
                let _ = write!(text, ", {name} {value:.2} %");
            }
        }
        self.say(&text);
    }

    /// Prints a message, above the bar if there is one.
    pub fn say(&mut self, sentence: &str) {
        if self.output == ProgressOutput::Quiet {
            return;
        }
        self.line.clear();
        self.line.push_str(&escaped(sentence));
        self.line.push('\n');
        self.print();
    }

    /// Removes the bar. Dropping the reporter does the same.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            set_bar(None);
            bar.finish_and_clear();
        }
    }

    fn is_line_due(&self, step: u64) -> bool {
        // The first line is printed at once: it shows that the run has reached its first step.
        let first = step == self.plan.steps_done + 1;
        let due = match self.plan.steps_per_line {
            0 => self.shown.elapsed() >= LINE_INTERVAL,
            steps => step.is_multiple_of(steps),
        };
        first || due
    }

    fn write_step_line(&mut self, step: &StepRecord) {
        self.line.clear();
        let _ = write!(
            self.line,
            "epoch {}/{}  step {}/{}  ",
            step.epoch + 1,
            self.plan.epochs,
            step.step,
            self.plan.steps
        );
        self.write_figures(step);
        let done = step.step.saturating_sub(self.plan.steps_done);
        let left = self.plan.steps.saturating_sub(step.step);
        // The first step includes all start-up costs, so its rate does not predict the others.
        if done > 1 && left > 0 {
            let seconds = self.begun.elapsed().as_secs_f64() / done as f64 * left as f64;
            self.line.push_str("  ");
            write_duration(&mut self.line, seconds as u64);
            self.line.push_str(" left");
        }
        self.line.push('\n');
    }

    fn write_figures(&mut self, step: &StepRecord) {
        let _ = match step.samples {
            0 => write!(self.line, "no image can be read"),
            _ => write!(self.line, "loss {:.4}", step.loss),
        };
        let _ = write!(self.line, "  lr {:.3e}  {:.0} img/s", step.learning_rate, step.images_per_second);
    }

    fn print(&mut self) {
        beside_bar(|| {
            // A closed terminal must not stop training.
            let _ = self.out.write_all(self.line.as_bytes()).and_then(|()| self.out.flush());
        });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Prints a message to standard error, above the bar if there is one. A closed terminal is ignored.
pub fn say(sentence: impl std::fmt::Display) {
    beside_bar(|| terminal::say(sentence));
}

/// Runs `write`, which writes to the terminal, with the bar hidden.
pub(super) fn beside_bar(write: impl FnOnce()) {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

fn write_duration(line: &mut String, seconds: u64) {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = if hours > 0 {
        write!(line, "{hours}:{minutes:02}:{seconds:02}")
    } else {
        write!(line, "{minutes}:{seconds:02}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::WaitSeconds;
    use crate::run::test_terminal::Terminal;

    fn plan(steps_per_line: u64) -> ProgressPlan {
        ProgressPlan { epochs: 2, steps: 20, steps_done: 0, steps_per_line }
    }

    fn step(step: u64) -> StepRecord {
        StepRecord {
            epoch: (step - 1) / 10,
            step,
            loss: 1.0 / step as f64,
            learning_rate: 0.01,
            samples: 128,
            images_per_second: 250.4,
            data_wait: 0.0,
            wait: WaitSeconds::default(),
            finite: true,
            bytes: 0,
        }
    }

    #[test]
    fn lines_every_so_many_steps() {
        let terminal = Terminal::default();
        let mut reporter = Reporter::onto(ProgressOutput::Lines, plan(5), Box::new(terminal.clone()), None);
        (1..=20).for_each(|number| reporter.step(&step(number)));
        let expected = [
            "epoch 1/2  step 1/20  loss 1.0000  lr 1.000e-2  250 img/s",
            "epoch 1/2  step 5/20  loss 0.2000  lr 1.000e-2  250 img/s  0:00 left",
            "epoch 1/2  step 10/20  loss 0.1000  lr 1.000e-2  250 img/s  0:00 left",
            "epoch 2/2  step 15/20  loss 0.0667  lr 1.000e-2  250 img/s  0:00 left",
            "epoch 2/2  step 20/20  loss 0.0500  lr 1.000e-2  250 img/s",
        ];
        assert_eq!(terminal.text().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn lines_every_so_often() {
        let terminal = Terminal::default();
        let mut reporter = Reporter::onto(ProgressOutput::Lines, plan(0), Box::new(terminal.clone()), None);
        (1..=5).for_each(|number| reporter.step(&step(number)));
        assert_eq!(terminal.text().lines().count(), 1, "{}", terminal.text());
        reporter.shown -= LINE_INTERVAL;
        reporter.begun -= Duration::from_mins(10);
        (6..=9).for_each(|number| reporter.step(&step(number)));
        let text = terminal.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with("step 6/20  loss 0.1667  lr 1.000e-2  250 img/s  23:20 left\n"), "{text}");
    }

    #[test]
    fn a_resumed_run_counts_its_own_steps_only() {
        let terminal = Terminal::default();
        let plan = ProgressPlan { steps_done: 10, ..plan(5) };
        let mut reporter = Reporter::onto(ProgressOutput::Lines, plan, Box::new(terminal.clone()), None);
        reporter.begun -= Duration::from_secs(10);
        (11..=15).for_each(|number| reporter.step(&step(number)));
        let text = terminal.text();
        assert!(text.starts_with("epoch 2/2  step 11/20  "), "{text}");
        assert!(text.ends_with("0:10 left\n"), "{text}");
    }

    #[test]
    fn epochs_and_evaluations() {
        let terminal = Terminal::default();
        let mut reporter = Reporter::onto(ProgressOutput::Lines, plan(0), Box::new(terminal.clone()), None);
        reporter.epoch(&EpochRecord { epoch: 0, step: 10, loss: 1.5, samples: 1280, seconds: 5.0 });
        let summary =
            Summary { accuracy: Some(81.5), few: Some(0.0), correct: 163, total: 200, ..Summary::default() };
        reporter.evaluation("test", &summary);
        reporter.say("resumed from step 10");
        assert_eq!(
            terminal.text(),
            "epoch 1/2 done: loss 1.5000, 1280 images in 5.0 s, 256 img/s\n\
             test: 163 of 200 right, overall 81.50 %, few 0.00 %\nresumed from step 10\n"
        );
    }

    #[test]
    fn quiet_says_nothing() {
        let terminal = Terminal::default();
        let mut reporter = Reporter::onto(ProgressOutput::Quiet, plan(1), Box::new(terminal.clone()), None);
        reporter.step(&step(1));
        reporter.epoch(&EpochRecord { epoch: 0, step: 10, loss: 1.5, samples: 1280, seconds: 0.0 });
        reporter.evaluation("test", &Summary::default());
        reporter.say("hello");
        assert_eq!(terminal.text(), "");
    }

    #[test]
    fn a_terminal_that_is_gone_stops_nothing() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut reporter = Reporter::onto(ProgressOutput::Lines, plan(1), Box::new(Gone), None);
        reporter.step(&step(1));
        reporter.say("hello");
    }

    #[test]
    fn the_bar_follows_the_steps_and_goes_away() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let bar = ProgressBar::with_draw_target(Some(20), ProgressDrawTarget::hidden());
        let mut reporter =
            Reporter::onto(ProgressOutput::Bar, plan(0), Box::new(Terminal::default()), Some(bar.clone()));
        (1..=7).for_each(|number| reporter.step(&step(number)));
        assert_eq!(bar.position(), 7);
        assert_eq!(bar.message(), "loss 1.0000  lr 1.000e-2  250 img/s");
        reporter.shown -= BAR_INTERVAL;
        reporter.step(&step(8));
        assert_eq!(bar.message(), "loss 0.1250  lr 1.000e-2  250 img/s");
        drop(reporter);
        assert!(bar.is_finished());
    }

    #[test]
    fn what_fits_the_terminal() {
        assert_eq!(ProgressOutput::fitting(true, true), ProgressOutput::Quiet);
        assert_eq!(ProgressOutput::fitting(false, true), ProgressOutput::Bar);
        assert_eq!(ProgressOutput::fitting(false, false), ProgressOutput::Lines);
    }

    #[test]
    fn durations() {
        let shown = |seconds| {
            let mut line = String::new();
            write_duration(&mut line, seconds);
            line
        };
        assert_eq!(
            [0, 59, 61, 3599, 3600, 90_061].map(shown),
            ["0:00", "0:59", "1:01", "59:59", "1:00:00", "25:01:01"]
        );
    }
}

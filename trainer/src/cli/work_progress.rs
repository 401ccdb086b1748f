//! Progress of work on many images, on standard error: a bar on a terminal, a line every ten seconds elsewhere.

use crate::run::ProgressOutput;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::terminal::say;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Template of the bar, without colours.
const TEMPLATE: &str = "{msg} {bar:24} {pos}/{len}  {per_sec}  {eta} left";

/// Shows how many images are done.
pub(super) struct WorkProgress {
    what: &'static str,
    total: usize,
    done: AtomicUsize,
    bar: Option<ProgressBar>,
    /// The time of the last line; none if no line is wanted.
    line: Option<Mutex<Instant>>,
    begun: Instant,
}

impl WorkProgress {
    /// `what` is done to `total` images.
    pub(super) fn start(what: &'static str, total: usize, quiet: bool) -> Self {
        let output = ProgressOutput::choose(quiet);
        let bar = (output == ProgressOutput::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.set_message(what);
            bar
        });
        let begun = Instant::now();
        let line = (output == ProgressOutput::Lines).then(|| Mutex::new(begun));
        Self { what, total, done: AtomicUsize::new(0), bar, line, begun }
    }

    /// Counts images that are done; any thread.
    pub(super) fn add(&self, count: usize) {
        let done = count + self.done.fetch_add(count, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
        let Some(shown) = &self.line else { return };
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.elapsed() >= LINE_INTERVAL {
            *shown = Instant::now();
            let rate = done as f64 / self.begun.elapsed().as_secs_f64();
            say(format_args!("{}: {done} of {} images, {rate:.0} img/s", self.what, self.total));
        }
    }

    /// Removes the bar, and returns the seconds since the start.
    pub(super) fn finish(self) -> f64 {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.begun.elapsed().as_secs_f64()
    }
}

//! Log files: what every rank did, in `logs/rank-N.log`, and rank 0's warnings also on standard error.
//!
//! A line of a log file holds time, level, rank, the fields of the spans around it (such as `step` and
//! `operation`), and the message with its own fields. `LIFT_LOG` says which lines are kept; `info` is the default.
//!
//! Until the run folder exists, lines wait in memory and warnings of every rank go to standard error. Should
//! the program end before that, nothing that was asked for is lost: with `LIFT_LOG` set, the lines go there too.

use super::RunFolderError;
use super::progress::beside_bar;
use protocol::terminal::{escaped, escaped_line};
use protocol::{Timestamp, environment, layout};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Lines that wait for the run folder take this much memory at most; later ones are left out, and counted.
const MOST_WAITING: usize = 1 << 20;

/// A log that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// `LIFT_LOG` cannot be understood.
    #[error(
        "{}=`{value}` is not a log filter: {reason}; expected a level such as `debug`, or directives such as \
        `trainer=debug,info`",
        environment::LOG
    )]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This process logs already.
    #[error("logging was set up already in this process; this is a defect of the program")]
    Twice,
}

/// The log of this process.
#[derive(Debug)]
pub struct Logging {
    shared: Arc<Shared>,
    /// Whether the person asked for particular lines.
    asked: bool,
}

impl Logging {
    /// Sets logging up for the whole process.
    pub fn start(rank: usize) -> Result<Self, LoggingError> {
        let value = std::env::var_os(environment::LOG).map(|value| value.to_string_lossy().into_owned());
        let (logging, subscriber) = Self::build(rank, value.as_deref(), Box::new(io::stderr()))?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Twice)?;
        Ok(logging)
    }

    /// From now on lines go to this rank's file in the folder `logs`, those that wait first. The file is appended to.
    pub fn attach(&self, logs: &Path) -> Result<(), RunFolderError> {
        let path = logs.join(layout::rank_log(self.shared.rank));
        let fail = |operation, error| RunFolderError::io(operation, "the log", &path, error);
        std::fs::create_dir_all(logs).map_err(|error| fail("create", error))?;
        let mut file =
            File::options().append(true).create(true).open(&path).map_err(|error| fail("create", error))?;
        let mut sink = self.shared.sink();
        if let Sink::Waiting { lines, left_out } = &*sink {
            file.write_all(lines).map_err(|error| fail("write", error))?;
            if *left_out > 0 {
                writeln!(file, "{left_out} lines left out before the run folder existed")
                    .map_err(|error| fail("write", error))?;
            }
        }
        *sink = Sink::File { file, failed: false };
        Ok(())
    }

    fn build(
        rank: usize,
        filter: Option<&str>,
        stderr: Box<dyn Write + Send>,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>), LoggingError> {
        let filter = filter.map(str::trim).filter(|filter| !filter.is_empty());
        let kept = EnvFilter::builder().parse(filter.unwrap_or("info")).map_err(|error| {
            LoggingError::Filter { value: filter.unwrap_or_default().to_owned(), reason: error.to_string() }
        })?;
        let sink = Mutex::new(Sink::Waiting { lines: Vec::new(), left_out: 0 });
        let shared = Arc::new(Shared { rank, sink, stderr: Mutex::new(stderr) });
        let into_file = tracing_subscriber::fmt::layer()
            .event_format(LogLine { rank })
            .with_ansi(false)
            .log_internal_errors(false)
            .with_writer(IntoFile(Arc::clone(&shared)))
            .with_filter(kept);
        let sentences = Sentences(Arc::clone(&shared)).with_filter(FilterFn::new(is_warning));
        let subscriber = tracing_subscriber::registry().with(into_file).with(sentences);
        Ok((Self { shared, asked: filter.is_some() }, subscriber))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        if let Sink::Waiting { lines, .. } = &*self.shared.sink()
            && self.asked
        {
            self.shared.tell(lines);
        }
    }
}

fn is_warning(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN
}

struct Shared {
    rank: usize,
    sink: Mutex<Sink>,
    stderr: Mutex<Box<dyn Write + Send>>,
}

/// Where lines go.
enum Sink {
    /// The run folder does not exist yet.
    Waiting { lines: Vec<u8>, left_out: u64 },
    /// The rank's file, and whether the person knows that it cannot be written.
    File { file: File, failed: bool },
}

impl Shared {
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to standard error; if that is gone there is nobody to tell.
    fn tell(&self, text: &[u8]) {
        beside_bar(|| {
            let _ = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).write_all(text);
        });
    }

    fn take_line(&self, line: &[u8]) {
        let failure = match &mut *self.sink() {
            Sink::Waiting { lines, left_out } => {
                if lines.len() + line.len() > MOST_WAITING {
                    *left_out += 1;
                } else {
                    lines.extend_from_slice(line);
                }
                None
            }
            Sink::File { file, failed } => {
                let failure = file.write_all(line).err().filter(|_| !*failed);
                *failed |= failure.is_some();
                failure
            }
        };
        if let Some(error) = failure {
            let rank = self.rank;
            self.tell(format!("warning: the log of rank {rank} cannot be written: {error}\n").as_bytes());
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Hands whole lines to the sink; what goes wrong there is told by it and never comes back to the caller.
struct IntoFile(Arc<Shared>);

impl<'a> MakeWriter<'a> for IntoFile {
    type Writer = &'a Shared;

    fn make_writer(&'a self) -> &'a Shared {
        &self.0
    }
}

impl Write for &Shared {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-24T17:03:11.042Z WARN rank=0 step=12 operation=evaluate: message field=value`
struct LogLine {
    rank: usize,
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // One event is one line, and names in it say nothing to whoever shows the file on a terminal.
        let mut text = String::new();
        let mut line = Writer::new(&mut text);
        write!(line, "{} {} rank={}", Timestamp::now(), event.metadata().level(), self.rank)?;
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            match extensions.get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => write!(line, " {fields}")?,
                _ => write!(line, " {}", span.name())?,
            }
        }
        line.write_str(": ")?;
        context.format_fields(line, event)?;
        writeln!(out, "{}", escaped_line(&text))
    }
}

/// Warnings and errors as sentences on standard error.
struct Sentences(Arc<Shared>);

impl<S: Subscriber> Layer<S> for Sentences {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let shared = &self.0;
        // Other ranks have their files; before they have, an error of theirs must not be lost.
        if shared.rank > 0 && matches!(*shared.sink(), Sink::File { .. }) {
            return;
        }
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
        let rank = if shared.rank > 0 { format!("rank {}: ", shared.rank) } else { String::new() };
        let Sentence { message, fields } = sentence;
        let fields = if fields.is_empty() { fields } else { format!(" ({fields})") };
        shared.tell(escaped(&format!("{level}: {rank}{message}{fields}\n")).as_bytes());
    }
}

#[derive(Default)]
struct Sentence {
    message: String,
    /// The other fields as `name value, name value`.
    fields: String,
}

impl Sentence {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        use fmt::Write;
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            self.message.write_fmt(value)
        } else {
            let separator = if self.fields.is_empty() { "" } else { ", " };
            write!(self.fields, "{separator}{} {value}", field.name())
        };
    }
}

impl Visit for Sentence {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests;

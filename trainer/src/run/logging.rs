//! Log files: every rank writes `logs/rank-N.log`; rank 0 also prints its warnings to standard error.
//!
//! A line of a log file contains time, level, rank, the fields of the spans around it (such as `step` and `operation`),
//! and the message with its own fields. `LIFT_LOG` selects the lines; the default is `info`.
//!
//! Until the run folder exists, lines are buffered in memory and warnings of every rank go to standard error. If the
//! program ends before that and `LIFT_LOG` is set, the buffered lines go to standard error too.

use super::RunFolderError;
use super::progress_bar::beside_bar;
use protocol::terminal::{escaped, escaped_line};
use protocol::{Timestamp, environment, hint, layout};
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

/// Largest size in bytes of the buffered lines; further lines are dropped and counted.
const MOST_WAITING: usize = 1 << 20;

/// Errors of setting up the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// `LIFT_LOG` is not a valid filter.
    #[error(
        "{}=`{value}` is not a log filter: {reason}; expected a level such as `debug`, or directives such as \
        `trainer=debug,info`",
        environment::LOG
    )]
    Filter {
        /// Its value.
        value: String,
        /// Reason of the error.
        reason: String,
    },
    /// Logging is already set up in this process.
    #[error("logging was set up already in this process; this is a defect of the program")]
    Twice,
}

/// The log of this process.
#[derive(Debug)]
pub struct Logging {
    shared: Arc<Shared>,
    /// Whether the user set `LIFT_LOG`.
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

    /// Directs lines to this rank's file in the folder `logs`, the buffered ones first. Appends to an existing file.
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
            self.shared.print(lines);
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

/// Destination of lines.
enum Sink {
    /// The run folder does not exist yet.
    Waiting { lines: Vec<u8>, left_out: u64 },
    /// The file of the rank, and whether a failure to write it was reported.
    File { file: File, failed: bool },
}

impl Shared {
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to standard error; if that is closed, errors cannot be reported.
    fn print(&self, text: &[u8]) {
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
            self.print(format!("warning: the log of rank {rank} cannot be written: {error}\n").as_bytes());
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Passes complete lines to the sink, which reports its own errors; they never reach the caller.
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
        // One event is one line; control characters are escaped, so that they cannot affect a terminal that shows the
        // file.
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
        writeln!(out, "{}", escaped_line(&hint::in_one_line(&text)))
    }
}

/// Warnings and errors as sentences on standard error.
struct Sentences(Arc<Shared>);

impl<S: Subscriber> Layer<S> for Sentences {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let shared = &self.0;
        // Other ranks log to their files; until these exist, their errors must not be lost.
        if shared.rank > 0 && matches!(*shared.sink(), Sink::File { .. }) {
            return;
        }
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
        let rank = if shared.rank > 0 { format!("rank {}: ", shared.rank) } else { String::new() };
        let Sentence { message, fields } = sentence;
        let fields = if fields.is_empty() { fields } else { format!(" ({fields})") };
        shared.print(escaped(&format!("{level}: {rank}{message}{fields}\n")).as_bytes());
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

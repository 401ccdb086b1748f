//! What is logged where, before and after the run folder exists.

use super::*;
use crate::run::test_terminal::Terminal;
use tracing::{debug, error, info, info_span, warn};

/// Runs `act` under the logging of one rank and says what came to the terminal.
fn under(rank: usize, filter: Option<&str>, act: impl FnOnce(&Logging)) -> String {
    let terminal = Terminal::default();
    let (logging, subscriber) = Logging::build(rank, filter, Box::new(terminal.clone())).unwrap();
    tracing::subscriber::with_default(subscriber, || act(&logging));
    drop(logging);
    terminal.text()
}

/// The lines of a log file without their times, which must be times.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let without_time = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap();
        time.parse::<Timestamp>().unwrap_or_else(|error| panic!("{line}: {error}"));
        rest.to_owned()
    };
    text.lines().map(without_time).collect()
}

#[test]
fn a_line_tells_rank_step_operation_and_fields() {
    let folder = tempfile::tempdir().unwrap();
    let shown = under(3, None, |logging| {
        logging.attach(folder.path()).unwrap();
        info!("plain");
        let step = info_span!("step", step = 12);
        let _inside = step.enter();
        let operation = info_span!("collective", operation = %"all_reduce");
        let _inside = operation.enter();
        let _nameless = info_span!("gradients").entered();
        info!(bytes = 400, "took long");
        debug!("not kept");
    });
    assert_eq!(
        lines(&folder.path().join("rank-3.log")),
        ["INFO rank=3: plain", "INFO rank=3 step=12 operation=all_reduce gradients: took long bytes=400"]
    );
    assert_eq!(shown, "");
}

#[test]
fn lines_wait_for_the_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("run/logs");
    under(0, None, |logging| {
        info!("before");
        logging.attach(&logs).unwrap();
        info!("after");
    });
    assert_eq!(lines(&logs.join("rank-0.log")), ["INFO rank=0: before", "INFO rank=0: after"]);
    // A resumed run goes on in the same file.
    under(0, None, |logging| {
        logging.attach(&logs).unwrap();
        info!("resumed");
    });
    assert_eq!(lines(&logs.join("rank-0.log")).len(), 3);
}

#[test]
fn warnings_of_rank_0_are_sentences_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let shown = under(0, None, |logging| {
        warn!("before the folder exists");
        logging.attach(folder.path()).unwrap();
        info!("not for the terminal");
        warn!(image = "a.jpg", bytes = 12, "left out");
        error!("cannot go on");
    });
    assert_eq!(
        shown,
        "warning: before the folder exists\nwarning: left out (image a.jpg, bytes 12)\nerror: cannot go on\n"
    );
    assert_eq!(
        lines(&folder.path().join("rank-0.log")),
        [
            "WARN rank=0: before the folder exists",
            "INFO rank=0: not for the terminal",
            "WARN rank=0: left out image=\"a.jpg\" bytes=12",
            "ERROR rank=0: cannot go on",
        ]
    );
}

#[test]
fn other_ranks_use_the_terminal_only_while_they_have_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let shown = under(2, None, |logging| {
        error!("no weights");
        logging.attach(folder.path()).unwrap();
        error!("in the file");
    });
    assert_eq!(shown, "error: rank 2: no weights\n");
    assert_eq!(lines(&folder.path().join("rank-2.log")).len(), 2);
}

#[test]
fn without_a_run_folder_what_was_asked_for_goes_to_the_terminal() {
    let shown = under(0, Some("debug"), |_| debug!("reading configs/base.toml"));
    assert!(shown.ends_with(" DEBUG rank=0: reading configs/base.toml\n"), "{shown}");
    assert_eq!(under(0, None, |_| info!("nobody asked")), "");
}

#[test]
fn the_filter_chooses_lines_and_never_hides_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let filter = format!("{}=debug,off", module_path!());
    let shown = under(0, Some(&filter), |logging| {
        logging.attach(folder.path()).unwrap();
        debug!("ours");
        debug!(target: "other", "theirs");
        warn!(target: "other", "loud");
    });
    assert_eq!(lines(&folder.path().join("rank-0.log")), ["DEBUG rank=0: ours"]);
    assert_eq!(shown, "warning: loud\n");
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let error = Logging::build(0, Some("trainer=loud"), Box::new(io::sink())).err().unwrap().to_string();
    assert!(error.starts_with("LIFT_LOG=`trainer=loud` is not a log filter: "), "{error}");
    assert!(
        error.ends_with("; expected a level such as `debug`, or directives such as `trainer=debug,info`"),
        "{error}"
    );
    assert!(Logging::build(0, Some(" "), Box::new(io::sink())).is_ok());
}

#[test]
fn lines_that_wait_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(MOST_WAITING / 4);
    under(0, None, |logging| {
        (0..9).for_each(|_| info!("{long}"));
        logging.attach(folder.path()).unwrap();
    });
    let text = std::fs::read_to_string(folder.path().join("rank-0.log")).unwrap();
    assert!(text.len() <= MOST_WAITING + 100);
    assert!(
        text.ends_with("6 lines left out before the run folder existed\n"),
        "{}",
        &text[text.len() - 100..]
    );
}

#[test]
fn a_full_disk_is_told_once_and_stops_nothing() {
    let shown = under(0, None, |logging| {
        let file = File::options().append(true).open("/dev/full").unwrap();
        *logging.shared.sink() = Sink::File { file, failed: false };
        info!("one");
        info!("two");
    });
    assert_eq!(
        shown,
        "warning: the log of rank 0 cannot be written: No space left on device (os error 28)\n"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    under(1, None, |logging| {
        let message = logging.attach(&file.join("logs")).unwrap_err().to_string();
        let expected = format!("cannot create the log `{}/logs/rank-1.log`: Not a directory", file.display());
        assert!(message.starts_with(&expected), "{message}");
    });
}

#[test]
fn threads_write_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (logging, subscriber) = Logging::build(0, None, Box::new(io::sink())).unwrap();
    logging.attach(folder.path()).unwrap();
    let dispatch = tracing::Dispatch::new(subscriber);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    (0..200).for_each(|line| info!(thread, line, "message"));
                });
            });
        }
    });
    let lines = lines(&folder.path().join("rank-0.log"));
    assert_eq!(lines.len(), 1600);
    assert!(
        lines.iter().all(|line| line.starts_with("INFO rank=0: message thread=") && line.contains(" line="))
    );
}

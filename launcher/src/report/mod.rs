//! `lift report`: one file about one run or several, from their run folders alone.

mod calibrated;
mod charts;
mod compare;
mod figures;
#[cfg(test)]
mod fixtures;
mod page;
mod pictures;
mod table;
mod tables;
mod text;

use crate::records::{RecordError, RunRecords};
use charts::ChartError;
use clap::{Args, ValueEnum};
use pictures::PictureError;
use protocol::terminal::{self, OutputError, say};
use protocol::{Outcome, write_atomically};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use table::Table;

/// Name of a report that has no `--output`.
const NAME: &str = "report.html";

/// Options of `lift report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Run folders; seeds of one setting are taken together, and settings are compared with the first one
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// File to write; it is replaced. `-` prints the report [default: for HTML, report.html in the folder of a single run,
    /// else in this folder; for the other formats, -]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Html)]
    pub format: ReportFormat,
    /// Show pictures of the most confident mistakes; the runs need `eval.thumbnails`
    #[arg(long)]
    pub thumbnails: bool,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One page with charts, which needs no other file
    Html,
    /// The tables, for GitHub
    Markdown,
    /// The tables, for the packages booktabs and longtable
    Latex,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A run folder cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Pictures cannot be shown.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A chart cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// Pictures are shown on a page only.
    #[error(
        "`--thumbnails` needs `--format html`, found another format\nhint: leave out `--thumbnails`, or `--format`"
    )]
    PicturesWithoutPage,
    /// The file cannot be written.
    #[error("cannot write the report `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Standard output does not accept the report.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ReportError {
    /// The exit code of the error.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Record(_) | Self::Picture(_) | Self::PicturesWithoutPage => Outcome::WrongInput,
            Self::Chart(_) | Self::Write { .. } | Self::Output(_) => Outcome::Failed,
        }
    }
}

/// Reads the runs, and writes the report.
pub fn run(options: &ReportOptions) -> Result<Outcome, ReportError> {
    if options.thumbnails && options.format != ReportFormat::Html {
        return Err(ReportError::PicturesWithoutPage);
    }
    let runs = read(&options.runs)?;
    let text = match options.format {
        ReportFormat::Html => {
            let pictures = if options.thumbnails { pictures::of_all(&runs)? } else { Vec::new() };
            page::html(&runs, &pictures)?
        }
        ReportFormat::Markdown => joined(&runs, text::markdown),
        ReportFormat::Latex => joined(&runs, text::latex),
    };
    match path(options) {
        Some(path) => {
            write_atomically(&path, text.as_bytes())
                .map_err(|source| ReportError::Write { path: path.clone(), source })?;
            terminal::print(&format!("{}\n", path.display()))?;
        }
        // Names in the text are escaped where it is made.
        None => drop(terminal::print_as_is(text)?),
    }
    Ok(Outcome::Done)
}

/// Reads each folder once, and warns of runs that are not complete.
fn read(folders: &[PathBuf]) -> Result<Vec<RunRecords>, RecordError> {
    let mut known = BTreeSet::new();
    let is_new =
        |folder: &&PathBuf| known.insert(folder.canonicalize().unwrap_or_else(|_| (*folder).clone()));
    let runs = folders
        .iter()
        .filter(is_new)
        .map(|folder| RunRecords::read(folder))
        .collect::<Result<Vec<_>, _>>()?;
    for run in &runs {
        let folder = run.folder.display();
        match (&run.result, &run.evaluation) {
            (None, _) => say(format_args!(
                "warning: `{folder}` is {}; the report has its curves only",
                tables::state(run)
            )),
            (Some(_), None) => say(format_args!(
                "warning: `{folder}` has no `{}`, so the report has neither confusion nor calibration\nhint: evaluate the run \
                 with this version: lift-trainer eval --run {folder} --output DIR",
                protocol::layout::EVALUATION
            )),
            (Some(_), Some(_)) => {}
        }
    }
    for run in compare::repeated(&runs) {
        say(format_args!(
            "warning: `{}` has the settings and the seed of another run, so it does not count as a further seed",
            run.folder.display()
        ));
    }
    Ok(runs)
}

/// The file to write; none for standard output.
fn path(options: &ReportOptions) -> Option<PathBuf> {
    match (&options.output, &options.runs[..]) {
        (Some(path), _) if path == Path::new("-") => None,
        (Some(path), _) => Some(path.clone()),
        (None, _) if options.format != ReportFormat::Html => None,
        (None, [run]) => Some(run.join(NAME)),
        (None, _) => Some(PathBuf::from(NAME)),
    }
}

/// The tables of all runs in a textual form.
fn joined(runs: &[RunRecords], form: fn(&Table) -> String) -> String {
    let mut all = of_all_runs(runs);
    for run in runs {
        let Some(result) = &run.result else { continue };
        let evaluation = run.evaluation.as_ref();
        let mut own = vec![tables::facts(run, result), tables::groups(result, evaluation)];
        own.extend(result.calibration.as_ref().map(calibrated::table));
        own.extend(evaluation.map(|evaluation| tables::head_to_tail(result, evaluation)));
        own.extend(evaluation.map(|evaluation| tables::worst(result, evaluation)));
        own.extend(tables::throughput(run));
        own.extend(tables::changed(run));
        own.push(tables::classes(result, evaluation));
        if runs.len() > 1 {
            for table in &mut own {
                table.caption = format!("{}: {}", run.folder.display(), table.caption);
            }
        }
        all.extend(own);
    }
    all.iter().map(form).collect::<Vec<_>>().join("\n")
}

/// The tables over all runs.
fn of_all_runs(runs: &[RunRecords]) -> Vec<Table> {
    let mut tables = vec![tables::runs(runs)];
    let settings = compare::settings(runs);
    if runs.len() > 1 && !settings.is_empty() {
        tables.push(tables::settings(&settings));
        tables.extend(tables::differences(&settings));
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(runs: &[&str], output: Option<&str>, format: ReportFormat) -> ReportOptions {
        let runs = runs.iter().map(PathBuf::from).collect();
        ReportOptions { runs, output: output.map(PathBuf::from), format, thumbnails: false }
    }

    #[test]
    fn a_report_has_a_place() {
        use ReportFormat::{Html, Latex};
        let of = |runs: &[&str], output, format| path(&options(runs, output, format));
        assert_eq!(of(&["runs/a"], None, Html), Some("runs/a/report.html".into()));
        assert_eq!(of(&["runs/a", "runs/b"], None, Html), Some("report.html".into()));
        assert_eq!(of(&["runs/a"], None, Latex), None);
        assert_eq!(of(&["runs/a"], Some("-"), Html), None);
        assert_eq!(of(&["runs/a"], Some("x.tex"), Latex), Some("x.tex".into()));
    }

    #[test]
    fn text_reports_have_every_table() {
        let runs = [fixtures::run("runs/a"), fixtures::run("runs/b")];
        let text = joined(&runs, text::markdown);
        for caption in
            ["Runs", "Settings: mean", "runs/a: Groups", "runs/b: From head to tail", "runs/b: Classes"]
        {
            assert!(text.contains(&format!("**{caption}")), "{caption}");
        }
    }

    #[test]
    fn pictures_need_a_page() {
        let options = ReportOptions { thumbnails: true, ..options(&["runs/a"], None, ReportFormat::Latex) };
        assert_eq!(
            run(&options).unwrap_err().to_string(),
            "`--thumbnails` needs `--format html`, found another format\nhint: leave out `--thumbnails`, or `--format`"
        );
    }
}

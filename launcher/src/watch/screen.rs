//! The picture of a watched run.

use super::follow::{RankState, Watched};
use crate::records::metrics::{EvalLine, StepLine};
use protocol::terminal::escaped_line;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Row, Sparkline, Table};
use std::time::Duration;

type Points = Vec<(f64, f64)>;
type EvalFigure = fn(&EvalLine) -> Option<f64>;

const GROUPS: [(&str, EvalFigure, Color); 4] = [
    ("overall", |line| line.accuracy, Color::Magenta),
    ("many", |line| line.many, Color::Blue),
    ("medium", |line| line.medium, Color::Yellow),
    ("few", |line| line.few, Color::Green),
];
/// Lines of ranks that are shown at most.
const MOST_RANKS: u16 = 8;

/// Draws the run.
pub fn draw(frame: &mut Frame<'_>, watched: &Watched) {
    let ranks = (watched.ranks.len() as u16).clamp(1, MOST_RANKS);
    let [head, charts, speeds, below, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(8),
        Constraint::Length(5),
        Constraint::Length(ranks + 3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(watched), head);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(charts);
    losses(frame, left, watched);
    groups(frame, right, watched);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(speeds);
    let speed = |step: &StepLine| step.images_per_second;
    sparkline(frame, left, watched, ("images a second", Color::Cyan), speed, |speed| format!("{speed:.0}"));
    let wait = |step: &StepLine| Some(100.0 * step.data_wait? / step.seconds()?);
    sparkline(frame, right, watched, ("waiting for data", Color::Red), wait, |share| format!("{share:.1} %"));
    frame.render_widget(table(&watched.ranks), below);
    frame.render_widget(
        Line::from("q leaves; the run goes on").style(Style::new().add_modifier(Modifier::DIM)),
        keys,
    );
}

fn title(watched: &Watched) -> Paragraph<'static> {
    let folder = escaped_line(&watched.folder.display().to_string()).into_owned();
    let position = watched
        .metrics
        .steps
        .last()
        .map_or_else(String::new, |step| format!("  epoch {}  step {}", step.epoch + 1, step.step));
    Paragraph::new(vec![
        Line::from(folder).style(Style::new().add_modifier(Modifier::BOLD)),
        Line::from(watched.state() + &position),
    ])
}

fn losses(frame: &mut Frame<'_>, area: Rect, watched: &Watched) {
    let points: Points =
        watched.metrics.steps.iter().filter_map(|step| Some((step.step as f64, step.loss?))).collect();
    let now = points.last().map_or_else(String::new, |(_, loss)| format!(" {loss:.4}"));
    let set = [("loss", Color::Cyan, points)];
    curves(frame, area, &format!("loss{now}"), &set);
}

fn groups(frame: &mut Frame<'_>, area: Rect, watched: &Watched) {
    let lines = &watched.metrics.evaluations;
    let points = |figure: EvalFigure| {
        lines.iter().filter_map(|line| Some((line.step as f64, figure(line)?))).collect()
    };
    let sets = GROUPS.map(|(name, figure, colour)| (name, colour, points(figure)));
    let last = |figure: EvalFigure| {
        lines.last().and_then(figure).map_or_else(|| "-".to_owned(), |f| format!("{f:.1}"))
    };
    let now = GROUPS.map(|(name, figure, _)| format!("{name} {}", last(figure))).join("  ");
    curves(frame, area, if lines.is_empty() { "no evaluation yet" } else { &now }, &sets);
}

/// Curves with their ranges on the axes.
fn curves(frame: &mut Frame<'_>, area: Rect, title: &str, sets: &[(&str, Color, Points)]) {
    let block = Block::bordered().title(title.to_owned());
    let all = || sets.iter().flat_map(|(.., points)| points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        all()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    if all().next().is_none() {
        frame.render_widget(block, area);
        return;
    }
    let ((first, last), (low, high)) = (range(|point| point.0), range(|point| point.1));
    let room = ((high - low) * 0.05).max(1e-6);
    let (low, high) = (low - room, high + room);
    let data = sets.iter().map(|(name, colour, points)| {
        let graph = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
        Dataset::default().name(*name).marker(Marker::Braille).graph_type(graph).style(*colour).data(points)
    });
    let x = Axis::default()
        .bounds([first, last.max(first + 1.0)])
        .labels([format!("{first:.0}"), format!("{last:.0}")]);
    let y = Axis::default().bounds([low, high]).labels([format!("{low:.2}"), format!("{high:.2}")]);
    let chart = Chart::new(data.collect()).block(block).x_axis(x).y_axis(y);
    frame.render_widget(if sets.len() > 1 { chart } else { chart.legend_position(None) }, area);
}

/// The newest values, as many as fit, with the last one in the title.
fn sparkline(
    frame: &mut Frame<'_>,
    area: Rect,
    watched: &Watched,
    (name, colour): (&str, Color),
    value: impl Fn(&StepLine) -> Option<f64>,
    text: fn(f64) -> String,
) {
    let width = area.width.saturating_sub(2) as usize;
    let steps = &watched.metrics.steps;
    let newest = &steps[steps.len().saturating_sub(width)..];
    // Bars are whole numbers: thousandths of the value.
    let bars: Vec<u64> = newest.iter().map(|step| (1e3 * value(step).unwrap_or(0.0)) as u64).collect();
    let now = steps.last().and_then(&value).map_or_else(|| "-".to_owned(), text);
    let block = Block::bordered().title(format!("{name} {now}"));
    frame.render_widget(Sparkline::default().block(block).style(colour).data(&bars), area);
}

fn table(ranks: &[RankState]) -> Table<'static> {
    let age = |silent: Option<Duration>| {
        silent.map_or_else(|| "no log".to_owned(), |age| format!("{} s ago", age.as_secs()))
    };
    let row = |rank: &RankState| Row::new([rank.rank.to_string(), age(rank.silent), rank.last.clone()]);
    let widths = [Constraint::Length(6), Constraint::Length(14), Constraint::Fill(1)];
    let title = match ranks.len().checked_sub(MOST_RANKS as usize) {
        Some(more @ 1..) => format!("ranks, and {more} more"),
        _ => "ranks".to_owned(),
    };
    Table::new(ranks.iter().take(MOST_RANKS as usize).map(row), widths)
        .header(Row::new(["rank", "last line", "of its log"]).style(Style::new().add_modifier(Modifier::DIM)))
        .block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::fmt::Write;
    use std::fs;

    fn drawn(watched: &Watched, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, watched)).unwrap();
        terminal.backend().to_string()
    }

    fn run(folder: &std::path::Path) -> Watched {
        let mut metrics = String::new();
        for step in 1..=50 {
            let _ = writeln!(
                metrics,
                "{{\"kind\":\"step\",\"epoch\":1,\"step\":{step},\"loss\":{},\"learning_rate\":0.1,\"samples\":16,\
                 \"images_per_second\":320.0,\"data_wait\":0.005,\"finite\":true}}",
                3.0 / f64::from(step)
            );
            if step % 10 == 0 {
                let _ = writeln!(
                    metrics,
                    "{{\"kind\":\"eval\",\"epoch\":1,\"step\":{step},\"accuracy\":{step}.0,\"many\":80.0,\"medium\":60.0,\"few\":null}}"
                );
            }
        }
        fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
        protocol::Status::starting(12).write(folder).unwrap();
        fs::create_dir(folder.join("logs")).unwrap();
        fs::write(folder.join("logs/rank-1.log"), "T WARN rank=1: the disk is slow\n").unwrap();
        Watched::open(folder).unwrap()
    }

    #[test]
    fn a_run_is_shown_with_its_figures() {
        let folder = tempfile::tempdir().unwrap();
        let picture = drawn(&run(folder.path()), (120, 40));
        for part in [
            "starting  epoch 2  step 50",
            "loss 0.0600",
            "overall 50.0  many 80.0  medium 60.0  few -",
            "images a second 320",
            "waiting for data 10.0 %",
            "the disk is slow",
            "no log",
            "ranks, and 4 more",
            "q leaves",
        ] {
            assert!(picture.contains(part), "{part}\n{picture}");
        }
        // Lines of braille are the curves.
        assert!(
            picture.chars().filter(|letter| ('\u{2801}'..='\u{28ff}').contains(letter)).count() > 20,
            "{picture}"
        );
    }

    #[test]
    fn small_terminals_and_new_runs_do_not_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let watched = run(folder.path());
        for size in [(1, 1), (20, 5), (80, 24), (300, 3)] {
            drawn(&watched, size);
        }
        let empty = tempfile::tempdir().unwrap();
        fs::write(empty.path().join("metrics.jsonl"), "").unwrap();
        let picture = drawn(&Watched::open(empty.path()).unwrap(), (80, 24));
        assert!(picture.contains("no evaluation yet") && picture.contains("images a second -"), "{picture}");
    }
}

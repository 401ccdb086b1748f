//! Results as tables for people: one run in full, or several methods side by side.

use super::{RunResult, ShotLimits, json};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use protocol::numbers::grouped;
use protocol::terminal::{OutputError, OutputReader, escaped_line, print_as_is, print_json};
use std::io::IsTerminal;

/// Largest number of absent classes that a table names.
const MOST_SHOWN: usize = 3;

/// Style of a table. Bold text never carries meaning alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLook {
    /// Lines around the header.
    lines: bool,
    /// Bold headers.
    bold: bool,
}

impl TableLook {
    /// Text and spaces only: for files and pipes.
    pub const PLAIN: Self = Self { lines: false, bold: false };

    /// The style that standard output supports. A non-empty `NO_COLOR` turns bold text off.
    pub fn of_stdout() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = variable("TERM").is_none_or(|terminal| terminal == "dumb");
        Self::of(std::io::stdout().is_terminal() && !dumb, variable("NO_COLOR").is_some())
    }

    const fn of(terminal: bool, no_color: bool) -> Self {
        Self { lines: terminal, bold: terminal && !no_color }
    }
}

/// Prints one run to standard output: a table, or with `as_json` the text of `result.json`.
pub fn print_result(result: &RunResult, as_json: bool) -> Result<OutputReader, OutputError> {
    if as_json {
        return print_json(&String::from_utf8_lossy(&result.to_json()?));
    }
    print_as_is(result_table(result, TableLook::of_stdout()))
}

/// Prints several runs to standard output: a table, or with `as_json` a list with one line per run.
pub fn print_comparison(results: &[RunResult], as_json: bool) -> Result<OutputReader, OutputError> {
    if as_json {
        return print_json(&String::from_utf8_lossy(&json::list(results)?));
    }
    print_as_is(comparison_table(results, TableLook::of_stdout()))
}

/// The figures of one run, one per line, between a description of the evaluation and the absent classes.
pub fn result_table(result: &RunResult, look: TableLook) -> String {
    let summary = &result.summary;
    let title = format!(
        "{} on {} with {}, seed {}, {}",
        result.method,
        result.data,
        result.model,
        result.seed,
        ranks(result.world_size)
    );
    let or =
        |value: Option<f64>, none: &str| value.map_or_else(|| none.into(), |value| format!("{value:.2} %"));
    let with_unit = |value| or(value, "-");
    let of_group = |value| or(value, "no class");
    let recognised = format!("recognised {} images", result.evaluation.images());
    let ShotLimits { from, to } = result.groups;
    let many = format!("many (> {to} training images)");
    let (medium, few) = (format!("medium ({from} to {to})"), format!("few (< {from})"));
    let mut rows = vec![
        ("overall", with_unit(summary.accuracy)),
        (&many, of_group(summary.many)),
        (&medium, of_group(summary.medium)),
        (&few, of_group(summary.few)),
        ("mean of the classes", with_unit(summary.mean_class_accuracy)),
        ("worst class", with_unit(summary.worst_class)),
        ("macro F1", with_unit(summary.macro_f1)),
        (&recognised, format!("{} of {}", grouped(summary.correct), grouped(summary.total))),
        ("trainable parameters", grouped(result.trainable_parameters)),
    ];
    // An evaluation has trained no image.
    let speed = result.images_per_second.map(|rate| ("training images a second", format!("{rate:.1}")));
    rows.extend(speed);
    rows.push(("seconds", format!("{:.1}", result.seconds)));
    if result.bad_images > 0 {
        rows.push(("unreadable images left out", grouped(result.bad_images)));
    }
    let mut table = Table::new();
    for (name, value) in rows {
        table.add_row([name, value.as_str()]);
    }
    let (title, table) = (escaped_line(&title), drawn(&mut table, &[], |at| at == 0, look));
    format!("{title}\n{}\n{table}{}", result.evaluation, absent(&result.absent_classes))
}

/// Several runs, one per line. Columns for data, model, seed and ranks appear only if the runs differ in them.
pub fn comparison_table(results: &[RunResult], look: TableLook) -> String {
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| column.is_shown(results)).collect();
    let mut table = Table::new();
    for result in results {
        let cell = |column: &&Column| escaped_line(&(column.value)(result)).into_owned();
        table.add_row(columns.iter().map(cell));
    }
    let headers = columns.iter().map(|column| column.header).collect::<Vec<_>>();
    drawn(&mut table, &headers, |at| headers.get(at).is_some_and(|header| WORDS.contains(header)), look)
}

/// Names with their descriptions, one per line.
pub fn listing(headers: [&str; 2], rows: impl IntoIterator<Item = [String; 2]>, look: TableLook) -> String {
    let mut table = Table::new();
    for row in rows {
        table.add_row(row.map(|cell| escaped_line(&cell).into_owned()));
    }
    drawn(&mut table, &headers, |_| true, look)
}

/// Rows of several cells below their headers; columns of numbers are aligned to the right.
pub fn listing_of<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    look: TableLook,
) -> String {
    let mut table = Table::new();
    let mut holds_words = [false; N];
    for row in rows {
        for (cell, holds_words) in row.iter().zip(&mut holds_words) {
            *holds_words |= !cell.is_empty() && !cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        }
        table.add_row(row.map(|cell| escaped_line(&cell).into_owned()));
    }
    drawn(&mut table, &headers, |at| holds_words[at], look)
}

struct Column {
    header: &'static str,
    /// Whether the column is omitted if all runs have the same value.
    only_if_different: bool,
    value: fn(&RunResult) -> String,
}

impl Column {
    fn is_shown(&self, results: &[RunResult]) -> bool {
        let differs = || results.windows(2).any(|pair| (self.value)(&pair[0]) != (self.value)(&pair[1]));
        !self.only_if_different || differs()
    }
}

const COLUMNS: [Column; 11] = [
    Column { header: "method", only_if_different: false, value: |result| result.method.clone() },
    Column { header: "data", only_if_different: true, value: |result| result.data.clone() },
    Column { header: "model", only_if_different: true, value: |result| result.model.clone() },
    Column { header: "seed", only_if_different: true, value: |result| result.seed.to_string() },
    Column { header: "ranks", only_if_different: true, value: |result| result.world_size.to_string() },
    Column { header: "overall", only_if_different: false, value: |result| percent(result.summary.accuracy) },
    Column { header: "many", only_if_different: false, value: |result| percent(result.summary.many) },
    Column { header: "medium", only_if_different: false, value: |result| percent(result.summary.medium) },
    Column { header: "few", only_if_different: false, value: |result| percent(result.summary.few) },
    Column {
        header: "trainable parameters",
        only_if_different: false,
        value: |result| grouped(result.trainable_parameters),
    },
    Column { header: "seconds", only_if_different: false, value: |result| format!("{:.1}", result.seconds) },
];

/// Columns of a comparison that contain text.
const WORDS: [&str; 3] = ["method", "data", "model"];

/// The table as text. Columns of text are left-aligned, those of numbers right-aligned.
fn drawn(
    table: &mut Table,
    headers: &[&str],
    holds_words: impl Fn(usize) -> bool,
    look: TableLook,
) -> String {
    // Rules above and below only: rules between rows would make the figures harder to compare.
    let line = LineStyle::none().fill('\u{2500}').junction('\u{2500}');
    let lines = TableStyle::new().top_border(line).header_separator(line).bottom_border(line);
    table.load_style(if look.lines { lines } else { TableStyle::new() });
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.force_no_tty();
    if look.bold {
        table.enforce_styling();
    }
    if !headers.is_empty() {
        let bold = |cell: Cell| if look.bold { cell.add_attribute(Attribute::Bold) } else { cell };
        table.set_header(headers.iter().map(|header| bold(Cell::new(header))).collect::<Vec<_>>());
    }
    table.discover_columns();
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if holds_words(at) { CellAlignment::Left } else { CellAlignment::Right });
        column.set_padding((if at == 0 { 0 } else { 2 }, 0));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// A line about the classes without an evaluated image, if there are any: their number, and the first of them.
fn absent(classes: &[String]) -> String {
    let classes_are = match classes.len() {
        0 => return String::new(),
        1 => "1 class".to_owned(),
        count => format!("{} classes", grouped(count as u64)),
    };
    let shown: Vec<&str> = classes.iter().take(MOST_SHOWN).map(String::as_str).collect();
    let more = if classes.len() > MOST_SHOWN { ", ..." } else { "" };
    let text = format!("{classes_are} absent, in no figure: {}{more}", shown.join(", "));
    format!("{}\n", escaped_line(&text))
}

/// Two decimals, as papers print them; a dash for none.
fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}

fn ranks(world_size: usize) -> String {
    if world_size == 1 { "1 rank".into() } else { format!("{world_size} ranks") }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::example;
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    #[test]
    fn one_run_plain() {
        let mut result = example();
        let expected = [
            "lift on demo with demo, seed 7, 2 ranks",
            "test images, 5 crops, expand 6",
            "overall                         80.00 %",
            "many (> 100 training images)   100.00 %",
            "medium (20 to 100)             no class",
            "few (< 20)                      66.67 %",
            "mean of the classes             83.33 %",
            "worst class                     66.67 %",
            "macro F1                        80.00 %",
            "recognised test images           4 of 5",
            "trainable parameters          1,622,528",
            "training images a second         1234.5",
            "seconds                            61.2",
            "1 class absent, in no figure: dog",
        ];
        assert_eq!(lines(&result_table(&result, TableLook::PLAIN)), expected);
        result.bad_images = 3;
        result.world_size = 1;
        result.evaluation.split = "train".into();
        result.absent_classes = ["a", "b\n", "c", "d"].map(String::from).to_vec();
        let text = result_table(&result, TableLook::PLAIN);
        assert!(text.starts_with("lift on demo with demo, seed 7, 1 rank\n"), "{text}");
        assert!(text.contains("\nunreadable images left out "), "{text}");
        assert!(text.contains("\nrecognised training images "), "{text}");
        assert!(text.ends_with("\n4 classes absent, in no figure: a, b\\n, c, ...\n"), "{text}");
        result.absent_classes.clear();
        result.images_per_second = None;
        assert!(!result_table(&result, TableLook::PLAIN).contains("a second"));
        assert!(!result_table(&result, TableLook::PLAIN).contains("absent"));
    }

    #[test]
    fn several_methods_plain() {
        let mut other = example();
        other.method = "zero_shot".into();
        other.trainable_parameters = 0;
        other.seconds = 3.0;
        other.summary.few = Some(5.0);
        let expected = [
            "method     overall    many  medium    few  trainable parameters  seconds",
            "lift         80.00  100.00       -  66.67             1,622,528     61.2",
            "zero_shot    80.00  100.00       -   5.00                     0      3.0",
        ];
        assert_eq!(lines(&comparison_table(&[example(), other], TableLook::PLAIN)), expected);
        assert_eq!(lines(&comparison_table(&[], TableLook::PLAIN)).len(), 1);
    }

    #[test]
    fn what_differs_gets_a_column() {
        let mut other = example();
        other.world_size = 1;
        other.data = "cifar100_ir100".into();
        let expected = [
            "method  data            ranks  overall    many  medium    few  trainable parameters  seconds",
            "lift    demo                2    80.00  100.00       -  66.67             1,622,528     61.2",
            "lift    cifar100_ir100      1    80.00  100.00       -  66.67             1,622,528     61.2",
        ];
        assert_eq!(lines(&comparison_table(&[example(), other], TableLook::PLAIN)), expected);
    }

    #[test]
    fn names_are_listed_with_what_they_are() {
        let rows = || {
            [["lift", "LIFT."], ["zero_shot", "Nothing\u{1b} is trained."]].map(|row| row.map(str::to_owned))
        };
        let expected =
            ["methods    --method NAME", "lift       LIFT.", "zero_shot  Nothing\\u{1b} is trained."];
        let headers = ["methods", "--method NAME"];
        assert_eq!(lines(&listing(headers, rows(), TableLook::PLAIN)), expected);
        assert!(listing(headers, rows(), TableLook::of(true, false)).contains('\u{1b}'));
        assert!(!listing(headers, rows(), TableLook::of(true, true)).contains('\u{1b}'));
    }

    #[test]
    fn no_color_keeps_the_lines_and_drops_the_boldness() {
        let bold = comparison_table(&[example()], TableLook::of(true, false));
        let lines = comparison_table(&[example()], TableLook::of(true, true));
        assert!(bold.contains('\u{1b}') && bold.contains('\u{2500}'), "{bold}");
        assert!(!lines.contains('\u{1b}') && lines.contains('\u{2500}'), "{lines}");
        assert_eq!(TableLook::of(false, false), TableLook::PLAIN);
        assert!(comparison_table(&[example()], TableLook::PLAIN).is_ascii());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown = [0, 7, 999, 1000, 1_622_528, u64::MAX].map(grouped);
        assert_eq!(shown, ["0", "7", "999", "1,000", "1,622,528", "18,446,744,073,709,551,615"]);
    }
}

//! Predictions as a table, JSON lines, CSV, or a submission to iNaturalist.

use super::PredictionFormat;
use super::inputs::InputImage;
use crate::engine::failure::Failure;
use crate::engine::predict::{Guess, Prediction, Ranking};
use crate::run::{TableLook, listing_of};
use protocol::terminal::{self, OutputError, OutputReader};
use serde::Serialize;
use std::path::Path;

/// The images and what was predicted of them, in the same order.
pub(super) struct Table<'a> {
    pub(super) images: &'a [InputImage],
    pub(super) predictions: &'a [Prediction],
    pub(super) class_names: &'a [String],
    /// Wanted coverage of the sets in percent, if there are sets.
    pub(super) coverage: Option<f64>,
}

/// Writes the predictions to the file or to standard output.
pub(super) fn write(
    table: &Table<'_>,
    format: PredictionFormat,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let text = table.text(format, output.is_none()).map_err(Failure::run)?;
    let Some(output) = output else { return print(&text, format).map(drop).map_err(Failure::run) };
    protocol::write_atomically(output, text.as_bytes())
        .map_err(|error| Failure::run(format!("cannot write `{}`: {error}", output.display())))
}

fn print(text: &str, format: PredictionFormat) -> Result<OutputReader, OutputError> {
    match format {
        // Its cells are escaped, and its headers may be bold.
        PredictionFormat::Table => terminal::print_as_is(text),
        PredictionFormat::Jsonl => terminal::print_json(text),
        PredictionFormat::Csv | PredictionFormat::Inat => terminal::print(text),
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<JsonGuess<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Vec<JsonGuess<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonGuess<'a> {
    class: usize,
    name: &'a str,
    probability: f64,
}

impl Table<'_> {
    fn text(&self, format: PredictionFormat, on_terminal: bool) -> Result<String, std::io::Error> {
        match format {
            PredictionFormat::Table => Ok(self.table(on_terminal)),
            PredictionFormat::Jsonl => self.json_lines(),
            PredictionFormat::Csv => self.csv(),
            PredictionFormat::Inat => self.submission(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&InputImage, &Prediction)> {
        self.images.iter().zip(self.predictions)
    }

    fn name(&self, guess: &Guess) -> &str {
        self.class_names.get(guess.class).map_or("", String::as_str)
    }

    fn table(&self, on_terminal: bool) -> String {
        let look = if on_terminal { TableLook::of_stdout() } else { TableLook::PLAIN };
        let mut rows = Vec::new();
        for (image, prediction) in self.rows() {
            let path = image.path.to_string_lossy();
            let first = rows.len();
            match prediction {
                Prediction::Ranked(ranking) => self.ranked(ranking, &mut rows),
                // The warning on standard error has the reason.
                Prediction::Unreadable(_) => rows.push(row("(cannot be read)".to_owned())),
            }
            rows[first][0] = path.into_owned();
        }
        let Some(coverage) = self.coverage else {
            let rows = rows.into_iter().map(|[path, class, share, _]| [path, class, share]);
            return listing_of(["image", "class", "probability"], rows, look);
        };
        listing_of(["image", "class", "probability", &format!("in the {coverage} % set")], rows, look)
    }

    /// A row for each class, and one that counts the rest of the set.
    fn ranked(&self, ranking: &Ranking, rows: &mut Vec<[String; 4]>) {
        for guess in &ranking.guesses {
            let share = format!("{:.1} %", 100.0 * guess.probability);
            let mark = if is_in_set(ranking, guess) { "yes" } else { "" };
            rows.push([String::new(), self.name(guess).to_owned(), share, mark.to_owned()]);
        }
        match beyond(ranking).count() {
            0 => {}
            1 => rows.push(row("(and 1 other class in the set)".to_owned())),
            more => rows.push(row(format!("(and {more} other classes in the set)"))),
        }
        if ranking.set.as_ref().is_some_and(Vec::is_empty) {
            rows.push(row("(the set is empty)".to_owned()));
        }
    }

    fn json_lines(&self) -> Result<String, std::io::Error> {
        let mut text = String::new();
        let list = |guesses: &[Guess]| Some(guesses.iter().map(|guess| self.json(guess)).collect());
        for (image, prediction) in self.rows() {
            let image = image.path.to_string_lossy().into_owned();
            let line = match prediction {
                Prediction::Ranked(Ranking { guesses, set }) => {
                    let set = set.as_deref().and_then(list);
                    JsonLine { image, predictions: list(guesses), set, error: None }
                }
                Prediction::Unreadable(reason) => {
                    JsonLine { image, predictions: None, set: None, error: Some(reason) }
                }
            };
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        Ok(text)
    }

    fn json(&self, guess: &Guess) -> JsonGuess<'_> {
        JsonGuess { class: guess.class, name: self.name(guess), probability: guess.probability }
    }

    /// With sets, the classes of the set follow the most probable ones, and a last column tells which are in the set.
    fn csv(&self) -> Result<String, std::io::Error> {
        let columns: &[&str] = match self.coverage {
            None => &CSV_COLUMNS,
            Some(_) => &[CSV_COLUMNS.as_slice(), &["in_set"]].concat(),
        };
        csv_text(columns, |write| {
            for (image, prediction) in self.rows() {
                let path = image.path.to_string_lossy();
                match prediction {
                    Prediction::Ranked(ranking) => {
                        for (place, guess) in (1..).zip(ranking.guesses.iter().chain(beyond(ranking))) {
                            let fields =
                                [place.to_string(), guess.class.to_string(), guess.probability.to_string()];
                            let [place, class, probability] = fields.each_ref();
                            let in_set = if is_in_set(ranking, guess) { "1" } else { "0" };
                            let row = [&*path, place, class, self.name(guess), probability, "", in_set];
                            write(&row[..columns.len()])?;
                        }
                    }
                    Prediction::Unreadable(reason) => {
                        let reason = protocol::hint::in_one_line(reason);
                        write(&[&*path, "", "", "", "", &*reason, ""][..columns.len()])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// A challenge takes a line per image; an image that cannot be read has none.
    fn submission(&self) -> Result<String, std::io::Error> {
        csv_text(&["id", "predicted"], |write| {
            for (image, prediction) in self.rows() {
                if let Prediction::Ranked(ranking) = prediction {
                    let classes: Vec<String> =
                        ranking.guesses.iter().map(|guess| guess.class.to_string()).collect();
                    write(&[&image.id, &classes.join(" ")])?;
                }
            }
            Ok(())
        })
    }
}

const CSV_COLUMNS: [&str; 6] = ["image", "rank", "class", "name", "probability", "error"];

/// A row of the table without a path and a probability.
fn row(class: String) -> [String; 4] {
    [String::new(), class, String::new(), String::new()]
}

fn is_in_set(ranking: &Ranking, guess: &Guess) -> bool {
    ranking.set.iter().flatten().any(|member| member.class == guess.class)
}

/// Classes of the set that are not among the most probable ones.
fn beyond(ranking: &Ranking) -> impl Iterator<Item = &Guess> {
    let is_listed = |member: &Guess| ranking.guesses.iter().any(|guess| guess.class == member.class);
    ranking.set.iter().flatten().filter(move |member| !is_listed(member))
}

type WriteRow<'a> = &'a mut dyn FnMut(&[&str]) -> Result<(), csv::Error>;

/// CSV of these columns, quoted where needed.
fn csv_text(
    columns: &[&str],
    rows: impl FnOnce(WriteRow<'_>) -> Result<(), csv::Error>,
) -> Result<String, std::io::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    rows(&mut |row| writer.write_record(row))?;
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: PredictionFormat) -> String {
        text_with(format, None)
    }

    /// With the classes of the set, in falling order.
    fn text_with(format: PredictionFormat, set: Option<&[usize]>) -> String {
        let image = |path: &str, id: &str| InputImage { path: path.into(), id: id.into() };
        let images = [image("a, b.jpg", "7"), image("torn\u{1b}[31m.jpg", "8")];
        let guess = |class, probability| Guess { class, probability };
        let predictions = [
            Prediction::Ranked(Ranking {
                guesses: vec![guess(1, 0.75), guess(0, 0.1875)],
                set: set.map(|set| {
                    set.iter().map(|&class| guess(class, [0.1875, 0.75, 0.0625][class])).collect()
                }),
            }),
            Prediction::Unreadable("cut short\nhint: copy it".into()),
        ];
        let class_names = ["cat".to_owned(), "a \"dog\"".to_owned(), "\u{1b}cow".to_owned()];
        let coverage = set.map(|_| 90.0);
        Table { images: &images, predictions: &predictions, class_names: &class_names, coverage }
            .text(format, false)
            .unwrap()
    }

    #[test]
    fn every_form_has_every_image_in_order() {
        assert_eq!(
            text(PredictionFormat::Jsonl),
            "{\"image\":\"a, b.jpg\",\"predictions\":[{\"class\":1,\"name\":\"a \\\"dog\\\"\",\"probability\":0.75},\
             {\"class\":0,\"name\":\"cat\",\"probability\":0.1875}]}\n\
             {\"image\":\"torn\\u001b[31m.jpg\",\"error\":\"cut short\\nhint: copy it\"}\n"
        );
        assert_eq!(
            text(PredictionFormat::Csv),
            "image,rank,class,name,probability,error\n\
             \"a, b.jpg\",1,1,\"a \"\"dog\"\"\",0.75,\n\"a, b.jpg\",2,0,cat,0.1875,\n\
             torn\u{1b}[31m.jpg,,,,,cut short; copy it\n"
        );
        assert_eq!(text(PredictionFormat::Inat), "id,predicted\n7,1 0\n");
        let table = text(PredictionFormat::Table);
        assert!(!table.contains('\u{1b}'), "names cannot command the terminal: {table}");
        assert!(
            table.contains("75.0 %") && table.contains("\ntorn\\u{1b}[31m.jpg  (cannot be read)\n"),
            "{table}"
        );
    }

    #[test]
    fn sets_are_marked_and_complete() {
        let of = |format| text_with(format, Some(&[1, 2]));
        let table = of(PredictionFormat::Table);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.trim().is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[0], ["image", "class", "probability", "in the 90 % set"], "{table}");
        assert_eq!(rows[1], ["a, b.jpg", "a \"dog\"", "75.0 %", "yes"], "{table}");
        assert_eq!(rows[2], ["cat", "18.8 %"], "{table}");
        assert_eq!(rows[3], ["(and 1 other class in the set)"], "{table}");
        assert!(text_with(PredictionFormat::Table, Some(&[])).contains("(the set is empty)"));
        assert_eq!(
            of(PredictionFormat::Csv),
            "image,rank,class,name,probability,error,in_set\n\
             \"a, b.jpg\",1,1,\"a \"\"dog\"\"\",0.75,,1\n\"a, b.jpg\",2,0,cat,0.1875,,0\n\
             \"a, b.jpg\",3,2,\u{1b}cow,0.0625,,1\n\
             torn\u{1b}[31m.jpg,,,,,cut short; copy it,\n"
        );
        let lines = of(PredictionFormat::Jsonl);
        let set = "\"set\":[{\"class\":1,\"name\":\"a \\\"dog\\\"\",\"probability\":0.75},\
                   {\"class\":2,\"name\":\"\\u001bcow\",\"probability\":0.0625}]";
        assert!(lines.contains(set), "{lines}");
    }
}

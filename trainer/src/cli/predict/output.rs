//! Predictions as a table, JSON lines, CSV, or a submission to iNaturalist.

use super::PredictionFormat;
use super::inputs::InputImage;
use crate::engine::failure::Failure;
use crate::engine::predict::{Guess, Prediction};
use crate::run::{TableLook, listing_of};
use protocol::terminal::{self, OutputError, OutputReader};
use serde::Serialize;
use std::path::Path;

/// The images and what was predicted of them, in the same order.
pub(super) struct Table<'a> {
    pub(super) images: &'a [InputImage],
    pub(super) predictions: &'a [Prediction],
    pub(super) class_names: &'a [String],
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
            match prediction {
                Prediction::Ranked(guesses) => {
                    for (place, guess) in guesses.iter().enumerate() {
                        let path = if place == 0 { path.to_string() } else { String::new() };
                        let share = format!("{:.1} %", 100.0 * guess.probability);
                        rows.push([path, self.name(guess).to_owned(), share]);
                    }
                }
                Prediction::Unreadable(reason) => {
                    let reason = protocol::hint::in_one_line(reason);
                    rows.push([path.to_string(), format!("(cannot be read: {reason})"), String::new()]);
                }
            }
        }
        listing_of(["image", "class", "probability"], rows, look)
    }

    fn json_lines(&self) -> Result<String, std::io::Error> {
        let mut text = String::new();
        for (image, prediction) in self.rows() {
            let image = image.path.to_string_lossy().into_owned();
            let (predictions, error) = match prediction {
                Prediction::Ranked(guesses) => {
                    (Some(guesses.iter().map(|guess| self.json(guess)).collect()), None)
                }
                Prediction::Unreadable(reason) => (None, Some(reason.as_str())),
            };
            text.push_str(&serde_json::to_string(&JsonLine { image, predictions, error })?);
            text.push('\n');
        }
        Ok(text)
    }

    fn json(&self, guess: &Guess) -> JsonGuess<'_> {
        JsonGuess { class: guess.class, name: self.name(guess), probability: guess.probability }
    }

    fn csv(&self) -> Result<String, std::io::Error> {
        csv_text(["image", "rank", "class", "name", "probability", "error"], |write| {
            for (image, prediction) in self.rows() {
                let path = image.path.to_string_lossy();
                match prediction {
                    Prediction::Ranked(guesses) => {
                        for (place, guess) in (1..).zip(guesses) {
                            let (class, probability) =
                                (guess.class.to_string(), guess.probability.to_string());
                            write(&[&path, &place.to_string(), &class, self.name(guess), &probability, ""])?;
                        }
                    }
                    Prediction::Unreadable(reason) => write(&[&path, "", "", "", "", reason])?,
                }
            }
            Ok(())
        })
    }

    /// A challenge takes a line per image; an image that cannot be read has none.
    fn submission(&self) -> Result<String, std::io::Error> {
        csv_text(["id", "predicted"], |write| {
            for (image, prediction) in self.rows() {
                if let Prediction::Ranked(guesses) = prediction {
                    let classes: Vec<String> = guesses.iter().map(|guess| guess.class.to_string()).collect();
                    write(&[&image.id, &classes.join(" ")])?;
                }
            }
            Ok(())
        })
    }
}

type WriteRow<'a> = &'a mut dyn FnMut(&[&str]) -> Result<(), csv::Error>;

/// CSV of these columns, quoted where needed.
fn csv_text<const N: usize>(
    columns: [&str; N],
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
        let image = |path: &str, id: &str| InputImage { path: path.into(), id: id.into() };
        let images = [image("a, b.jpg", "7"), image("torn\u{1b}[31m.jpg", "8")];
        let guess = |class, probability| Guess { class, probability };
        let predictions = [
            Prediction::Ranked(vec![guess(1, 0.75), guess(0, 0.25)]),
            Prediction::Unreadable("cut short\nhint: copy it".into()),
        ];
        let class_names = ["cat".to_owned(), "a \"dog\"".to_owned()];
        Table { images: &images, predictions: &predictions, class_names: &class_names }
            .text(format, false)
            .unwrap()
    }

    #[test]
    fn every_form_has_every_image_in_order() {
        assert_eq!(
            text(PredictionFormat::Jsonl),
            "{\"image\":\"a, b.jpg\",\"predictions\":[{\"class\":1,\"name\":\"a \\\"dog\\\"\",\"probability\":0.75},\
             {\"class\":0,\"name\":\"cat\",\"probability\":0.25}]}\n\
             {\"image\":\"torn\\u001b[31m.jpg\",\"error\":\"cut short\\nhint: copy it\"}\n"
        );
        assert_eq!(
            text(PredictionFormat::Csv),
            "image,rank,class,name,probability,error\n\
             \"a, b.jpg\",1,1,\"a \"\"dog\"\"\",0.75,\n\"a, b.jpg\",2,0,cat,0.25,\n\
             torn\u{1b}[31m.jpg,,,,,\"cut short\nhint: copy it\"\n"
        );
        assert_eq!(text(PredictionFormat::Inat), "id,predicted\n7,1 0\n");
        let table = text(PredictionFormat::Table);
        assert!(!table.contains('\u{1b}'), "names cannot command the terminal: {table}");
        assert!(table.contains("75.0 %") && table.contains("cannot be read: cut short"), "{table}");
    }
}

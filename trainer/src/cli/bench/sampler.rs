//! `lift-trainer bench sampler`.

use super::arguments::SamplerArguments;
use super::print::{bytes, or_dash, report, table, time};
use crate::bench::sampler::{Labels, SamplerReport, measure};
use crate::engine::failure::Failure;
use crate::engine::setup::sources;
use protocol::command_line::OutputArguments;
use std::path::Path;

/// Measures and prints.
pub(in crate::cli) fn run(
    arguments: &SamplerArguments,
    output_arguments: OutputArguments,
) -> Result<(), Failure> {
    let (source, labels) = labels(arguments)?;
    let found = measure(source, &labels).map_err(Failure::input)?;
    report(&found, output_arguments.json, arguments.save.as_deref(), text)
}

fn labels(arguments: &SamplerArguments) -> Result<(String, Labels), Failure> {
    if let Some((images, classes)) = arguments.zipf {
        return Ok((format!("zipf {images},{classes}"), Labels::zipf(images, classes)));
    }
    if let Some(file) = &arguments.counts {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        return Ok((name, Labels::of_counts(&counts(file)?)));
    }
    let resolved = crate::cli::resolve_for_images(&arguments.select)?;
    let data = sources::open_data(&resolved.config)?;
    let labels = Labels { labels: data.train.labels().to_vec(), classes: data.class_names.len() };
    Ok((resolved.names.data, labels))
}

/// Reads one count per line.
fn counts(file: &Path) -> Result<Vec<u32>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::input(format!("cannot read the counts `{shown}`: {error}")))?;
    let count = |(number, line): (usize, &str)| {
        line.trim().parse().map_err(|_| {
            let number = number + 1;
            let expected = "expected the number of images of a class";
            Failure::input(format!(
                "`{shown}`, line {number}: {expected}, found `{line}`\nhint: write one number per line"
            ))
        })
    };
    text.lines().enumerate().map(count).collect()
}

fn text(found: &SamplerReport) -> String {
    let rows = found.samplers.iter().map(|row| {
        let setting = row.setting.as_ref().map(|setting| format!(" ({setting})")).unwrap_or_default();
        vec![
            format!("{}{setting}", row.sampler),
            time(row.build_seconds),
            format!("{:.1} M/s", row.positions_per_second / 1e6),
            format!("{:.0} ns", row.lone_position_nanoseconds),
            bytes(row.own_bytes as f64),
            or_dash(row.peak_bytes, |peak| bytes(peak as f64)),
            limits(row.within_limits).to_owned(),
        ]
    });
    let headers = [
        "sampler",
        "build",
        "positions per core",
        "single position",
        "memory",
        "peak beyond labels",
        "limits",
    ];
    let table = table(&headers, rows);
    let process = or_dash(found.process_bytes, |peak| bytes(peak as f64));
    let head = format!("{}: {} images of {} classes", found.source, found.images, found.classes);
    format!("{head}\n{table}peak memory of the process, including labels: {process}\n")
}

fn limits(within: Option<bool>) -> &'static str {
    match within {
        None => "-",
        Some(true) => "met",
        Some(false) => "missed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_count_is_reported_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counts.txt");
        std::fs::write(&file, "3\n 2\nmany\n").unwrap();
        let error = counts(&file).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("found `many`"), "{error}");
        std::fs::write(&file, "3\n 2\n").unwrap();
        assert_eq!(counts(&file).unwrap(), [3, 2]);
        assert!(
            counts(&folder.path().join("none")).unwrap_err().to_string().contains("cannot read the counts")
        );
    }
}

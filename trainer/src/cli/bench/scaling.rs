//! `lift-trainer bench scaling`.

use super::arguments::ScalingArguments;
use super::print::report;
use crate::bench::scaling::cluster::{Cluster, Forecast};
use crate::bench::scaling::machine::{Measured, Predicted};
use crate::bench::scaling::{forecasts, tables};
use crate::engine::failure::Failure;
use protocol::command_line::OutputArguments;
use serde::Serialize;

/// Source of the tables in docs/scaling.md.
const MEASURED: &str = include_str!("../../bench/scaling/measured.toml");

#[derive(Serialize)]
struct MeasuredFiles {
    measured: Measured,
    predicted: Vec<Predicted>,
    assumptions: Cluster,
    forecasts: Vec<Forecast>,
}

/// Prints the tables of docs/scaling.md, or the figures behind them.
pub(in crate::cli) fn run(arguments: &ScalingArguments, talk: OutputArguments) -> Result<(), Failure> {
    let text = match &arguments.measured {
        None => MEASURED.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            Failure::input(format!("cannot read the measured constants `{}`: {error}", file.display()))
        })?,
    };
    let measured = Measured::parse(&text).map_err(|error| {
        Failure::input(format!("the measured constants are not in the format of `make bench`: {error}"))
    })?;
    let predicted = measured.predict();
    let found = MeasuredFiles { measured, predicted, assumptions: Cluster::H100, forecasts: forecasts() };
    report(&found, talk.json, None, |found| {
        let [constants, here, job, clusters] = tables(&found.measured).map(|(_, table)| table);
        format!("{constants}\n{here}\n{job}\n{clusters}")
    })
}

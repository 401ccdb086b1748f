//! `scaling`: prints the tables of docs/scaling.md, or the figures behind them. See [`scaling`].

use clap::Parser;
use protocol::Outcome;
use protocol::terminal::{OutputError, print, print_json, say};
use scaling::cluster::{Cluster, Forecast};
use scaling::machine::{Measured, Predicted};
use scaling::{MEASURED, forecasts, tables};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Models step time by number of ranks: compares the model with measured steps, and applies it to GPU clusters.
#[derive(Debug, Parser)]
struct ScalingArguments {
    /// File with measured constants and step times, written by `make bench` [default: the values of docs/scaling.md]
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Print the figures behind the tables as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ScalingReport {
    measured: Measured,
    predicted: Vec<Predicted>,
    assumptions: Cluster,
    forecasts: Vec<Forecast>,
}

#[derive(Debug, thiserror::Error)]
enum ScalingError {
    #[error("cannot read the measured constants `{}`: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the measured constants are not in the format of `make bench`: {0}")]
    Format(#[from] toml::de::Error),
    #[error("the report has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
}

fn main() -> ExitCode {
    let outcome = match run(&ScalingArguments::parse()) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            say(format_args!("error: {error}"));
            let is_input = matches!(error, ScalingError::Unreadable { .. } | ScalingError::Format(_));
            if is_input { Outcome::WrongInput } else { Outcome::Failed }
        }
    };
    ExitCode::from(outcome.exit_code())
}

fn run(arguments: &ScalingArguments) -> Result<(), ScalingError> {
    let text = match &arguments.measured {
        None => MEASURED.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ScalingError::Unreadable { path: path.clone(), source })?,
    };
    let measured = Measured::parse(&text)?;
    if arguments.json {
        let predicted = measured.predict();
        let report =
            ScalingReport { measured, predicted, assumptions: Cluster::H100, forecasts: forecasts() };
        print_json(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        return Ok(());
    }
    let [constants, here, job, clusters] = tables(&measured).map(|(_, table)| table);
    print(&format!("{constants}\n{here}\n{job}\n{clusters}"))?;
    Ok(())
}

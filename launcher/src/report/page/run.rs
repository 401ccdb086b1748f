//! The section of one run.

use super::super::calibrated;
use super::super::charts::{
    Bar, BarGroup, ChartError, accuracy_against_size, bars, reliability, size_heat_map,
};
use super::super::figures::{calibration_error, size_confusion};
use super::super::pictures::Picture;
use super::super::table::{duration, percent};
use super::super::tables;
use super::{classes, curves, html_table, visible};
use crate::records::RunRecords;
use crate::records::result::ResultRecord;
use maud::{Markup, PreEscaped, html};
use protocol::evaluation::Shot;
use protocol::evaluation::{CERTAIN, EvaluationRecord, Mistake};
use protocol::numbers::grouped;

/// Parts of the classes in the heat map of head and tail.
const PARTS: usize = 10;

/// All about a run.
pub fn section(run: &RunRecords, pictures: Option<&Vec<Picture>>) -> Result<Markup, ChartError> {
    let curves = curves::figures(run)?;
    let Some(result) = &run.result else {
        return Ok(html! {
            p.alert { "This run is " (tables::state(run)) ". Figures of its classes follow when it ends." }
            div.charts { (curves) }
            @if let Some(table) = tables::throughput(run) { h3 { "Speed" } (html_table(&table)) }
            @if let Some(table) = tables::changed(run) { h3 { "Settings" } (html_table(&table)) }
        });
    };
    let evaluation = run.evaluation.as_ref();
    let size = accuracy_against_size(result)?;
    let groups = BarGroup::of(result);
    let bars = bars(&groups, &[String::new()])?;
    Ok(html! {
        (tiles(result))
        div.charts {
            figure { (PreEscaped(size)) figcaption { "Accuracy of each class against its training images, and the mean over classes of similar size. Colours: "
                @for (number, group) in Shot::ALL.into_iter().enumerate() { span style=(format!("color: var(--series-{number})")) { (group.word()) } @if number < 2 { ", " } @else { "." } } } }
            figure { (PreEscaped(bars)) figcaption { "Accuracy by group of classes." } }
            (curves)
        }
        h3 { "Groups of classes" }
        (html_table(&tables::groups(result, evaluation)))
        @if let Some(evaluation) = evaluation { (calibration(evaluation)?) }
        @if let Some(found) = &result.calibration { div style="margin-top: 1.2rem" { (html_table(&calibrated::table(found))) } }
        @if let Some(evaluation) = evaluation { (confusion(result, evaluation)?) }
        @else { p.alert { "This run has no " code { (protocol::layout::EVALUATION) } ", so there is neither confusion nor calibration." } }
        @if let (Some(pictures), Some(evaluation)) = (pictures, evaluation) { (mistakes(result, evaluation, pictures)) }
        (classes::section(result, evaluation))
        h3 { "Run, speed and settings" }
        div.halves {
            div { (html_table(&tables::facts(run, result))) }
            @if let Some(table) = tables::throughput(run) { div { (html_table(&table)) } }
        }
        @if let Some(table) = tables::changed(run) { div style="margin-top: 1.2rem" { (html_table(&table)) } }
    })
}

fn tiles(result: &ResultRecord) -> Markup {
    let speed = result
        .images_per_second
        .map_or_else(|| super::super::table::NONE.to_owned(), |speed| grouped(speed.round() as u64));
    let tiles = [
        (percent(result.accuracy), "overall accuracy, %"),
        (percent(result.many), "many"),
        (percent(result.medium), "medium"),
        (percent(result.few), "few"),
        (grouped(result.trainable_parameters), "trained parameters"),
        (speed, "images a second"),
        (duration(result.seconds), "time"),
    ];
    html! { ul.tiles { @for (value, name) in tiles { li { b { (value) } span { (name) } } } } }
}

impl BarGroup {
    fn of(result: &ResultRecord) -> Vec<Self> {
        let figures = [
            ("overall", result.accuracy),
            ("many", result.many),
            ("medium", result.medium),
            ("few", result.few),
        ];
        let group = |(name, value): (&str, Option<f64>)| Self {
            name: name.to_owned(),
            bars: vec![value.map(|value| Bar { value, deviation: None })],
        };
        figures.map(group).into()
    }
}

fn calibration(evaluation: &EvaluationRecord) -> Result<Markup, ChartError> {
    let mut diagrams = Vec::new();
    for group in &evaluation.reliability {
        if let Some(error) = calibration_error(&group.bins) {
            diagrams.push((reliability(&visible(&group.group), &group.bins)?, &group.group, error));
        }
    }
    Ok(html! {
        h3 { "Calibration" }
        div.charts.thirds {
            @for (svg, group, error) in diagrams {
                figure { (PreEscaped(svg)) figcaption { b { (visible(group)) } ": ECE " (format!("{error:.1}")) " %. Bars: accuracy of the images in a bin, stronger with more images; dots: at the mean confidence." } }
            }
        }
    })
}

fn confusion(result: &ResultRecord, evaluation: &EvaluationRecord) -> Result<Markup, ChartError> {
    let shares = size_confusion(result, evaluation, PARTS);
    let map = shares.map(|shares| size_heat_map(&shares)).transpose()?;
    Ok(html! {
        h3 { "Confusion" }
        div.halves {
            @if let Some(map) = map {
                figure { (PreEscaped(map)) figcaption { "Predictions by class size: ten parts of the classes, the largest first. Each row is the images of one part; below the diagonal, classes of the tail are taken for larger ones." } }
            }
            div {
                (html_table(&tables::head_to_tail(result, evaluation)))
            }
        }
        div style="margin-top: 1.2rem" { (html_table(&tables::worst(result, evaluation))) }
    })
}

fn mistakes(result: &ResultRecord, evaluation: &EvaluationRecord, pictures: &[Picture]) -> Markup {
    let name = |class: u32| visible(&result.per_class[class as usize].name).into_owned();
    let words = |mistake: &Mistake| format!("{} taken for {}", name(mistake.label), name(mistake.predicted));
    html! {
        @if !pictures.is_empty() {
            h3 { "The most confident mistakes" }
            div.pictures {
                @for (picture, mistake) in pictures.iter().map(|picture| (picture, &evaluation.mistakes[picture.mistake])) {
                    figure {
                        img src=(picture.address) alt=(words(mistake)) width="64" height="64";
                        figcaption {
                            bdi { (name(mistake.label)) } " taken for " b { bdi { (name(mistake.predicted)) } }
                            " (" (format!("{:.1}", 100.0 * mistake.confidence as f64 / CERTAIN as f64)) " %), " bdi { (visible(&mistake.name)) }
                        }
                    }
                }
            }
        }
    }
}

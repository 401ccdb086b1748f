//! Charts over classes.

use super::{Canvas, ChartError, Drawn, GRID, INK, SIZE, chart, label, series, tick};
use crate::records::result::ResultRecord;
use plotters::prelude::*;
use std::collections::BTreeMap;

/// Steps of the mean curve for each factor of ten in size.
const STEPS_PER_DECADE: f64 = 4.0;
/// Circles from which on they overlap, and are drawn fainter.
const CROWDED: usize = 300;

/// The accuracy of each class against its training images, with the mean over classes of similar size. Classes at the same
/// place are one circle, whose area is their number.
pub fn accuracy_against_size(result: &ResultRecord) -> Result<String, ChartError> {
    let tested = || result.per_class.iter().filter(|class| class.test_count > 0);
    let mut places: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for class in tested() {
        let accuracy = 1000 * class.correct / class.test_count;
        *places.entry((class.train_count, accuracy)).or_default() += 1;
    }
    let most = tested().map(|class| class.train_count).max().unwrap_or(1).max(10) as f64;
    let title =
        format!("Accuracy of {} classes against the number of their training images", tested().count());
    let means = means_by_size(result);
    let crowd = places.values().max().copied().unwrap_or(1) as f64;
    let strength = if places.len() > CROWDED { 0.35 } else { 0.6 };
    chart(&title, SIZE, |canvas| {
        let mut axes = ChartBuilder::on(canvas)
            .margin(8)
            .margin_right(14)
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d((0.8..most * 1.25).log_scale(), -3.0..103.0)?;
        axes.configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label())
            .x_desc("training images of the class")
            .y_labels(6)
            .y_desc("accuracy, %")
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        for ((size, accuracy), classes) in &places {
            let radius = (2.5 + 5.5 * ((*classes - 1) as f64 / crowd).sqrt()) as i32 + 1;
            let place = ((*size).max(1) as f64, *accuracy as f64 / 10.0);
            let colour = series(result.groups.group(*size) as usize).mix(strength).filled();
            axes.draw_series(std::iter::once(Circle::new(place, radius, colour)))?;
        }
        axes.draw_series(LineSeries::new(means, INK.stroke_width(2)))?;
        Ok(())
    })
}

/// Mean accuracy of the classes of similar size, by ascending size.
fn means_by_size(result: &ResultRecord) -> Vec<(f64, f64)> {
    let mut bins: BTreeMap<i64, (f64, f64, f64)> = BTreeMap::new();
    for class in result.per_class.iter().filter(|class| class.test_count > 0) {
        let size = (class.train_count.max(1) as f64).log10();
        let bin = bins.entry((size * STEPS_PER_DECADE).round() as i64).or_default();
        bin.0 += size;
        bin.1 += 100.0 * class.correct as f64 / class.test_count as f64;
        bin.2 += 1.0;
    }
    bins.into_values()
        .map(|(size, accuracy, number)| (10_f64.powf(size / number), accuracy / number))
        .collect()
}

/// Shares of predictions by size of the true and of the predicted class: `[true][predicted]`, the largest classes first. The
/// largest share has the full colour.
pub fn size_heat_map(shares: &[Vec<f64>]) -> Result<String, ChartError> {
    let parts = shares.len() as i32;
    let title = format!("Predictions by class size in {parts} parts: true class against predicted class");
    let most = shares.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    chart(&title, (420, 330), |canvas| {
        let (left, top, side) = (64, 14, 270 / parts);
        for (row, shares) in (0..).zip(shares) {
            for (column, share) in (0..).zip(shares) {
                let corner = (left + column * side, top + row * side);
                let cell = [corner, (corner.0 + side - 1, corner.1 + side - 1)];
                canvas.draw(&Rectangle::new(cell, GRID.mix(0.5).filled()))?;
                canvas.draw(&Rectangle::new(cell, series(0).mix(*share / most).filled()))?;
            }
        }
        scale(canvas, (left + parts * side + 16, top), parts * side, most)?;
        edges(canvas, (left, top), parts * side)
    })
}

/// What the colours of a heat map mean, from nothing below to the largest share above.
fn scale(canvas: &Canvas<'_>, (left, top): (i32, i32), height: i32, most: f64) -> Drawn {
    const STEPS: i32 = 10;
    for step in 0..STEPS {
        let above = top + height * step / STEPS;
        let cell = [(left, above), (left + 11, top + height * (step + 1) / STEPS)];
        canvas.draw(&Rectangle::new(cell, GRID.mix(0.5).filled()))?;
        let strength = f64::from(STEPS - 1 - step) / f64::from(STEPS - 1);
        canvas.draw(&Rectangle::new(cell, series(0).mix(strength).filled()))?;
    }
    canvas.draw(&Text::new(format!("{:.0} %", 100.0 * most), (left + 17, top), label()))?;
    canvas.draw(&Text::new("0 %", (left + 17, top + height - 12), label()))
}

/// Labels at the sides of a heat map.
fn edges(canvas: &Canvas<'_>, (left, top): (i32, i32), side: i32) -> Drawn {
    let below = top + side + 6;
    canvas.draw(&Text::new("head", (left, below), label()))?;
    canvas.draw(&Text::new("predicted class", (left + side / 2 - 42, below + 16), label()))?;
    canvas.draw(&Text::new("tail", (left + side - 20, below), label()))?;
    canvas.draw(&Text::new("head", (left - 34, top + 4), label()))?;
    canvas.draw(&Text::new("true", (left - 34, top + side / 2 - 12), label()))?;
    canvas.draw(&Text::new("class", (left - 38, top + side / 2 + 3), label()))?;
    canvas.draw(&Text::new("tail", (left - 26, top + side - 18), label()))
}

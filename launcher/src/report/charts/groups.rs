//! Charts over groups of classes.

use super::{ChartError, FONT, GRID, INK, SIZE, chart, label, series, tick};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use protocol::evaluation::{CERTAIN, ReliabilityBin};

/// Bars of one group of classes, one for each setting.
#[derive(Clone, Debug)]
pub struct BarGroup {
    /// Name of the group.
    pub name: String,
    /// Its bars; none where the figure does not exist.
    pub bars: Vec<Option<Bar>>,
}

/// A bar.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Its height in percent.
    pub value: f64,
    /// Standard deviation, drawn as a whisker.
    pub deviation: Option<f64>,
}

/// Colours of all classes and of the groups, where there is one setting.
const ONE_SETTING: [usize; 4] = [3, 0, 1, 2];

/// Bars of accuracy by group, with a bar for each setting. A chart of one setting has its figures on the bars.
pub fn bars(groups: &[BarGroup], names: &[String]) -> Result<String, ChartError> {
    let settings = names.len().max(1);
    let title = match settings {
        1 => "Accuracy by group of classes".to_owned(),
        settings => format!("Accuracy by group of classes, of {settings} settings"),
    };
    let gap = 0.22;
    chart(&title, SIZE, |canvas| {
        let mut axes = ChartBuilder::on(canvas)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..108.0)?;
        axes.configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label())
            .y_labels(6)
            .y_desc("accuracy, %")
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        let width = (1.0 - gap) / settings as f64;
        let centred = label().pos(Pos::new(HPos::Center, VPos::Bottom));
        for (group, BarGroup { bars, .. }) in groups.iter().enumerate() {
            for (number, bar) in bars.iter().enumerate() {
                let Some(Bar { value, deviation }) = *bar else { continue };
                let left = group as f64 + gap / 2.0 + number as f64 * width;
                let (middle, right) = (left + width / 2.0, left + width * 0.94);
                // Without other settings, colours tell the groups apart, as in the charts beside it.
                let colour = if settings == 1 { series(ONE_SETTING[group % 4]) } else { series(number) };
                let shape = Rectangle::new([(left, 0.0), (right, value)], colour.filled());
                axes.draw_series(std::iter::once(shape))?;
                if let Some(deviation) = deviation {
                    let ends =
                        [(middle, (value - deviation).max(0.0)), (middle, (value + deviation).min(100.0))];
                    axes.draw_series(std::iter::once(PathElement::new(ends, INK.stroke_width(2))))?;
                    let cap = |(_, y): (f64, f64)| [(middle - width * 0.16, y), (middle + width * 0.16, y)];
                    axes.draw_series(ends.map(cap).map(|cap| PathElement::new(cap, INK.stroke_width(2))))?;
                } else if settings <= 2 {
                    let text = Text::new(format!("{value:.1}"), (middle, value + 1.0), centred.clone());
                    axes.draw_series(std::iter::once(text))?;
                }
            }
        }
        let plotting = axes.plotting_area();
        for (group, BarGroup { name, .. }) in groups.iter().enumerate() {
            let (x, y) = plotting.map_coordinate(&(group as f64 + 0.5, 0.0));
            let below = label().pos(Pos::new(HPos::Center, VPos::Top));
            canvas.draw(&Text::new(name.clone(), (x, y + FONT as i32 / 2), below))?;
        }
        Ok(())
    })
}

/// Accuracy against confidence in bins of equal width, beside the diagonal of perfect calibration. The strength of a bar's
/// colour shows its share of the images.
pub fn reliability(group: &str, bins: &[ReliabilityBin]) -> Result<String, ChartError> {
    let title = format!("Reliability diagram of {group}: accuracy against confidence");
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1).max(1) as f64;
    chart(&title, (420, 260), |canvas| {
        let mut axes = ChartBuilder::on(canvas)
            .margin(8)
            .margin_right(14)
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..100.0, 0.0..100.0)?;
        axes.configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label())
            .x_labels(6)
            .x_desc("confidence, %")
            .y_labels(6)
            .y_desc("accuracy, %")
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        let width = 100.0 / bins.len().max(1) as f64;
        for (number, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.images > 0) {
            let images = bin.images as f64;
            let accuracy = 100.0 * bin.correct as f64 / images;
            let left = number as f64 * width;
            let colour = series(0).mix(0.25 + 0.75 * (images / most).sqrt());
            let bar = Rectangle::new([(left, 0.0), (left + width * 0.94, accuracy)], colour.filled());
            axes.draw_series(std::iter::once(bar))?;
            let place = (100.0 * bin.confidence as f64 / CERTAIN as f64 / images, accuracy);
            axes.draw_series(std::iter::once(Circle::new(place, 3, series(1).filled())))?;
        }
        axes.draw_series(LineSeries::new([(0.0, 0.0), (100.0, 100.0)], INK.mix(0.6).stroke_width(1)))?;
        Ok(())
    })
}

//! Curves over the steps of runs.

use super::{ChartError, GRID, INK, SIZE, chart, label, series, tick};
use plotters::prelude::*;

/// Most points that are told apart at the size of a chart.
pub const MOST_POINTS: usize = 300;

/// Step and value of each point; values that are not finite are left out.
pub type Curve = Vec<(f64, f64)>;

/// What a chart of curves shows.
#[derive(Clone, Copy, Debug)]
pub struct CurveLook<'a> {
    /// Its content in words.
    pub title: &'a str,
    /// The quantity and unit of the values.
    pub quantity: &'a str,
    /// The values start at zero.
    pub from_zero: bool,
    /// Most points of a curve; neighbouring ones are averaged.
    pub most: usize,
}

/// Draws curves, in the colours of series in their order; none without a point.
pub fn curve(curves: &[Curve], look: CurveLook<'_>) -> Result<Option<String>, ChartError> {
    let curves: Vec<Curve> = curves.iter().map(|curve| thinned(curve, look.most)).collect();
    let Some(((first, last), (low, high))) = ranges(&curves, look) else { return Ok(None) };
    let drawn = chart(look.title, SIZE, |canvas| {
        let mut axes = ChartBuilder::on(canvas)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(first..last, low..high)?;
        axes.configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label())
            .x_labels(5)
            .y_labels(6)
            .x_desc("step")
            .y_desc(look.quantity)
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        for (number, points) in curves.iter().enumerate() {
            let width = if points.len() > MOST_POINTS / 3 { 1 } else { 2 };
            let line = LineSeries::new(points.iter().copied(), series(number).stroke_width(width));
            axes.draw_series(line)?;
            if let [point] = points[..] {
                axes.draw_series(std::iter::once(Circle::new(point, 3, series(number).filled())))?;
            }
        }
        Ok(())
    });
    drawn.map(Some)
}

/// Ranges of steps and values with some room above and below; none without a point.
fn ranges(curves: &[Curve], look: CurveLook<'_>) -> Option<((f64, f64), (f64, f64))> {
    let extremes = |of: fn(&(f64, f64)) -> f64| {
        curves.iter().flatten().map(of).fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        })
    };
    let ((first, last), (low, high)) = extremes(|point| point.0).zip(extremes(|point| point.1))?;
    let low = if look.from_zero { 0.0 } else { low };
    let room = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-12);
    Some(((first, last.max(first + 1.0)), (if look.from_zero { 0.0 } else { low - room }, high + room)))
}

/// The same curve with means of neighbouring points, if it has too many.
fn thinned(curve: &Curve, most: usize) -> Curve {
    let finite: Curve = curve.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let together = finite.len().div_ceil(most).max(1);
    let mean = |part: &[(f64, f64)]| {
        let number = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / number, sum.1 / number)
    };
    finite.chunks(together).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: CurveLook<'_> =
        CurveLook { title: "loss", quantity: "loss", from_zero: false, most: MOST_POINTS };

    #[test]
    fn a_long_curve_becomes_means() {
        let long: Curve = (0..100_000).map(|step| (f64::from(step), 1.0)).collect();
        let thin = thinned(&long, MOST_POINTS);
        assert!(thin.len() <= MOST_POINTS, "{}", thin.len());
        assert!(thin.iter().all(|point| point.1 == 1.0));
        let svg = curve(&[long.clone(), long], LOOK).unwrap().unwrap();
        assert!(svg.len() < 30_000, "{}", svg.len());
    }

    #[test]
    fn without_numbers_there_is_no_chart() {
        assert!(curve(&[vec![(1.0, f64::NAN)]], LOOK).unwrap().is_none());
        assert!(curve(&[vec![(1.0, 2.0)]], LOOK).unwrap().is_some());
        assert!(curve(&[vec![(1.0, 0.0), (2.0, 0.0)]], LOOK).unwrap().is_some());
    }
}

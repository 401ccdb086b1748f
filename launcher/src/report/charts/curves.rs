//! Curves over the steps of runs.

use super::{ChartError, GRID, INK, SIZE, chart, label, series, tick};
use plotters::prelude::*;

/// Most points of a curve: more are not told apart at this size. Further ones are averaged.
const MOST_POINTS: usize = 300;

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Step and value; values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// What a chart of curves shows.
#[derive(Clone, Copy, Debug)]
pub struct CurveLook<'a> {
    /// Its content in words.
    pub title: &'a str,
    /// The quantity and unit of the values.
    pub quantity: &'a str,
    /// The values start at zero.
    pub from_zero: bool,
}

/// Draws curves; none without a point.
pub fn curve(curves: &[Curve], look: CurveLook<'_>) -> Result<Option<String>, ChartError> {
    let curves: Vec<Curve> = curves.iter().map(thinned).filter(|curve| !curve.points.is_empty()).collect();
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let extremes = |of: fn(&(f64, f64)) -> f64| {
        points()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    if curves.is_empty() {
        return Ok(None);
    }
    let (first, last) = extremes(|point| point.0);
    let (low, high) = extremes(|point| point.1);
    let low = if look.from_zero { 0.0 } else { low };
    let room = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-12);
    let low = if look.from_zero { 0.0 } else { low - room };
    chart(look.title, SIZE, |canvas| {
        let mut axes = ChartBuilder::on(canvas)
            .margin(8)
            .margin_right(14)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(first..last.max(first + 1.0), low..high + room)?;
        axes.configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(label())
            .x_labels(6)
            .x_desc("step")
            .y_desc(look.quantity)
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        for (number, Curve { name, points }) in curves.iter().enumerate() {
            let colour = series(number);
            let width = if points.len() > MOST_POINTS / 3 { 1 } else { 2 };
            let drawn =
                axes.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(width)))?;
            if curves.len() > 1 {
                drawn
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
            }
            if let [point] = points[..] {
                axes.draw_series(std::iter::once(Circle::new(point, 3, colour.filled())))?;
            }
        }
        if curves.len() > 1 {
            axes.configure_series_labels()
                .label_font(label())
                .position(SeriesLabelPosition::UpperRight)
                .draw()?;
        }
        Ok(())
    })
    .map(Some)
}

/// The same curve with means of neighbouring points, if it has too many.
fn thinned(curve: &Curve) -> Curve {
    let finite: Vec<(f64, f64)> =
        curve.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let together = finite.len().div_ceil(MOST_POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let number = part.len() as f64;
        (
            part.iter().map(|point| point.0).sum::<f64>() / number,
            part.iter().map(|point| point.1).sum::<f64>() / number,
        )
    };
    Curve { name: curve.name.clone(), points: finite.chunks(together).map(mean).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: CurveLook<'_> = CurveLook { title: "loss", quantity: "loss", from_zero: false };

    fn of(points: Vec<(f64, f64)>) -> Curve {
        Curve { name: "<a>".into(), points }
    }

    #[test]
    fn a_long_curve_becomes_means() {
        let long = of((0..100_000).map(|step| (f64::from(step), 1.0)).collect());
        let thin = thinned(&long);
        assert!(thin.points.len() <= MOST_POINTS, "{}", thin.points.len());
        assert!(thin.points.iter().all(|point| point.1 == 1.0));
        let svg = curve(&[long.clone(), long], LOOK).unwrap().unwrap();
        assert!(svg.len() < 30_000, "{}", svg.len());
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("<a>"));
    }

    #[test]
    fn without_numbers_there_is_no_chart() {
        assert!(curve(&[of(vec![(1.0, f64::NAN)])], LOOK).unwrap().is_none());
        assert!(curve(&[of(vec![(1.0, 2.0)])], LOOK).unwrap().is_some());
        assert!(curve(&[of(vec![(1.0, 0.0), (2.0, 0.0)])], LOOK).unwrap().is_some());
    }
}

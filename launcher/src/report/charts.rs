//! Charts as SVG, for a page in light or dark colours.
//!
//! Colours are roles, which the style sheet of the page defines: a drawing uses one fixed colour for each role, and
//! [`finished`] replaces it with the variable of the style sheet.

mod classes;
mod curves;
mod groups;

pub use classes::{accuracy_against_size, size_heat_map};
pub use curves::{Curve, CurveLook, MOST_POINTS, curve};
pub use groups::{Bar, BarGroup, bars, reliability};

use plotters::coord::Shift;
use plotters::prelude::*;

/// Size of a chart in pixels. It is as wide as a phone, so that its text is readable there without zooming.
pub const SIZE: (u32, u32) = (420, 280);
/// Font size as the library counts it; its drawings write 12 pixels.
const FONT: u32 = 15;

/// Text and axes.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Lines of the grid.
const GRID: RGBColor = RGBColor(1, 1, 2);
/// Colours of series, in the order of their use.
const SERIES: [RGBColor; 6] = [
    RGBColor(1, 2, 1),
    RGBColor(1, 2, 2),
    RGBColor(1, 2, 3),
    RGBColor(1, 2, 4),
    RGBColor(1, 2, 5),
    RGBColor(1, 2, 6),
];

/// A chart that cannot be drawn, which is a mistake of this program.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the chart `{title}`: {reason}")]
pub struct ChartError {
    title: String,
    reason: String,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The colour of a series.
fn series(number: usize) -> RGBColor {
    SERIES[number % SERIES.len()]
}

/// Draws a chart whose content `title` states in words, for readers who do not see it.
fn chart(
    title: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<String, ChartError> {
    let mut svg = String::new();
    let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = draw(&canvas).and_then(|()| canvas.present());
    drop(canvas);
    drawn.map_err(|error| ChartError { title: title.to_owned(), reason: error.to_string() })?;
    Ok(finished(&svg, title))
}

/// Names the drawing for screen readers, lets it scale, and replaces colours by roles.
fn finished(svg: &str, title: &str) -> String {
    let label = escaped(title);
    let mut svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1);
    for attribute in [" width=\"", " height=\""] {
        remove_first_attribute(&mut svg, attribute);
    }
    let colour = |RGBColor(red, green, blue): RGBColor| format!("#{red:02X}{green:02X}{blue:02X}");
    svg = svg.replace(&colour(INK), "var(--ink)").replace(&colour(GRID), "var(--grid)");
    for (number, role) in SERIES.into_iter().enumerate() {
        svg = svg.replace(&colour(role), &format!("var(--series-{number})"));
    }
    svg
}

/// Removes an attribute of the first element.
fn remove_first_attribute(svg: &mut String, attribute: &str) {
    if let Some(start) = svg.find(attribute)
        && let Some(length) = svg[start + attribute.len()..].find('"')
    {
        svg.replace_range(start..=start + attribute.len() + length, "");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text of labels.
fn label() -> TextStyle<'static> {
    ("sans-serif", FONT).into_font().color(&INK)
}

/// A number on an axis without needless digits.
fn tick(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.0}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if size >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 0.1 {
        trimmed(&format!("{value:.2}"))
    } else if size >= 0.001 {
        trimmed(&format!("{value:.4}"))
    } else {
        format!("{value:.0e}")
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_no_needless_digits() {
        let ticks = [0.0, 0.5, 3.25, 40.0, 25_000.0, 3e6, 0.01, 2e-5].map(tick);
        assert_eq!(ticks, ["0", "0.5", "3.25", "40", "25k", "3M", "0.01", "2e-5"]);
    }

    #[test]
    fn a_chart_scales_and_has_the_colours_of_the_page() {
        let svg = chart("a \"<b>\"", SIZE, |canvas| {
            canvas.draw(&Circle::new((10, 10), 3, series(1).filled()))?;
            canvas.draw(&Text::new("x < y", (5, 5), label()))
        })
        .unwrap();
        assert!(
            svg.starts_with(
                "<svg role=\"img\" aria-label=\"a &quot;&lt;b&gt;&quot;\" viewBox=\"0 0 420 280\""
            ),
            "{svg}"
        );
        assert!(svg.contains("var(--series-1)") && svg.contains("var(--ink)") && !svg.contains('#'), "{svg}");
        assert!(svg.contains("x &lt; y"), "{svg}");
    }
}

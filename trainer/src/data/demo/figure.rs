//! The geometry of a figure: how far a point is from the outline of a shape, and how much ink a texture puts there.
//!
//! A figure has a frame of its own: its centre is the origin, y points down, and it reaches to about 1 from
//! the origin. Distances are negative inside. They are exact near the outline from outside, which is where
//! edges are softened; deep inside a union of parts they may be too small in size, which no one sees.

use super::composition::{Outline, Texture};

type Point = [f32; 2];

/// No shape reaches farther than this from its origin.
pub(super) const REACH: f32 = 1.15;

const TRIANGLE: [Point; 3] = [[0.0, -1.05], [0.9, 0.68], [-0.9, 0.68]];
const ARROW: [Point; 7] =
    [[1.1, 0.0], [0.12, 0.82], [0.12, 0.3], [-1.0, 0.3], [-1.0, -0.3], [0.12, -0.3], [0.12, -0.82]];
const STAR: [Point; 10] = [
    [0.0, -1.12],
    [0.276, -0.38],
    [1.065, -0.346],
    [0.447, 0.145],
    [0.658, 0.906],
    [0.0, 0.47],
    [-0.658, 0.906],
    [-0.447, 0.145],
    [-1.065, -0.346],
    [-0.276, -0.38],
];
const HEART_BELOW: [Point; 6] =
    [[0.0, 0.95], [0.822, 0.034], [0.45, -0.3], [0.0, -0.45], [-0.45, -0.3], [-0.822, 0.034]];
const HEART_LOBE: f32 = 0.5;
const DROP_ABOVE: [Point; 4] = [[0.0, -1.1], [0.541, 0.04], [0.0, 0.3], [-0.541, 0.04]];
const DROP_BELOW: f32 = 0.6;
const PETALS: [Point; 5] = [[0.0, -0.66], [0.628, -0.204], [0.388, 0.534], [-0.388, 0.534], [-0.628, -0.204]];
const PETAL: f32 = 0.39;

/// Width of a stripe or a square, distance between rows of dots, radius of a dot, width of a rim.
const STRIPE: f32 = 0.3;
const CHECK: f32 = 0.44;
const DOT_ROWS: f32 = 0.62;
const DOT: f32 = 0.19;
const RIM: f32 = 0.18;

/// Distance of `p` from the outline of `shape`, negative inside.
pub(super) fn distance(shape: Outline, p: Point) -> f32 {
    match shape {
        Outline::Circle => circle(p, [0.0, 0.0], 0.92),
        Outline::Square => rectangle(p, [0.78, 0.78]),
        Outline::Triangle => polygon(p, &TRIANGLE),
        Outline::Star => polygon(p, &STAR),
        Outline::Cross => rectangle(p, [1.0, 0.33]).min(rectangle(p, [0.33, 1.0])),
        Outline::Heart => {
            let lobe = circle([p[0].abs(), p[1]], [0.45, -0.3], HEART_LOBE);
            lobe.min(polygon(p, &HEART_BELOW))
        }
        Outline::Ring => circle(p, [0.0, 0.0], 0.7).abs() - 0.29,
        Outline::Moon => moon(p),
        Outline::Arrow => polygon(p, &ARROW),
        Outline::Bar => rectangle(p, [1.08, 0.36]),
        Outline::Flower => {
            PETALS.iter().map(|&petal| circle(p, petal, PETAL)).fold(circle(p, [0.0, 0.0], 0.42), f32::min)
        }
        Outline::Drop => circle(p, [0.0, 0.3], DROP_BELOW).min(polygon(p, &DROP_ABOVE)),
    }
}

/// Share of ink at `p` in the frame of the texture, where the outline is at `distance` and a pixel is `pixel` wide.
pub(super) fn ink(texture: Texture, p: Point, distance: f32, pixel: f32) -> f32 {
    match texture {
        Texture::Plain | Texture::Glowing => 0.0,
        Texture::Striped => covered(band(p[0], STRIPE), pixel),
        Texture::Checkered => {
            let (column, row) = (covered(band(p[0], CHECK), pixel), covered(band(p[1], CHECK), pixel));
            column + row - 2.0 * column * row
        }
        Texture::Dotted => {
            let row = (p[1] / DOT_ROWS).floor();
            let shift = if row.rem_euclid(2.0) < 0.5 { 0.0 } else { 0.5 };
            let along = p[0] / DOT_ROWS + shift;
            let from_centre = [(along - along.floor() - 0.5) * DOT_ROWS, p[1] - (row + 0.5) * DOT_ROWS];
            covered(circle(from_centre, [0.0, 0.0], DOT), pixel)
        }
        Texture::Bordered => covered(-(distance + RIM), pixel),
        Texture::Halved => covered(p[0], pixel),
    }
}

/// Share of a pixel that lies inside an edge which is `distance` away from its centre.
pub(super) fn covered(distance: f32, pixel: f32) -> f32 {
    (0.5 - distance / pixel).clamp(0.0, 1.0)
}

/// Distance from the nearest edge of bands of the given width with gaps of the same width.
fn band(x: f32, width: f32) -> f32 {
    let at = x / (2.0 * width);
    ((at - at.floor() - 0.5).abs() - 0.25) * 2.0 * width
}

fn circle(p: Point, centre: Point, radius: f32) -> f32 {
    length([p[0] - centre[0], p[1] - centre[1]]) - radius
}

fn rectangle(p: Point, half: Point) -> f32 {
    let [x, y] = [p[0].abs() - half[0], p[1].abs() - half[1]];
    length([x.max(0.0), y.max(0.0)]) + x.max(y).min(0.0)
}

/// A disk less another. The outline is the part of both circles to the left of the horns, where they cross.
fn moon([x, y]: Point) -> f32 {
    const DISK: (Point, f32) = ([0.2, 0.0], 0.98);
    const BITE: (Point, f32) = ([0.68, 0.0], 0.74);
    const HORN: Point = [0.87, 0.7152];
    let p = [x, y.abs()];
    let to_arc = |(centre, radius): (Point, f32)| {
        let from_centre = length([p[0] - centre[0], p[1] - centre[1]]);
        // The point of the circle nearest to p, compared with the horns without dividing.
        let on_outline = (p[0] - centre[0]) * radius <= (HORN[0] - centre[0]) * from_centre;
        (from_centre - radius, if on_outline { (from_centre - radius).abs() } else { f32::INFINITY })
    };
    let ((disk, disk_arc), (bite, bite_arc)) = (to_arc(DISK), to_arc(BITE));
    let nearest = disk_arc.min(bite_arc).min(length([p[0] - HORN[0], p[1] - HORN[1]]));
    if disk < 0.0 && bite > 0.0 { -nearest } else { nearest }
}

/// Distance from the nearest side; inside if a ray to the right of `p` crosses an odd number of sides.
fn polygon(p: Point, corners: &[Point]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut from = corners[corners.len() - 1];
    for &to in corners {
        let side = [to[0] - from[0], to[1] - from[1]];
        let away = [p[0] - from[0], p[1] - from[1]];
        let along = (dot(away, side) / dot(side, side)).clamp(0.0, 1.0);
        let off = [away[0] - along * side[0], away[1] - along * side[1]];
        nearest = nearest.min(dot(off, off));
        if (from[1] > p[1]) != (to[1] > p[1]) {
            let to_the_right = away[0] * side[1] < away[1] * side[0];
            inside ^= to_the_right == (side[1] > 0.0);
        }
        from = to;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

fn length(p: Point) -> f32 {
    dot(p, p).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::composition::{COMPOSITIONS, Composition};
    use super::*;
    use std::collections::HashMap;

    fn shapes() -> HashMap<&'static str, Outline> {
        (0..COMPOSITIONS).filter_map(Composition::from_id).map(|one| (one.words()[2], one.shape())).collect()
    }

    fn grid() -> impl Iterator<Item = Point> {
        (-60..=60).flat_map(|y| (-60..=60).map(move |x| [x as f32 / 40.0, y as f32 / 40.0]))
    }

    #[test]
    fn shapes_stay_within_reach_and_are_neither_specks_nor_disks() {
        for (name, shape) in shapes() {
            let area = grid().filter(|&p| distance(shape, p) < 0.0).count() as f32 / 1600.0;
            assert!((1.1..2.8).contains(&area), "{name} has area {area}");
            for p in grid().filter(|&p| length(p) > REACH) {
                assert!(distance(shape, p) > 0.0, "{name} reaches {p:?}");
            }
        }
    }

    #[test]
    fn distances_from_outside_are_those_to_the_nearest_inner_point() {
        for (name, shape) in shapes() {
            let inner: Vec<Point> = grid().filter(|&p| distance(shape, p) < 0.0).collect();
            for p in grid().step_by(97).filter(|&p| distance(shape, p) > 0.0) {
                let nearest =
                    inner.iter().map(|q| length([p[0] - q[0], p[1] - q[1]])).fold(f32::INFINITY, f32::min);
                let found = distance(shape, p);
                // The nearest inner point of the grid is a little farther than the outline, more so at a tip.
                assert!(
                    (nearest - 0.06..nearest + 1e-3).contains(&found),
                    "{name} {p:?}: {found}, {nearest}"
                );
            }
        }
    }

    #[test]
    fn every_pattern_is_part_ink_and_part_colour() {
        for (texture, low, high) in [
            (Texture::Plain, 0.0, 0.0),
            (Texture::Glowing, 0.0, 0.0),
            (Texture::Striped, 0.45, 0.55),
            (Texture::Checkered, 0.45, 0.55),
            (Texture::Dotted, 0.2, 0.4),
            (Texture::Bordered, 0.3, 0.4),
            (Texture::Halved, 0.45, 0.55),
        ] {
            let inside: Vec<f32> = grid()
                .filter(|&p| distance(Outline::Circle, p) < 0.0)
                .map(|p| ink(texture, p, distance(Outline::Circle, p), 0.1))
                .collect();
            let share = inside.iter().sum::<f32>() / inside.len() as f32;
            assert!((low..=high).contains(&share), "{texture:?}: {share}");
            assert!(inside.iter().all(|one| (0.0..=1.0).contains(one)));
        }
    }
}

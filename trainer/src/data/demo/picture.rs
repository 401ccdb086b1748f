//! Draws one picture: a background, clutter behind, the figure, clutter before it, light, blur and noise.
//!
//! [`DrawingStyle`] holds everything that differs between the drawings for pretraining and the pictures of the demo.

use super::composition::{Composition, FigureColour, Outline, Texture};
use super::draws::PictureDraws;
use super::figure::{REACH, covered, distance, ink};
use crate::data::decode::RgbImage;

/// Width and height of every picture.
pub const SIDE: usize = 32;

type Rgb = [f32; 3];
type Canvas = [Rgb; SIDE * SIDE];

/// How pictures are drawn. Ranges are drawn from uniformly; lengths are in pixels.
pub(super) struct DrawingStyle {
    /// Tangent of half of the largest rotation.
    pub tilt: f32,
    /// Half of the figure's size.
    pub size: [f32; 2],
    /// Ratio of the figure's width to its height is up to this or its inverse.
    pub stretch: f32,
    /// How far the figure may reach beyond the border.
    pub cut: f32,
    /// Odds of light ink in place of dark, for the colours that allow it.
    pub light_ink: f32,
    /// Change of each channel of the figure's colour, at most.
    pub off_colour: f32,
    /// Saturation of the background, at most.
    pub tint: f32,
    /// Change of brightness over the background: blotches of about a third of its size.
    pub blotches: f32,
    /// Pieces of clutter behind the figure, fewest and most.
    pub behind: [usize; 2],
    /// Odds of a small piece of clutter before the figure.
    pub before: f32,
    /// Change of brightness from one side of the picture to the other, at most.
    pub light: f32,
    /// Share of its neighbours that a pixel gets at each side.
    pub blur: [f32; 2],
    /// Red and blue are exchanged, as in infrared photographs.
    pub false_colour: bool,
    /// Standard deviation of the noise, in parts of full brightness.
    pub noise: [f32; 2],
}

/// The drawings for pretraining: clean and plain.
pub(super) const PRETRAINING: DrawingStyle = DrawingStyle {
    tilt: 0.414,
    size: [8.5, 12.0],
    stretch: 1.15,
    cut: 0.5,
    light_ink: 0.3,
    off_colour: 0.05,
    tint: 0.25,
    blotches: 0.0,
    behind: [0, 2],
    before: 0.0,
    light: 0.2,
    blur: [0.0, 0.1],
    false_colour: false,
    noise: [0.0, 0.04],
};

/// Pictures with smaller and more turned figures, all of it more tinted, blotched, cluttered and noisy.
pub(super) const CLUTTERED: DrawingStyle = DrawingStyle {
    tilt: 0.577,
    size: [6.5, 10.5],
    stretch: 1.3,
    cut: 1.5,
    light_ink: 0.5,
    off_colour: 0.06,
    tint: 0.45,
    blotches: 0.3,
    behind: [2, 5],
    before: 0.7,
    light: 0.5,
    blur: [0.0, 0.2],
    false_colour: false,
    noise: [0.03, 0.1],
};

/// Cluttered pictures in which red and blue are exchanged.
pub(super) const FALSE_COLOUR: DrawingStyle = DrawingStyle { false_colour: true, ..CLUTTERED };

/// Draws a picture of `composition`. Which picture is decided by `draws` alone.
pub(super) fn picture(composition: Composition, look: &DrawingStyle, draws: &mut PictureDraws) -> RgbImage {
    let paint = Paint::draw(composition, look, draws);
    let figure = Figure::draw(composition, look, draws);
    let mut canvas = background(&paint, look, draws);
    let [fewest, most] = look.behind;
    for _ in 0..fewest + draws.below(most - fewest + 1) {
        let at = [draws.between([0.0, SIDE as f32]), draws.between([0.0, SIDE as f32])];
        let size = draws.between([2.0, 5.5]);
        clutter(&mut canvas, at, size, &paint, draws);
    }
    figure.paint(&mut canvas, &paint);
    if draws.chance(look.before) {
        let [x, y] = draws.direction();
        let reach = figure.size * draws.between([0.5, 1.0]);
        let size = draws.between([1.5, 2.5]);
        clutter(
            &mut canvas,
            [figure.centre[0] + reach * x, figure.centre[1] + reach * y],
            size,
            &paint,
            draws,
        );
    }
    light(&mut canvas, look, draws);
    let blur = draws.between(look.blur);
    soften(&mut canvas, blur);
    if look.false_colour {
        for pixel in &mut canvas {
            pixel.swap(0, 2);
        }
    }
    let noise = draws.between(look.noise);
    develop(&canvas, noise, draws)
}

/// The colours of a picture.
struct Paint {
    /// Of the figure.
    figure: Rgb,
    /// Of its pattern.
    ink: Rgb,
    /// Of the background at its two ends.
    ground: [Rgb; 2],
    /// Saturation of the background and the clutter, at most.
    tint: f32,
}

impl Paint {
    fn draw(composition: Composition, look: &DrawingStyle, draws: &mut PictureDraws) -> Self {
        let mut figure = pigment(composition.colour());
        for channel in &mut figure {
            *channel = (*channel + draws.between([-look.off_colour, look.off_colour])).clamp(0.0, 1.0);
        }
        let light_ink = allows_light_ink(composition.colour()) && draws.chance(look.light_ink);
        let ink = if light_ink { [0.96, 0.96, 0.94] } else { [0.07, 0.07, 0.09] };
        let inked = !matches!(composition.texture(), Texture::Plain | Texture::Glowing);
        let mut shade = || ground(figure, inked.then_some(ink), look.tint, draws);
        let ground = [shade(), shade()];
        Self { figure, ink, ground, tint: look.tint }
    }
}

pub(super) fn pigment(colour: FigureColour) -> Rgb {
    match colour {
        FigureColour::Red => [0.86, 0.11, 0.12],
        FigureColour::Orange => [0.98, 0.52, 0.05],
        FigureColour::Yellow => [0.97, 0.88, 0.12],
        FigureColour::Green => [0.12, 0.64, 0.20],
        FigureColour::Cyan => [0.15, 0.83, 0.88],
        FigureColour::Blue => [0.13, 0.26, 0.88],
        FigureColour::Purple => [0.52, 0.14, 0.70],
        FigureColour::Pink => [0.99, 0.55, 0.76],
        FigureColour::Brown => [0.45, 0.26, 0.11],
        FigureColour::White => [0.97, 0.97, 0.97],
    }
}

/// Dark colours show a light pattern as well as a dark one.
fn allows_light_ink(colour: FigureColour) -> bool {
    matches!(
        colour,
        FigureColour::Red
            | FigureColour::Green
            | FigureColour::Blue
            | FigureColour::Purple
            | FigureColour::Brown
    )
}

/// A muted colour that stands apart from the figure and, where it has a pattern, from the ink.
fn ground(figure: Rgb, ink: Option<Rgb>, tint: f32, draws: &mut PictureDraws) -> Rgb {
    /// Distance in RGB below which a figure is hard to tell from what is behind it.
    const APART: f32 = 0.45;
    let mut best = ([0.5; 3], 0.0);
    for _ in 0..12 {
        let shade = muted(tint, draws);
        let apart = ink.map_or(f32::INFINITY, |ink| contrast(shade, ink)).min(contrast(shade, figure));
        if apart >= APART {
            return shade;
        }
        if apart > best.1 {
            best = (shade, apart);
        }
    }
    best.0
}

fn muted(tint: f32, draws: &mut PictureDraws) -> Rgb {
    let (value, saturation) = (draws.between([0.1, 0.92]), draws.between([0.0, tint]));
    std::array::from_fn(|_| value * (1.0 - saturation * draws.unit()))
}

fn contrast(a: Rgb, b: Rgb) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// A shape with a place, a size and a pose.
struct Figure {
    shape: Outline,
    texture: Texture,
    centre: [f32; 2],
    size: f32,
    /// Rows of the matrix from pixels to the figure's frame.
    frame: [[f32; 2]; 2],
    /// Axis and offset of the texture in the figure's frame.
    grain: [f32; 2],
    phase: [f32; 2],
}

impl Figure {
    fn draw(composition: Composition, look: &DrawingStyle, draws: &mut PictureDraws) -> Self {
        let size = draws.between(look.size);
        let stretch = draws.between([1.0, look.stretch]).sqrt();
        let stretch = if draws.chance(0.5) { stretch } else { 1.0 / stretch };
        let [cos, sin] = draws.tilt(look.tilt);
        let (across, along) = (1.0 / (size * stretch), stretch / size);
        let slack = (SIDE as f32 / 2.0 - size + look.cut).max(0.0);
        let mut place = || SIDE as f32 / 2.0 + draws.between([-slack, slack]);
        let centre = [place(), place()];
        let grain = draws.direction();
        let halved = composition.texture() == Texture::Halved;
        let mut phase = || if halved { 0.0 } else { draws.between([0.0, 2.0]) };
        Self {
            shape: composition.shape(),
            texture: composition.texture(),
            centre,
            size,
            frame: [[across * cos, across * sin], [-along * sin, along * cos]],
            grain,
            phase: [phase(), phase()],
        }
    }

    fn paint(&self, canvas: &mut Canvas, paint: &Paint) {
        /// How far light reaches beyond a glowing figure, in its frame.
        const GLOW: f32 = 0.75;
        let reach = if self.texture == Texture::Glowing { REACH + GLOW } else { REACH + 0.15 };
        let pixel = 1.0 / self.size;
        for_each_near(canvas, self.centre, reach * self.size * 1.2, |colour, offset| {
            let p = self.frame.map(|row| row[0] * offset[0] + row[1] * offset[1]);
            if p[0] * p[0] + p[1] * p[1] > reach * reach {
                return;
            }
            let outline = distance(self.shape, p);
            if self.texture == Texture::Glowing && outline > 0.0 {
                let left = (1.0 - outline / GLOW).max(0.0);
                mix(colour, paint.figure, 0.6 * left * left);
            }
            let inside = covered(outline, pixel);
            if inside > 0.0 {
                let [x, y] = self.grain;
                let grain = [x * p[0] + y * p[1] + self.phase[0], x * p[1] - y * p[0] + self.phase[1]];
                let mut here = paint.figure;
                mix(&mut here, paint.ink, ink(self.texture, grain, outline, pixel));
                mix(colour, here, inside);
            }
        });
    }
}

/// The two ends of the background and what is between, with blotches where the look has them.
fn background(paint: &Paint, look: &DrawingStyle, draws: &mut PictureDraws) -> Canvas {
    /// Blotches are drawn at the corners of a grid of so many cells a side and blended between.
    const CELLS: usize = 4;
    let across = draws.direction();
    let blotches: [[f32; CELLS + 1]; CELLS + 1] =
        std::array::from_fn(|_| std::array::from_fn(|_| draws.between([-look.blotches, look.blotches])));
    let [from, to] = paint.ground;
    std::array::from_fn(|at| {
        let [x, y] = [(at % SIDE) as f32 + 0.5, (at / SIDE) as f32 + 0.5].map(|v| v / SIDE as f32);
        let share = (0.5 + 0.7 * (across[0] * (x - 0.5) + across[1] * (y - 0.5))).clamp(0.0, 1.0);
        let mut colour = from;
        mix(&mut colour, to, share);
        if look.blotches > 0.0 {
            let [u, v] = [x * CELLS as f32, y * CELLS as f32];
            let (column, row) = (u as usize, v as usize);
            let [u, v] = [u - column as f32, v - row as f32];
            let blend = |r: usize| blotches[r][column] * (1.0 - u) + blotches[r][column + 1] * u;
            let change = 1.0 + blend(row) * (1.0 - v) + blend(row + 1) * v;
            colour = colour.map(|channel| channel * change);
        }
        colour
    })
}

/// A small shape of a muted colour.
fn clutter(canvas: &mut Canvas, at: [f32; 2], size: f32, paint: &Paint, draws: &mut PictureDraws) {
    let shape = draws.one_of(&[Outline::Circle, Outline::Square, Outline::Triangle, Outline::Bar]);
    let colour = muted(paint.tint, draws);
    let [cos, sin] = draws.direction();
    let pixel = 1.0 / size;
    for_each_near(canvas, at, size * 1.3, |under, [x, y]| {
        let p = [(cos * x + sin * y) * pixel, (cos * y - sin * x) * pixel];
        mix(under, colour, covered(distance(shape, p), pixel));
    });
}

/// Calls `each` with the pixels within a square around `centre` and where they are from there.
fn for_each_near(
    canvas: &mut Canvas,
    centre: [f32; 2],
    reach: f32,
    mut each: impl FnMut(&mut Rgb, [f32; 2]),
) {
    // A cast of a negative number to an unsigned one gives 0.
    let range = |at: f32| ((at - reach) as usize)..((at + reach + 1.0) as usize).min(SIDE);
    for y in range(centre[1]) {
        for x in range(centre[0]) {
            each(&mut canvas[y * SIDE + x], [x as f32 + 0.5 - centre[0], y as f32 + 0.5 - centre[1]]);
        }
    }
}

/// Brighter towards one side, darker towards the other.
fn light(canvas: &mut Canvas, look: &DrawingStyle, draws: &mut PictureDraws) {
    let strength = draws.between([0.0, look.light]);
    let [x, y] = draws.direction().map(|part| part * strength / SIDE as f32);
    let half = SIDE as f32 / 2.0;
    for (row, pixels) in canvas.chunks_exact_mut(SIDE).enumerate() {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            let change = 1.0 + x * (column as f32 - half) + y * (row as f32 - half);
            *pixel = pixel.map(|channel| channel * change);
        }
    }
}

/// Gives each pixel the share `blur` of its neighbours, first along rows, then along columns.
fn soften(canvas: &mut Canvas, blur: f32) {
    for line in 0..SIDE {
        blend_line(canvas, line * SIDE, 1, blur);
    }
    for line in 0..SIDE {
        blend_line(canvas, line, SIDE, blur);
    }
}

fn blend_line(canvas: &mut Canvas, start: usize, step: usize, blur: f32) {
    let mut before = canvas[start];
    for i in 0..SIDE {
        let at = start + i * step;
        let here = canvas[at];
        let after = if i + 1 < SIDE { canvas[at + step] } else { here };
        canvas[at] = std::array::from_fn(|c| here[c] * (1.0 - 2.0 * blur) + blur * (before[c] + after[c]));
        before = here;
    }
}

/// Adds noise of the given standard deviation and rounds to bytes.
fn develop(canvas: &Canvas, noise: f32, draws: &mut PictureDraws) -> RgbImage {
    // The sum of two uniform bytes has the standard deviation 104.5.
    let scale = noise * 255.0 / 104.5;
    let mut grain = [0; 6 * SIDE * SIDE];
    draws.fill(&mut grain);
    let pixels = canvas
        .as_flattened()
        .iter()
        .zip(grain.chunks_exact(2))
        .map(|(channel, pair)| {
            let speck = f32::from(pair[0]) + f32::from(pair[1]) - 255.0;
            (channel * 255.0 + speck * scale + 0.5) as u8
        })
        .collect();
    RgbImage { width: SIDE as u32, height: SIDE as u32, pixels }
}

fn mix(colour: &mut Rgb, other: Rgb, share: f32) {
    for (channel, other) in colour.iter_mut().zip(other) {
        *channel += share * (other - *channel);
    }
}

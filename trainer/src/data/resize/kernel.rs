//! The weights of a filter at every place of one direction.

use super::{Axis, Extent, Filter, PRECISION};

/// Binary places of a weight of 16 bits.
pub(super) const WEIGHT_PLACES: u32 = 14;

/// The form of a weight.
pub(super) trait Weight: Copy + Default {
    /// Whether places that are the source's own pixels have no weights.
    const LEAVES_OUT_IDENTITY: bool;

    /// The nearest one of this form.
    fn nearest(exact: f64) -> Self;
}

/// Of [`PRECISION`] binary places.
impl Weight for i32 {
    const LEAVES_OUT_IDENTITY: bool = true;

    fn nearest(exact: f64) -> Self {
        let scaled = exact * f64::from(1 << PRECISION);
        (if exact < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
    }
}

/// Of [`WEIGHT_PLACES`] binary places. At the edge of an image a weight can be larger than one.
impl Weight for i16 {
    const LEAVES_OUT_IDENTITY: bool = false;

    fn nearest(exact: f64) -> Self {
        let scaled = exact * f64::from(1 << WEIGHT_PLACES);
        (if exact < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i16
    }
}

/// The weights of every wanted place along one direction.
#[derive(Debug, Default)]
pub(super) struct Kernel<W> {
    /// The source, axis and filter of the weights.
    made_for: Option<(Extent, Axis, Filter)>,
    /// First source pixel and number of weights of each place. Empty: the places are the source's own.
    places: Vec<(usize, usize)>,
    weights: Vec<W>,
    /// Scratch space for the weights of one position.
    taps: usize,
    exact: Vec<f64>,
}

impl<W: Weight> Kernel<W> {
    /// Computes the weights, unless those of the previous image can be reused.
    pub(super) fn prepare(&mut self, source: Extent, axis: Axis, filter: Filter) {
        if self.made_for == Some((source, axis, filter)) {
            return;
        }
        self.made_for = Some((source, axis, filter));
        self.places.clear();
        self.weights.clear();
        if W::LEAVES_OUT_IDENTITY && source == Extent::of(axis.size as usize) {
            return;
        }
        let scale = source.len / f64::from(axis.size);
        let stretch = scale.max(1.0);
        let support = filter.radius() * stretch;
        self.taps = support.ceil() as usize * 2 + 1;
        self.weights.resize(self.taps * axis.span.len as usize, W::default());
        let inverse = 1.0 / stretch;
        let places = axis.span.start..axis.span.start.saturating_add(axis.span.len);
        for (place, weights) in places.zip(self.weights.chunks_exact_mut(self.taps)) {
            let centre = source.offset + (f64::from(place) + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source.pixels);
            let distance = |x: usize| (x as f64 - centre + 0.5) * inverse;
            self.exact.clear();
            self.exact.extend((start..end).map(|x| filter.at(distance(x))));
            let sum: f64 = self.exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&self.exact) {
                *weight = W::nearest(if sum == 0.0 { *exact } else { exact / sum });
            }
            self.places.push((start, end.saturating_sub(start)));
        }
    }

    /// Whether the places are the source's own pixels.
    pub(super) fn is_identity(&self) -> bool {
        self.places.is_empty()
    }

    /// The largest number of weights of a place.
    pub(super) fn most(&self) -> usize {
        self.places.iter().map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// Number of wanted places.
    pub(super) fn len(&self) -> usize {
        self.made_for.map_or(0, |(_, axis, _)| axis.span.len as usize)
    }

    /// The first source pixel of a wanted place, and the weights from there.
    pub(super) fn weights(&self, place: usize) -> (usize, &[W]) {
        let (start, count) = self.places[place];
        (start, &self.weights[place * self.taps..][..count])
    }

    /// The source pixels that the wanted places draw on: the first one, and the one after the last.
    pub(super) fn reach(&self) -> (usize, usize) {
        match (self.places.first(), self.places.last(), self.made_for) {
            (Some(first), Some(last), _) => (first.0, last.0 + last.1),
            (_, _, Some((_, axis, _))) => {
                let start = axis.span.start as usize;
                (start, start + axis.span.len as usize)
            }
            _ => (0, 0),
        }
    }
}

/// The source pixels that a part of a result draws on: the first one, and the one after the last.
pub(in crate::data) fn reach(source: u32, axis: Axis, filter: Filter) -> (u32, u32) {
    let source = Extent::of(source as usize);
    let end = axis.span.start.saturating_add(axis.span.len);
    if source == Extent::of(axis.size as usize) {
        return (axis.span.start, end);
    }
    let scale = source.len / f64::from(axis.size);
    let support = filter.radius() * scale.max(1.0);
    let centre = |place: u32| source.offset + (f64::from(place) + 0.5) * scale;
    let start = (centre(axis.span.start) - support + 0.5).max(0.0) as u32;
    let end = (centre(end.saturating_sub(1)) + support + 0.5) as u32;
    (start, end.min(source.pixels as u32))
}

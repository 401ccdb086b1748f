//! Square-root order: at each position a class with probability proportional to the square root of its image
//! count, then one of its images, uniform, both with replacement (Mahajan et al., "Exploring the limits of
//! weakly supervised pretraining", ECCV 2018; Kang et al., ICLR 2020, equation 1 with q = 1/2).

use super::EpochOrder;
use super::class_index::ClassIndex;
use super::key::{Key, KeyPurpose, split};

/// Independent keyed draws of a class, by an alias table, and an image.
#[derive(Debug)]
pub(super) struct SquareRoot {
    index: ClassIndex,
    table: AliasTable,
    samples: u64,
    key: Key,
}

impl SquareRoot {
    pub(super) fn new(index: ClassIndex, samples: u64, seed: u64) -> Self {
        let table = AliasTable::new(index.iter().map(|row| (row.count as f64).sqrt()).collect());
        Self { index, table, samples, key: Key::new(seed, KeyPurpose::Draw) }
    }
}

impl EpochOrder for SquareRoot {
    fn len(&self, _epoch: u64) -> u64 {
        self.samples
    }

    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let key = self.key.with(epoch);
        move |position| {
            let bits = key.with(position).bits();
            self.index.row(self.table.draw(bits)).draw(bits)
        }
    }

    fn sample(&self, place: u64) -> u64 {
        self.index.sample(place)
    }

    fn class_weight(&self, _epoch: u64, count: u32) -> f64 {
        f64::from(count).sqrt()
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + size_of_val(&*self.table.cells)
    }
}

/// Draws from a fixed distribution in constant time (Walker 1974, built by Vose's method, 1991).
///
/// Every column has the same width and is shared by at most two outcomes: its own, up to `share`, and
/// `other`.
#[derive(Debug)]
struct AliasTable {
    cells: Box<[Cell]>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// The part of the column that is its own, in units of 2^-32.
    share: u32,
    other: u32,
}

impl AliasTable {
    /// `weights` are positive and at most 2^32 many. Only additions, multiplications and divisions happen, in
    /// a fixed order, so the table is the same on every machine.
    fn new(mut weights: Vec<f64>) -> Self {
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        for weight in &mut weights {
            *weight *= scale;
        }
        // What no smaller outcome fills up keeps its whole column.
        let mut cells: Box<[Cell]> =
            (0..weights.len() as u32).map(|own| Cell { share: 0, other: own }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| weights[i as usize] < 1.0);
        while let (Some(&donor), Some(receiver)) = (large.last(), small.pop()) {
            let own = weights[receiver as usize];
            cells[receiver as usize] = Cell { share: (own * 4_294_967_296.0) as u32, other: donor };
            let left = weights[donor as usize] - (1.0 - own);
            weights[donor as usize] = left;
            if left < 1.0 {
                large.pop();
                small.push(donor);
            }
        }
        Self { cells }
    }

    fn draw(&self, bits: u64) -> u64 {
        let (column, fraction) = split(bits, self.cells.len() as u64);
        let cell = self.cells[column as usize];
        if fraction >> 32 < u64::from(cell.share) { column } else { u64::from(cell.other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The area of every outcome over all columns is its probability.
    #[test]
    fn the_alias_table_has_the_weights_given() {
        for weights in
            [vec![1.0], vec![1.0, 1.0], vec![3.0, 1.0, 0.5, 9.0, 0.01], (1..500).map(f64::from).collect()]
        {
            let table = AliasTable::new(weights.clone());
            let mut areas = vec![0.0; weights.len()];
            for (own, cell) in table.cells.iter().enumerate() {
                let share = f64::from(cell.share) / 4_294_967_296.0;
                areas[own] += share / weights.len() as f64;
                areas[cell.other as usize] += (1.0 - share) / weights.len() as f64;
            }
            let sum: f64 = weights.iter().sum();
            for (area, weight) in areas.iter().zip(&weights) {
                assert!((area - weight / sum).abs() < 1e-9, "{area} for {weight} of {sum}");
            }
        }
    }
}

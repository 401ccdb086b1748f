//! The images of each class, side by side: what class-wise samplers draw from.

use super::key::{below, mix};

/// Sample indices sorted by class (and by index within a class), four bytes a sample.
///
/// Classes without images have no row: samplers that visit classes visit rows and so skip them.
#[derive(Debug)]
pub(super) struct ClassIndex {
    samples: Box<[u32]>,
    /// Row `r` is `samples[starts[r]..starts[r + 1]]`.
    starts: Box<[u32]>,
}

/// One class's place in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassRow {
    pub(super) start: u64,
    pub(super) count: u64,
}

impl ClassRow {
    /// A place in the row, drawn uniformly by random bits that have also drawn the row.
    pub(super) fn draw(self, bits: u64) -> u64 {
        self.start + below(mix(bits), self.count)
    }
}

impl ClassIndex {
    /// A counting sort of `labels`, of which `counts` has the number per class.
    pub(super) fn new(labels: &[u32], counts: &[u32]) -> Self {
        let mut next = 0;
        let mut cursors: Vec<u32> = counts
            .iter()
            .map(|count| {
                let start = next;
                next += count;
                start
            })
            .collect();
        let mut samples = vec![0; labels.len()].into_boxed_slice();
        for (sample, &label) in (0_u32..).zip(labels) {
            let cursor = &mut cursors[label as usize];
            samples[*cursor as usize] = sample;
            *cursor += 1;
        }
        // Each cursor has come to the end of its class, which is where the next one starts.
        cursors.dedup();
        let first = usize::from(cursors.first() != Some(&0));
        let mut starts = Vec::with_capacity(cursors.len() + first);
        starts.push(0);
        starts.extend(cursors.into_iter().filter(|&end| end > 0));
        Self { samples, starts: starts.into_boxed_slice() }
    }

    /// The number of classes that have images.
    pub(super) fn rows(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    pub(super) fn row(&self, row: u64) -> ClassRow {
        let row = row as usize;
        let (start, end) = (self.starts[row], self.starts[row + 1]);
        ClassRow { start: u64::from(start), count: u64::from(end - start) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ClassRow> {
        (0..self.rows()).map(|row| self.row(row))
    }

    /// The sample at a place of the index.
    pub(super) fn sample(&self, place: u64) -> u64 {
        u64::from(self.samples[place as usize])
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.samples) + size_of_val(&*self.starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(labels: &[u32], classes: usize) -> Vec<Vec<u64>> {
        let mut counts = vec![0; classes];
        for &label in labels {
            counts[label as usize] += 1;
        }
        let index = ClassIndex::new(labels, &counts);
        index.iter().map(|row| (0..row.count).map(|i| index.sample(row.start + i)).collect()).collect()
    }

    #[test]
    fn rows_are_the_classes_that_have_images() {
        let expected = vec![vec![1, 4], vec![0, 3], vec![2]];
        assert_eq!(index(&[1, 0, 2, 1, 0], 3), expected);
        assert_eq!(index(&[3, 2, 5, 3, 2], 6), expected, "classes 0, 1 and 4 are empty");
        assert_eq!(index(&[1, 0, 4, 1, 0], 9), expected, "the last classes are empty");
        assert_eq!(index(&[0], 1), [[0]]);
    }
}

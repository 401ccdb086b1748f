//! The long-tailed subsets of CIFAR-100, row for row as LIFT's public code draws them.
//!
//! Class `c` of `C` keeps `int(n * ratio^(c / (C - 1)))` images, `n` being the mean class size and `ratio`
//! the inverse of the imbalance. Which ones is decided by `NumPy`'s legacy generator, seeded once with 0: the
//! rows of each class in turn are shuffled by it, and the first ones are kept.

/// Seed of the public code.
const SEED: u32 = 0;

/// Rows that are kept, class by class in shuffled order, with their labels. `labels` are those of the whole
/// training set; `imbalance` is how many times more images the first class keeps than the last one.
pub fn long_tailed_rows(labels: &[u32], classes: usize, imbalance: f64) -> Vec<(u32, u32)> {
    let mut generator = Mt19937::new(SEED);
    let mean = labels.len() as f64 / classes as f64;
    let ratio = 1.0 / imbalance;
    let mut kept = Vec::new();
    for class in 0..classes {
        let exponent = if classes > 1 { class as f64 / (classes as f64 - 1.0) } else { 0.0 };
        let count = (mean * ratio.powf(exponent)) as usize;
        let mut rows: Vec<u32> =
            (0u32..).zip(labels).filter(|(_, label)| **label as usize == class).map(|(row, _)| row).collect();
        generator.shuffle(&mut rows);
        rows.truncate(count);
        kept.extend(rows.into_iter().map(|row| (row, class as u32)));
    }
    kept
}

const STATE: usize = 624;

/// The Mersenne twister (Matsumoto and Nishimura 1998) behind `np.random.seed`.
pub(super) struct Mt19937 {
    state: [u32; STATE],
    next: usize,
}

impl Mt19937 {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; STATE];
        for i in 1..STATE {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.refill();
        }
        let mut value = self.state[self.next];
        self.next += 1;
        value ^= value >> 11;
        value ^= (value << 7) & 0x9d2c_5680;
        value ^= (value << 15) & 0xefc6_0000;
        value ^ (value >> 18)
    }

    fn refill(&mut self) {
        for i in 0..STATE {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % STATE] ^ (joined >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// A number from 0 to `most`: draws are masked to its bits and rejected while too large.
    fn interval(&mut self, most: u32) -> u32 {
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `np.random.shuffle` of a one-dimensional array.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.interval(i as u32) as usize;
            items.swap(i, j);
        }
    }
}

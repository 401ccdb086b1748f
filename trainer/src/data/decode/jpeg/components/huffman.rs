//! Huffman-coded blocks of coefficients (ITU-T T.81, F.2.2).
//!
//! A lookup of the next bits gives up to two coefficients at once. Where there is only one, the other is a zero that a later
//! coefficient overwrites, so no branch depends on it.

#![expect(
    clippy::inline_always,
    reason = "calls within the loop over coefficients would take as long as the rest of it"
)]

/// Bits that select an entry of a [`Table`].
const LOOKUP_BITS: u32 = 11;
/// Length of the longest code.
const LONGEST: u32 = 16;
/// Most bits of a coefficient.
const MOST_BITS: u32 = 15;
/// What the code for the end of a block adds to the place, so that it is beyond what runs can reach.
const END: usize = 128;
/// Coefficients of a block.
const COEFFICIENTS: usize = 64;
/// Places that runs can reach.
const PLACES: usize = 128;

/// Number of the coefficient in rows of eight, of each place in the order of the file.
#[rustfmt::skip]
const ZIGZAG: [u8; COEFFICIENTS] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The same, and for places beyond the block the row after the last.
const NUMBERS: [u8; PLACES] = {
    let mut numbers = [COEFFICIENTS as u8; PLACES];
    let mut place = 0;
    while place < COEFFICIENTS {
        numbers[place] = ZIGZAG[place];
        place += 1;
    }
    numbers
};

/// Coefficients in rows of eight, and a row for zeros beyond them.
pub(super) type Block = [f32; COEFFICIENTS + 8];

/// What coefficients are multiplied by, in the order of the file, and zeros for places beyond the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantisers([f32; PLACES]);

impl Quantisers {
    pub(super) fn new(values: [f32; COEFFICIENTS]) -> Self {
        Self(std::array::from_fn(|place| values.get(place).copied().unwrap_or(0.0)))
    }

    /// That of the first coefficient.
    pub(super) fn first(&self) -> f32 {
        self.0[0]
    }
}

/// The largest sum of row and column of the coefficients up to a place in the order of the file.
pub(super) fn diagonal(place: usize) -> usize {
    const DIAGONALS: [u8; COEFFICIENTS] = {
        let mut diagonals = [0; COEFFICIENTS];
        let mut place = 1;
        while place < COEFFICIENTS {
            let own = ZIGZAG[place] / 8 + ZIGZAG[place] % 8;
            diagonals[place] = if own > diagonals[place - 1] { own } else { diagonals[place - 1] };
            place += 1;
        }
        diagonals
    };
    usize::from(DIAGONALS[place % COEFFICIENTS])
}

/// What the next bits are.
#[derive(Clone, Copy, Debug, Default)]
struct Symbol {
    /// The coefficient, or the number of its bits if they follow.
    value: i16,
    /// Zeros before it.
    run: u8,
    /// What is added to the place after the run.
    advance: u8,
    bits: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// The coefficient is `value`.
    Value,
    /// Its bits follow the code.
    Following,
    /// The code is longer than the lookup.
    #[default]
    Long,
}

impl Symbol {
    /// A code of so many bits for a symbol.
    fn of(symbol: u8, length: u32, is_ac: bool) -> Self {
        let (run, size) = if is_ac { (symbol >> 4, symbol & 15) } else { (0, symbol) };
        let coded = Self { value: size.into(), run, advance: 1, bits: length as u8, kind: Kind::Value };
        match (is_ac, run, size) {
            (_, _, 1..) => Self { kind: Kind::Following, ..coded },
            // Sixteen zeros, the last of which is the value.
            (true, 15, _) | (false, ..) => coded,
            (true, ..) => Self { run: 0, advance: END as u8, ..coded },
        }
    }

    /// Number of bits that follow its code.
    fn size(self) -> u32 {
        self.value.cast_unsigned().into()
    }

    /// With the bits that follow its code, which are at the top of `bits`.
    fn with_value(self, bits: u64) -> Self {
        let size = self.size();
        let value = extended((bits >> (64 - size)) as u32, size) as i16;
        Self { value, bits: self.bits + size as u8, kind: Kind::Value, ..self }
    }
}

/// The number of `size` bits (T.81, tables F.1 and F.2).
fn extended(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if bits >> (size - 1) == 0 { bits - (1 << size) + 1 } else { bits }
}

/// One or two symbols in a word: both values, the run before the first one, the distance from there to the second one and to
/// the next place, and the number of bits; no bits if the symbols must be decoded one by one.
#[derive(Clone, Copy, Debug, Default)]
struct Pair(u64);

impl Pair {
    fn of(first: Symbol, second: Option<Symbol>) -> Self {
        let other = second.unwrap_or_default();
        let distance = 1 + u64::from(other.run);
        let advance = [first.advance, other.run, other.advance].into_iter().map(u64::from).sum::<u64>();
        let bits = u64::from(first.bits + other.bits);
        let values =
            u64::from(first.value.cast_unsigned()) << 48 | u64::from(other.value.cast_unsigned()) << 32;
        Self(values | u64::from(first.run) << 26 | distance << 20 | advance << 8 | bits)
    }

    #[inline(always)]
    fn bits(self) -> u32 {
        self.0 as u32 & 0xff
    }

    #[inline(always)]
    fn advance(self) -> usize {
        self.0 as usize >> 8 & 0xfff
    }

    #[inline(always)]
    fn distance(self) -> usize {
        self.0 as usize >> 20 & 0x3f
    }

    #[inline(always)]
    fn run(self) -> usize {
        self.0 as usize >> 26 & 0x3f
    }

    #[inline(always)]
    fn values(self) -> [i16; 2] {
        [(self.0 >> 48) as i16, (self.0 >> 32) as i16]
    }
}

/// A table of codes.
#[derive(Debug)]
pub(super) struct Table {
    pairs: Box<[Pair; 1 << LOOKUP_BITS]>,
    symbols: Box<[Symbol; 1 << LOOKUP_BITS]>,
    /// One after the last code of each length, in 16 bits, and what is added to a code to get the number of its symbol.
    ends: [u32; LONGEST as usize + 1],
    offsets: [i32; LONGEST as usize + 1],
    coded: Vec<u8>,
    is_ac: bool,
    /// The part of the file that it was made from.
    made_from: Vec<u8>,
}

impl Table {
    /// A table of first coefficients, or of the others.
    pub(super) fn new(is_ac: bool) -> Self {
        Self {
            pairs: Box::new([Pair::default(); 1 << LOOKUP_BITS]),
            symbols: Box::new([Symbol::default(); 1 << LOOKUP_BITS]),
            ends: [0; LONGEST as usize + 1],
            offsets: [0; LONGEST as usize + 1],
            coded: Vec::new(),
            is_ac,
            made_from: Vec::new(),
        }
    }

    /// Reads a table: the number of codes of each length, then their symbols. Returns its length in bytes; none if it is
    /// not a table.
    pub(super) fn read(&mut self, segment: &[u8]) -> Option<usize> {
        let counts = segment.first_chunk::<16>()?;
        let len = 16 + counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let segment = segment.get(..len)?;
        if self.made_from != segment {
            self.made_from.clear();
            self.make(counts, &segment[16..])?;
            self.made_from.extend_from_slice(segment);
        }
        Some(len)
    }

    fn make(&mut self, counts: &[u8; 16], coded: &[u8]) -> Option<()> {
        // What libjpeg refuses.
        let is_bogus = |&symbol: &u8| !self.is_ac && u32::from(symbol) > MOST_BITS;
        if coded.len() > 256 || coded.iter().any(is_bogus) {
            return None;
        }
        self.coded.clear();
        self.coded.extend_from_slice(coded);
        self.symbols.fill(Symbol::default());
        let (mut code, mut number) = (0u32, 0usize);
        for (length, &count) in (1..=LONGEST).zip(counts) {
            self.offsets[length as usize] = number as i32 - code as i32;
            for _ in 0..count {
                if code >> length != 0 {
                    return None;
                }
                self.enter(code, length, self.coded[number]);
                (code, number) = (code + 1, number + 1);
            }
            // No code is all ones.
            (code >> length == 0).then_some(())?;
            self.ends[length as usize] = code << (LONGEST - length);
            code <<= 1;
        }
        if self.is_ac {
            self.pair();
        }
        Some(())
    }

    /// Enters a code into the lookup.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let Some(free) = LOOKUP_BITS.checked_sub(length) else { return };
        let coded = Symbol::of(symbol, length, self.is_ac);
        let is_within = coded.kind == Kind::Following && coded.size() <= free;
        let first = (code << free) as usize;
        for (rest, entry) in (0u64..).zip(&mut self.symbols[first..first + (1 << free)]) {
            *entry = if is_within { coded.with_value(rest << (64 - free)) } else { coded };
        }
    }

    /// Makes the pairs.
    fn pair(&mut self) {
        for (bits, pair) in self.pairs.iter_mut().enumerate() {
            let first = self.symbols[bits];
            if first.kind != Kind::Value {
                *pair = Pair::default();
                continue;
            }
            let second = self.symbols[(bits << first.bits) % (1 << LOOKUP_BITS)];
            let is_within = second.kind == Kind::Value && u32::from(first.bits + second.bits) <= LOOKUP_BITS;
            let has_second = is_within && first.advance == 1;
            *pair = Pair::of(first, has_second.then_some(second));
        }
    }

    /// The next symbol.
    #[inline(always)]
    fn symbol(&self, bits: u64) -> Option<Symbol> {
        let symbol = self.symbols[(bits >> (64 - LOOKUP_BITS)) as usize];
        match symbol.kind {
            Kind::Value => Some(symbol),
            Kind::Following => Some(symbol.with_value(bits << symbol.bits)),
            Kind::Long => self.long_symbol(bits),
        }
    }

    /// The next symbol, whose code is longer than the lookup.
    #[inline(never)]
    fn long_symbol(&self, bits: u64) -> Option<Symbol> {
        let code = (bits >> (64 - LONGEST)) as u32;
        let length = (LOOKUP_BITS + 1..=LONGEST).find(|&length| code < self.ends[length as usize])?;
        let number = (code >> (LONGEST - length)) as i32 + self.offsets[length as usize];
        let symbol = Symbol::of(*self.coded.get(usize::try_from(number).ok()?)?, length, self.is_ac);
        let has_value = symbol.kind == Kind::Following;
        Some(if has_value { symbol.with_value(bits << length) } else { symbol })
    }
}

/// The bits of a part of a scan, without stuffed bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// The next bits, the first one at the top.
    next: u64,
    /// How many of them there are.
    count: u32,
}

impl<'a> Bits<'a> {
    /// The bytes are followed by at least eight more, which may be read but do not count.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, next: 0, count: 0 }
    }

    /// Whether more bits were taken than there are before `end`, a number of bytes.
    pub(super) fn is_beyond(&self, end: usize) -> bool {
        8 * self.at > 8 * end + self.count as usize
    }

    /// Fills up the bits: there are at least 56 then. A branch that does it only when needed would be hard to predict.
    #[inline(always)]
    fn fill(&mut self) {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 8]);
        self.next |= u64::from_be_bytes(*bytes) >> self.count;
        self.at += ((63 - self.count) / 8) as usize;
        // Whole bytes only, and at least seven of them.
        self.count |= 0x38;
    }

    #[inline(always)]
    fn drop(&mut self, bits: u32) {
        self.next <<= bits;
        self.count -= bits;
    }

    #[inline(always)]
    fn symbol(&mut self, table: &Table) -> Option<Symbol> {
        self.fill();
        let symbol = table.symbol(self.next)?;
        self.drop(symbol.bits.into());
        Some(symbol)
    }

    /// The next one or two symbols, of which the second one does not begin another block.
    #[inline(always)]
    fn pair(&mut self, table: &Table, place: usize) -> Option<Pair> {
        self.fill();
        let mut pair = table.pairs[(self.next >> (64 - LOOKUP_BITS)) as usize];
        if pair.bits() == 0 || place + pair.run() >= COEFFICIENTS - 1 {
            pair = Pair::of(table.symbol(self.next)?, None);
        }
        self.drop(pair.bits());
        Some(pair)
    }

    /// Reads a block into coefficients that are zero before. Returns the difference of the first one, which is not stored, to that of
    /// the previous block, and the place of the last one. None if the bits are not a block.
    #[inline(never)]
    pub(super) fn block(
        &mut self,
        (dc, ac): (&Table, &Table),
        quantisers: &Quantisers,
        kept: &mut Block,
    ) -> Option<(i32, usize)> {
        // A copy can stay in registers.
        let mut bits = *self;
        let difference = bits.symbol(dc)?.value;
        let mut place = 1;
        while place < COEFFICIENTS {
            let pair = bits.pair(ac, place)?;
            let first = (place + pair.run()) % PLACES;
            let second = (first + pair.distance()) % PLACES;
            for (place, value) in [first, second].into_iter().zip(pair.values()) {
                kept[usize::from(NUMBERS[place])] = f32::from(value) * quantisers.0[place];
            }
            place = first + pair.advance();
        }
        *self = bits;
        is_end(place).then_some((difference.into(), place % END - 1))
    }

    /// Reads a block of which only the difference is needed.
    #[inline(never)]
    pub(super) fn skip_block(&mut self, (dc, ac): (&Table, &Table)) -> Option<i32> {
        let mut bits = *self;
        let difference = bits.symbol(dc)?.value;
        let mut place = 1;
        while place < COEFFICIENTS {
            let pair = bits.pair(ac, place)?;
            place += pair.run() + pair.advance();
        }
        *self = bits;
        is_end(place).then_some(difference.into())
    }
}

/// Whether a block ends at a place.
fn is_end(place: usize) -> bool {
    place == COEFFICIENTS || place > END
}

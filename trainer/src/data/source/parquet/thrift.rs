//! The compact encoding of Thrift, as far as it takes to check it: the `parquet` crate reserves memory for as many
//! elements as a footer or a page header claims, so these claims are compared with the bytes that are there.
//!
//! The encoding: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// Limit on structs within structs; Parquet has fewer than ten.
const MAX_DEPTH: u32 = 32;

/// Bytes in the compact encoding.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The numbers of a page header that decide about memory and rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageClaims {
    /// Bytes of the header itself.
    pub(super) header: usize,
    /// 0: data, 1: index, 2: dictionary, 3: data of version 2.
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    /// Values of a data page, or of a dictionary.
    pub(super) values: i64,
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Walks over a struct. `None` if it goes beyond the bytes, or if a list has more elements than bytes are left.
    pub(super) fn check_struct(&mut self) -> Option<()> {
        self.fields(MAX_DEPTH, &mut |reader, _, kind, depth| reader.skip(kind, depth))
    }

    /// Reads a page header.
    pub(super) fn page(&mut self) -> Option<PageClaims> {
        let mut page = PageClaims::default();
        self.fields(MAX_DEPTH, &mut |reader, field, kind, depth| {
            match (field, kind) {
                (1, I32) => page.kind = reader.integer()?,
                (2, I32) => page.uncompressed = reader.integer()?,
                (3, I32) => page.compressed = reader.integer()?,
                // The headers of data pages and dictionaries begin with the number of values.
                (5 | 7 | 8, STRUCT) => {
                    reader.fields(depth.checked_sub(1)?, &mut |reader, field, kind, depth| match (
                        field, kind,
                    ) {
                        (1, I32) => {
                            page.values = reader.integer()?;
                            Some(())
                        }
                        _ => reader.skip(kind, depth),
                    })?;
                }
                _ => reader.skip(kind, depth)?,
            }
            Some(())
        })?;
        page.header = self.at;
        Some(page)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn fields(
        &mut self,
        depth: u32,
        visit: &mut dyn FnMut(&mut Self, i64, u8, u32) -> Option<()>,
    ) -> Option<()> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match i64::from(head >> 4) {
                0 => self.integer()?,
                more => field + more,
            };
            visit(self, field, head & 0x0f, depth)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.forward(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.forward(8),
            BINARY => {
                let len = self.varint()?;
                self.forward(usize::try_from(len).ok()?)
            }
            LIST | SET => {
                let head = self.byte()?;
                let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                self.elements(size, head & 0x0f, depth)
            }
            MAP => {
                let size = self.varint()?;
                let kinds = if size == 0 { 0 } else { self.byte()? };
                self.fits(size)?;
                (0..size).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 0x0f, depth)
                })
            }
            STRUCT => self.fields(depth, &mut |reader, _, kind, depth| reader.skip(kind, depth)),
            _ => None,
        }
    }

    fn elements(&mut self, size: u64, kind: u8, depth: u32) -> Option<()> {
        self.fits(size)?;
        (0..size).try_for_each(|_| self.element(kind, depth))
    }

    /// Truth values take a byte in a list, and none as a field.
    fn element(&mut self, kind: u8, depth: u32) -> Option<()> {
        if matches!(kind, TRUE | FALSE) { self.forward(1) } else { self.skip(kind, depth) }
    }

    /// Each element takes a byte at least.
    fn fits(&self, size: u64) -> Option<()> {
        (size <= (self.bytes.len() - self.at) as u64).then_some(())
    }

    fn forward(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|&end| end <= self.bytes.len())?;
        Some(())
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_is_read_and_a_list_that_cannot_fit_is_refused() {
        // A data page of 100 bytes, 60 compressed, 7 values.
        let header = [0x15, 0, 0x15, 0xc8, 1, 0x15, 120, 0x2c, 0x15, 14, 0x15, 0, 0, 0];
        let page = Compact::new(&header).page().unwrap();
        assert_eq!(page, PageClaims { header: 14, kind: 0, uncompressed: 100, compressed: 60, values: 7 });
        assert!(Compact::new(&header).check_struct().is_some());
        assert!((0..header.len()).all(|end| Compact::new(&header[..end]).page().is_none()));
        // Field 1: a list of 2^28 structs.
        assert!(Compact::new(&[0x19, 0xfc, 0x80, 0x80, 0x80, 0x80, 1, 0]).check_struct().is_none());
        // Structs within structs without an end.
        assert!(Compact::new(&[0x1c; 4000]).check_struct().is_none());
    }
}

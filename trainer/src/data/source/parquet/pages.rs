//! Where the pages of a column begin, found once, so that any row is reached by reading one page.

use super::file::{PositionedFile, contained};
use super::thrift::{Compact, PageClaims};
use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::page_index::offset_index::PageLocation;
use ::parquet::file::serialized_reader::SerializedPageReader;
use std::sync::Arc;

/// Bytes of a page header that are read at first, and at most: statistics may contain long values.
const HEADER: [u64; 2] = [4 << 10, 4 << 20];

/// Rows of a column that are read at a time.
const BATCH: usize = 8192;

/// One column of one row group.
pub(super) struct Chunk {
    file: Arc<PositionedFile>,
    meta: ColumnChunkMetaData,
    rows: usize,
    pages: Vec<PageLocation>,
}

impl Chunk {
    /// Finds the pages of a column and checks what their headers claim.
    pub(super) fn open(
        file: &Arc<PositionedFile>,
        meta: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<Self, String> {
        let (start, len) = contained(|| Ok(meta.byte_range())).map_err(|error| error.to_string())?;
        let end = start.checked_add(len).filter(|&end| end <= ::parquet::file::reader::Length::len(&**file));
        let end = end.ok_or("a column goes beyond the end of the file; it is cut short or damaged")?;
        let mut budget = u64::try_from(meta.uncompressed_size()).unwrap_or(0);
        let mut pages = Vec::new();
        let (mut at, mut row) = (start, 0);
        while at < end && row < rows {
            let page =
                claims(file, at, end).ok_or_else(|| format!("the page at byte {at} has a damaged header"))?;
            let size = page.header as u64 + u64::try_from(page.compressed).unwrap_or(u64::MAX);
            let whole = page.header as u64 + u64::try_from(page.uncompressed).unwrap_or(u64::MAX);
            let values = u64::try_from(page.values).unwrap_or(u64::MAX);
            // A dictionary has a byte for each value at least; all pages together have the size of the column.
            let fits = size <= end - at && whole <= budget && (page.kind != DICTIONARY || values <= whole);
            let compressed_page_size = i32::try_from(size).ok().filter(|_| fits);
            let compressed_page_size = compressed_page_size
                .ok_or_else(|| format!("the page at byte {at} claims more than its column has"))?;
            budget -= whole;
            if matches!(page.kind, DATA | DATA_2) {
                let location =
                    PageLocation { offset: at as i64, compressed_page_size, first_row_index: row as i64 };
                pages.push(location);
                row = row.saturating_add(values as usize);
            }
            at += size;
        }
        if row != rows {
            return Err(format!("a column has {row} values for {rows} rows"));
        }
        Ok(Self { file: Arc::clone(file), meta: meta.clone(), rows, pages })
    }

    /// A reader that stands before a row.
    fn reader<T: DataType>(&self, row: usize) -> ParquetResult<ColumnReaderImpl<T>> {
        let pages = SerializedPageReader::new(
            Arc::clone(&self.file),
            &self.meta,
            self.rows,
            Some(self.pages.clone()),
        )?;
        let descr = self.meta.column_descr_ptr();
        let mut reader = get_typed_column_reader::<T>(get_column_reader(descr, Box::new(pages)));
        if reader.skip_records(row)? != row {
            return Err(ParquetError::General("the column ends before the row".into()));
        }
        Ok(reader)
    }

    /// The page of a row, and the place of the row in it.
    pub(super) fn page_of(&self, row: usize) -> Option<(usize, usize)> {
        let after = self.pages.partition_point(|page| page.first_row_index <= row as i64);
        let page = after.checked_sub(1)?;
        Some((page, row - self.pages[page].first_row_index as usize))
    }

    /// Bytes of a page in the file.
    pub(super) fn page_bytes(&self, page: usize) -> u64 {
        self.pages.get(page).map_or(0, |page| page.compressed_page_size as u64)
    }

    /// The largest number of rows of a page.
    pub(super) fn most_rows(&self) -> usize {
        (0..self.pages.len()).map(|page| self.rows_of(page).len()).max().unwrap_or(0)
    }

    fn rows_of(&self, page: usize) -> std::ops::Range<usize> {
        let first =
            |page: usize| self.pages.get(page).map_or(self.rows, |page| page.first_row_index as usize);
        first(page)..first(page + 1)
    }

    /// All bytes of a page, by its rows; none for a gap. The dictionary is read with it, if there is one.
    pub(super) fn page(&self, page: usize) -> Result<Vec<Option<ByteArray>>, String> {
        let rows = self.rows_of(page);
        let most = self.meta.column_descr().max_def_level();
        let read = contained(|| {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            let mut reader = self.reader::<ByteArrayType>(rows.start)?;
            let (read, ..) = reader.read_records(rows.len(), Some(&mut levels), None, &mut values)?;
            if read != rows.len() {
                return Err(ParquetError::General("a page ends before its last row".into()));
            }
            let mut values = values.into_iter();
            let is_there = |row: usize| most == 0 || levels.get(row) == Some(&most);
            Ok((0..read).map(|row| if is_there(row) { values.next() } else { None }).collect())
        });
        read.map_err(|error| error.to_string())
    }

    /// Passes all values of a column of texts or whole numbers to `take`, as text; none for a gap.
    pub(super) fn texts(&self, take: &mut (dyn FnMut(Option<String>) + Send)) -> Result<(), String> {
        let done = contained(|| match self.meta.column_type() {
            Type::BYTE_ARRAY => self
                .each::<ByteArrayType>(take, |value| Ok(String::from_utf8_lossy(value.data()).into_owned())),
            Type::INT32 => self.each::<::parquet::data_type::Int32Type>(take, |value| Ok(value.to_string())),
            Type::INT64 => self.each::<::parquet::data_type::Int64Type>(take, |value| Ok(value.to_string())),
            kind => Err(ParquetError::General(format!("expected texts or whole numbers, found {kind}"))),
        });
        done.map_err(|error| error.to_string())
    }

    fn each<T: DataType>(
        &self,
        take: &mut (dyn FnMut(Option<String>) + Send),
        text: impl Fn(&T::T) -> ParquetResult<String>,
    ) -> ParquetResult<()> {
        let mut reader = self.reader::<T>(0)?;
        let most = self.meta.column_descr().max_def_level();
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut rows = 0;
        while rows < self.rows {
            values.clear();
            levels.clear();
            let (read, ..) =
                reader.read_records(BATCH.min(self.rows - rows), Some(&mut levels), None, &mut values)?;
            if read == 0 {
                return Err(ParquetError::General("a column ends before its last row".into()));
            }
            rows += read;
            let mut values = values.iter();
            for row in 0..read {
                let is_there = most == 0 || levels.get(row) == Some(&most);
                take(if is_there { values.next().map(&text).transpose()? } else { None });
            }
        }
        Ok(())
    }
}

const DATA: i64 = 0;
const DICTIONARY: i64 = 2;
const DATA_2: i64 = 3;

fn claims(file: &PositionedFile, at: u64, end: u64) -> Option<PageClaims> {
    HEADER.into_iter().find_map(|most| {
        let bytes = file.bytes_at(at, (end - at).min(most) as usize).ok()?;
        Compact::new(&bytes).page()
    })
}

//! Rows in PostgreSQL's binary `COPY` format.
//!
//! A stream is a header, rows (a count of cells, then each cell's length and bytes; -1 for NULL) and a trailer.
//! Absent: what cannot be NULL or too long. A transaction has at most 1.1 MiB, so no cell reaches the format's 2 GiB.

use block_chain_common::quantity::Timestamp;
use bytes::{BufMut as _, Bytes, BytesMut};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// 2000-01-01 in milliseconds since 1970: where PostgreSQL's time begins.
const EPOCH_MS: i64 = 946_684_800_000;
/// `numeric` counts in digits of this base.
const NUMERIC_BASE: u64 = 10_000;
/// Such digits in the largest 64-bit number.
const NUMERIC_DIGITS: usize = 5;
/// The version byte before a `jsonb`'s text.
const JSONB_VERSION: u8 = 1;

/// One table's stream, written row by row and taken in pieces.
#[derive(Debug)]
pub(super) struct Rows(BytesMut);

impl Rows {
    /// A stream's beginning.
    pub(super) fn new() -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_slice(SIGNATURE);
        bytes.put_i32(0);
        bytes.put_i32(0);
        Self(bytes)
    }

    /// A row of so many cells follows.
    pub(super) fn row(&mut self, cells: i16) -> &mut Self {
        self.0.put_i16(cells);
        self
    }

    /// `text`, `bytea`.
    pub(super) fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.0.put_i32(length(bytes.len()));
        self.0.put_slice(bytes);
        self
    }

    /// Lower-case hexadecimal `text`.
    pub(super) fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.put_i32(length(bytes.len().saturating_mul(2)));
        for byte in bytes {
            self.0
                .put_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        self
    }

    /// `int`.
    pub(super) fn int(&mut self, number: i32) -> &mut Self {
        self.0.put_i32(4);
        self.0.put_i32(number);
        self
    }

    /// `bigint`.
    pub(super) fn bigint(&mut self, number: i64) -> &mut Self {
        self.0.put_i32(8);
        self.0.put_i64(number);
        self
    }

    /// `numeric`, which holds all 64 bits.
    pub(super) fn numeric(&mut self, mut number: u64) -> &mut Self {
        let (mut digits, mut first) = ([0_i16; NUMERIC_DIGITS], NUMERIC_DIGITS);
        while number > 0 && first > 0 {
            first -= 1;
            digits[first] = i16::try_from(number % NUMERIC_BASE).unwrap_or(0);
            number /= NUMERIC_BASE;
        }
        let digits = &digits[first..];
        let count = i16::try_from(digits.len()).unwrap_or(0);
        self.0.put_i32(length(8 + 2 * digits.len()));
        for part in [count, (count - 1).max(0), 0, 0] {
            self.0.put_i16(part);
        }
        for digit in digits {
            self.0.put_i16(*digit);
        }
        self
    }

    /// `timestamptz`.
    pub(super) fn time(&mut self, time: Timestamp) -> &mut Self {
        let ms = i64::try_from(time.get()).unwrap_or(i64::MAX);
        self.bigint(ms.saturating_sub(EPOCH_MS).saturating_mul(1_000))
    }

    /// `jsonb`.
    pub(super) fn jsonb(&mut self, text: &str) -> &mut Self {
        self.0.put_i32(length(text.len().saturating_add(1)));
        self.0.put_u8(JSONB_VERSION);
        self.0.put_slice(text.as_bytes());
        self
    }

    /// Any NULL.
    pub(super) fn null(&mut self) -> &mut Self {
        self.0.put_i32(-1);
        self
    }

    /// So many NULLs.
    pub(super) fn nulls(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.null();
        }
        self
    }

    /// `text`, where there is some.
    pub(super) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.bytes(text),
            None => self.null(),
        }
    }

    /// The stream ends.
    pub(super) fn end(&mut self) {
        self.0.put_i16(-1);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was written since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// Room for a piece of this size, so that it does not grow step by step.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(write: for<'a> fn(&'a mut Rows) -> &'a mut Rows) -> Vec<u8> {
        let mut rows = Rows::new();
        rows.take();
        write(&mut rows);
        rows.take().to_vec()
    }

    #[test]
    fn cells_are_as_postgresql_documents_them() {
        let table: [(Vec<u8>, &[u8]); 8] = [
            (cell(|rows| rows.bytes("ab")), &[0, 0, 0, 2, b'a', b'b']),
            (cell(|rows| rows.hex(&[0x0f, 0xa0])), b"\0\0\0\x040fa0"),
            (cell(|rows| rows.null()), &[0xff; 4]),
            (cell(|rows| rows.int(-2)), &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe]),
            (
                cell(|rows| rows.numeric(0)),
                &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                cell(|rows| rows.numeric(10_002)),
                &[0, 0, 0, 12, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2],
            ),
            (cell(|rows| rows.jsonb("1")), &[0, 0, 0, 2, 1, b'1']),
            (
                cell(|rows| rows.time(Timestamp::new(946_684_800_001))),
                &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 3, 0xe8],
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_largest_number_has_five_digits_of_base_10000() {
        let digits = cell(|rows| rows.numeric(u64::MAX));
        let words: Vec<u16> = digits[4..]
            .chunks(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(words, [5, 4, 0, 0, 1_844, 6_744, 737, 955, 1_615]);
    }
}

//! Lines as QuestDB reads them: no tags, every text in quotes, decimals and instants marked as such.
//!
//! ```text
//! trades instrument="kraken:BTC/USD",seq=7i,ts_recv=1700000000000000000n,price=62807.0d,guard=0d 1700000000000000000
//! ```
//!
//! Quotes, backslashes and line breaks of a text are escaped by a backslash; anything else stands for itself, also NUL. What the
//! server would store as something else is refused here, or goes to the column `exact`, from which it reads back equal.

use std::io::Write as _;

use memchr::memchr3;
use tapedeck_market::{Decimal, Sum};

use super::schema::{EXACT, GUARD, PRECISION, SCALE, Type};

/// The longest text: its own HTTP API shows no value of some MB, so that nobody could read it back.
const TEXT_BYTES: usize = 1 << 20;
/// The longest text of a column of few values, each of which is kept in memory.
const SYMBOL_BYTES: usize = 64 << 10;
/// The server's own bounds for the time of a row.
const TS_MAX: i64 = 9_214_646_399_999_999_999;
/// Digits that a double keeps.
const DOUBLE_DIGITS: u32 = 15;
const LIMIT: u128 = 10_u128.pow(PRECISION as u32);

/// Why a record has no line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoLine {
    #[error("its time {0} is before 1970 or after 2261, and no time of a row there")]
    Time(i64),
    #[error("the text of `{0}` takes {1} bytes, more than {2}")]
    Long(String, usize, usize),
    #[error("column `{0}` of table `{1}` is {2}: {3} would be changed to fit")]
    Changed(String, String, Type, &'static str),
}

/// A line under construction, at the end of others. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub(super) struct Line<'a> {
    text: &'a mut Vec<u8>,
    exact: &'a mut Vec<u8>,
    start: usize,
    whole: bool,
}

impl<'a> Line<'a> {
    /// `head` is the table's name, as it stands in a line, and a space. `exact` is memory to use.
    pub(super) fn begin(text: &'a mut Vec<u8>, exact: &'a mut Vec<u8>, head: &[u8]) -> Line<'a> {
        let start = text.len();
        text.extend_from_slice(head);
        exact.clear();
        Line { text, exact, start, whole: false }
    }

    /// `key` is the column's name, as it stands in a line, with `=` behind it and, but for the first, a comma before.
    pub(super) fn key(&mut self, key: &[u8]) {
        self.text.extend_from_slice(key);
    }

    pub(super) fn int(&mut self, value: i64) {
        self.text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.text.push(b'i');
    }

    pub(super) fn nanos(&mut self, value: i64) {
        self.text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.text.push(b'n');
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.text.push(if value { b't' } else { b'f' });
    }

    pub(super) fn float(&mut self, value: f64) {
        // The shortest text that reads back as the same double. Writing to memory does not fail.
        let _ = write!(self.text, "{value:?}");
    }

    /// For a column that calculates in doubles.
    pub(super) fn number(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn decimal(&mut self, value: Decimal) {
        value.write_to(self.text);
        self.text.push(b'd');
    }

    pub(super) fn sum(&mut self, value: Sum) {
        let _ = write!(self.text, "{value}d");
    }

    /// # Errors
    /// [`NoLine::Long`]
    pub(super) fn text(&mut self, column: &str, value: &str) -> Result<(), NoLine> {
        self.quoted(column, value, TEXT_BYTES)
    }

    /// # Errors
    /// [`NoLine::Long`]
    pub(super) fn symbol(&mut self, column: &str, value: &str) -> Result<(), NoLine> {
        self.quoted(column, value, SYMBOL_BYTES)
    }

    fn quoted(&mut self, column: &str, value: &str, most: usize) -> Result<(), NoLine> {
        if value.len() > most {
            return Err(NoLine::Long(column.to_owned(), value.len(), most));
        }
        self.text.push(b'"');
        escape(value, self.text);
        self.text.push(b'"');
        Ok(())
    }

    /// A number that its column cannot hold.
    pub(super) fn exact(&mut self, column: &str, value: impl std::fmt::Display) {
        self.exact.push(if self.exact.is_empty() { b'{' } else { b',' });
        let _ = serde_json::to_writer(&mut *self.exact, column);
        let _ = write!(self.exact, ":\"{value}\"");
    }

    /// The time, and the end of the line.
    ///
    /// # Errors
    /// [`NoLine::Time`]
    pub(super) fn end(mut self, ts_ns: i64) -> Result<(), NoLine> {
        if !(0..=TS_MAX).contains(&ts_ns) {
            return Err(NoLine::Time(ts_ns));
        }
        if !self.exact.is_empty() {
            self.exact.push(b'}');
            let _ = write!(self.text, ",{EXACT}=\"");
            // Digits, names and what JSON needs: text.
            escape(&String::from_utf8_lossy(self.exact), self.text);
            self.text.push(b'"');
        }
        self.text.push(b',');
        self.text.extend_from_slice(GUARD.as_bytes());
        self.text.extend_from_slice(b"=0d ");
        self.text.extend_from_slice(itoa::Buffer::new().format(ts_ns).as_bytes());
        self.text.push(b'\n');
        self.whole = true;
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.text.truncate(self.start);
        }
    }
}

fn escape(value: &str, out: &mut Vec<u8>) {
    let mut rest = value.as_bytes();
    while let Some(at) = memchr3(b'"', b'\\', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Whether a decimal column of ours holds it exactly.
#[inline]
pub(super) fn fits_decimal(mantissa: i128, scale: u8) -> bool {
    let mantissa = mantissa.unsigned_abs();
    if scale <= SCALE {
        let unit = 10_u128.pow(u32::from(SCALE - scale));
        return mantissa < LIMIT / unit;
    }
    let unit = 10_u128.checked_pow(u32::from(scale - SCALE));
    mantissa == 0 || unit.is_some_and(|unit| mantissa.is_multiple_of(unit) && mantissa / unit < LIMIT)
}

/// Whether a double holds it so that its shortest text is the same number.
pub(super) fn fits_double(mantissa: i128, scale: u8) -> bool {
    let mut mantissa = mantissa.unsigned_abs();
    if mantissa < 10_u128.pow(DOUBLE_DIGITS) {
        return true;
    }
    let mut scale = scale;
    while scale > 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        scale -= 1;
    }
    mantissa < 10_u128.pow(DOUBLE_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_must_be_escaped_escaped_and_what_does_not_fit_beside() {
        let (mut text, mut exact) = (Vec::new(), Vec::new());
        let mut line = Line::begin(&mut text, &mut exact, b"my\\ tick ");
        line.key(b"a=");
        line.symbol("a", "x,y \"q\" \\").unwrap();
        line.key(b",b=");
        line.text("b", "1\n2\r\0").unwrap();
        line.key(b",c=");
        line.decimal("62807.0".parse().unwrap());
        line.key(b",d=");
        line.float(1e300);
        line.exact("e", i64::MIN);
        line.exact("f", "NaN");
        line.end(1).unwrap();
        let want = "my\\ tick a=\"x,y \\\"q\\\" \\\\\",b=\"1\\\n2\r\0\",c=62807.0d,d=1e300,\
                    exact=\"{\\\"e\\\":\\\"-9223372036854775808\\\",\\\"f\\\":\\\"NaN\\\"}\",guard=0d 1\n";
        assert_eq!(String::from_utf8(text).unwrap(), want);
    }

    #[test]
    fn what_cannot_be_stored_leaves_nothing() {
        let (mut text, mut exact) = (b"before\n".to_vec(), Vec::new());
        for ts in [-1, i64::MIN, i64::MAX] {
            let mut line = Line::begin(&mut text, &mut exact, b"t ");
            line.key(b"a=");
            line.int(1);
            assert_eq!(line.end(ts), Err(NoLine::Time(ts)));
        }
        let mut line = Line::begin(&mut text, &mut exact, b"t ");
        let long = "x".repeat(TEXT_BYTES + 1);
        assert!(line.text("a", &long).is_err() && line.symbol("a", &long[..SYMBOL_BYTES + 1]).is_err());
        drop(line);
        assert_eq!(text, b"before\n");
    }

    #[test]
    fn a_number_fits_exactly_or_not_at_all() {
        let of = |text: &str| text.parse::<Decimal>().map(|it| (i128::from(it.mantissa()), it.scale())).unwrap();
        for (text, decimal, double) in [
            ("0", true, true),
            ("62807.0", true, true),
            ("0.0000000001", true, true),
            ("0.00000000010", true, true),
            ("0.00000000011", false, true),
            ("999999999999999999", true, false),
            ("123456789012345000", true, false),
            ("1234567890.12345000", true, true),
            ("0.100000000000000001", false, false),
        ] {
            let (mantissa, scale) = of(text);
            assert_eq!((fits_decimal(mantissa, scale), fits_double(mantissa, scale)), (decimal, double), "{text}");
            if double {
                assert_eq!(text.parse::<f64>().unwrap().to_string().parse::<Decimal>().unwrap(), text.parse().unwrap());
            }
        }
        assert!(fits_decimal(10_i128.pow(28) - 1, 10) && !fits_decimal(10_i128.pow(28), 10));
        assert!(!fits_decimal(i128::MAX, 0) && !fits_decimal(1, 255) && fits_decimal(0, 255));
    }
}

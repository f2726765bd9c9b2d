//! InfluxDB line protocol: text in, points out.
//!
//! ```text
//! measurement[,tag=value …] field=value[,field=value …] [timestamp]
//!
//! cpu,host=a\ b load=0.64,cores=8i,total=18u,up=t,note="a \"word\"" 1784483680000000000
//! ```
//!
//! What is taken and what is refused is what InfluxDB's own server takes and refuses, in its words: [`Fault`] prints
//! as the server says it (asked of a real 1.6.7; `tests.rs` has its answers). Where it is stricter, that is on purpose:
//! text that is not UTF-8 and letters behind a closing quote are refused, not stored as something else. Where it is
//! more lenient: `\r\n` ends a line, and unsigned integers (`18u`) are understood, as by later servers.
//!
//! Numbers stay exact: `8i` is an integer, `18u` an unsigned one, and a float is the decimal that its text shows when
//! that has at most 18 digits; only a longer one becomes the double that it was before it was printed.
//!
//! Total: any bytes give lines, and each line a point or a fault.

use std::fmt;

use tapedeck_market::{Point, UnixNanos};

mod line;
mod value;

#[cfg(test)]
mod tests;

/// A longer line is refused: it would not fit into a record of the tape.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// The server's own bound for a measurement with its tags.
const MAX_KEY_BYTES: usize = 65_535;
/// Bytes of a bad line that are quoted back.
const QUOTED_BYTES: usize = 1_024;
/// The server keeps the two lowest and the highest instant for itself.
const FIRST_NS: i64 = i64::MIN + 2;
const LAST_NS: i64 = i64::MAX - 1;

/// One line, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub point: Point,
    /// In the precision of the request.
    pub time: Option<i64>,
}

/// Why a line is not a point, in the server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("missing measurement")]
    NoMeasurement,
    #[error("missing tag key")]
    NoTagKey,
    #[error("missing tag value")]
    NoTagValue,
    #[error("invalid tag format")]
    TagFormat,
    #[error("duplicate tags")]
    DuplicateTags,
    #[error("missing fields")]
    NoFields,
    #[error("missing field key")]
    NoFieldKey,
    #[error("missing field value")]
    NoFieldValue,
    #[error("invalid field format")]
    FieldFormat,
    #[error("invalid number")]
    Number,
    #[error("invalid float")]
    Float,
    #[error("invalid boolean")]
    Boolean,
    #[error("unbalanced quotes")]
    Quotes,
    #[error("unable to parse integer {text}: strconv.ParseInt: parsing \"{text}\": value out of range")]
    IntegerRange { text: String },
    #[error("unable to parse unsigned {text}: strconv.ParseUint: parsing \"{text}\": value out of range")]
    UnsignedRange { text: String },
    #[error("bad timestamp")]
    Timestamp,
    #[error("strconv.ParseInt: parsing \"{text}\": value out of range")]
    TimestampRange { text: String },
    #[error("time outside range {FIRST_NS} - {LAST_NS}")]
    TimeRange,
    #[error("point is invalid")]
    Trailing,
    #[error("max key length exceeded: {len} > {MAX_KEY_BYTES}")]
    KeyTooLong { len: usize },
    #[error("invalid tag key: input tag \"time\" on measurement \"{measurement}\" is invalid")]
    TimeTag { measurement: String },
    #[error("invalid field name: input field \"time\" on measurement \"{measurement}\" is invalid")]
    TimeField { measurement: String },
    #[error("not UTF-8")]
    NotUtf8,
    #[error("line of {len} bytes, the limit is {MAX_LINE_BYTES}")]
    TooLong { len: usize },
}

impl Fault {
    /// Whether the line itself can be read, and the server refuses its point later, on storing it.
    #[must_use]
    pub const fn is_of_the_point(&self) -> bool {
        matches!(self, Fault::TimeTag { .. } | Fault::TimeField { .. })
    }

    /// A few words without anything from outside, to count by.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Fault::NoMeasurement => "missing measurement",
            Fault::NoTagKey | Fault::NoTagValue | Fault::TagFormat | Fault::DuplicateTags | Fault::TimeTag { .. } => {
                "bad tags"
            }
            Fault::NoFields
            | Fault::NoFieldKey
            | Fault::NoFieldValue
            | Fault::FieldFormat
            | Fault::TimeField { .. } => "bad fields",
            Fault::Number
            | Fault::Float
            | Fault::Boolean
            | Fault::IntegerRange { .. }
            | Fault::UnsignedRange { .. } => "bad value",
            Fault::Quotes => "unbalanced quotes",
            Fault::Timestamp | Fault::TimestampRange { .. } | Fault::TimeRange | Fault::Trailing => "bad timestamp",
            Fault::KeyTooLong { .. } | Fault::TooLong { .. } => "too long",
            Fault::NotUtf8 => "not UTF-8",
        }
    }

    /// The whole sentence about a line, as the server writes it; a long line is cut.
    #[must_use]
    pub fn about(&self, line: &[u8]) -> String {
        if self.is_of_the_point() {
            return self.to_string();
        }
        let cut = &line[..line.len().min(QUOTED_BYTES)];
        let dots = if cut.len() < line.len() { "…" } else { "" };
        format!("unable to parse '{}{dots}': {self}", String::from_utf8_lossy(cut))
    }
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    Nanos,
    Micros,
    Millis,
    Seconds,
    Minutes,
    Hours,
}

impl Precision {
    /// The precision of a word of any of the servers: `n ns u us µ µs ms s m h`; none, and the empty word, are nanoseconds.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Precision> {
        Some(match word {
            "" | "n" | "ns" => Precision::Nanos,
            "u" | "us" | "µ" | "µs" => Precision::Micros,
            "ms" => Precision::Millis,
            "s" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    /// The instant that a line's timestamp stands for.
    ///
    /// # Errors
    /// [`Fault::TimeRange`]: not within the 584 years that nanoseconds reach.
    pub fn instant(self, time: i64) -> Result<UnixNanos, Fault> {
        let unit_ns = match self {
            Precision::Nanos => 1,
            Precision::Micros => 1_000,
            Precision::Millis => 1_000_000,
            Precision::Seconds => 1_000_000_000,
            Precision::Minutes => 60_000_000_000,
            Precision::Hours => 3_600_000_000_000,
        };
        let ns = time.checked_mul(unit_ns).filter(|ns| (FIRST_NS..=LAST_NS).contains(ns));
        ns.map(UnixNanos).ok_or(Fault::TimeRange)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Nanos => "ns",
            Precision::Micros => "us",
            Precision::Millis => "ms",
            Precision::Seconds => "s",
            Precision::Minutes => "m",
            Precision::Hours => "h",
        })
    }
}

/// The lines of a text that hold points: without comments, blank lines and leading space. A line end within a quoted
/// text belongs to the text.
#[must_use]
pub fn lines(text: &[u8]) -> Lines<'_> {
    Lines { rest: text }
}

/// See [`lines`].
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let start = self.rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0))?;
            self.rest = &self.rest[start..];
            let comment = self.rest[0] == b'#';
            let end = if comment { memchr::memchr(b'\n', self.rest) } else { line::end(self.rest) };
            let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            if !comment {
                return Some(line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
    }
}

/// Reads one line, as [`lines`] gives it.
///
/// # Errors
/// What is wrong with it, in the server's words.
pub fn parse(line: &[u8]) -> Result<Line, Fault> {
    line::parse(line)
}

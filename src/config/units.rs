//! Durations and sizes as people write them: `"5s"`, `"1h30m"`, `"64 MiB"`, `"10 GB"`.
//!
//! Use [`Interval`] and [`ByteSize`] as field types, or `#[serde(with = "units::duration")]` and
//! `#[serde(with = "units::bytes")]` (then also `#[schemars(with = "units::Interval")]`) where a
//! plain `Duration` or `u64` is wanted. A number without a unit is refused: nobody can tell seconds from minutes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tapedeck_market::UnixNanos;

/// Units of time with their length in nanoseconds, longest first.
const TIME_UNITS: [(&str, u64); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size with their length in bytes; binary ones first, because they are what is printed.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Digits of a fraction that can matter: more would be below a nanosecond or a byte of a TiB.
const FRACTION_DIGITS: usize = 12;

/// A text that is no duration or no size, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    why: String,
}

/// A wait or an age, written like `5s`, `250ms` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(pub Duration);

/// A number of bytes, written like `64 MiB` or `10 GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Parses `5s`, `250ms`, `1h30m`, `1.5s`, `30d`.
///
/// # Errors
/// Names the text and what is wrong with it: no unit, an unknown one, too large.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let refuse = |why: String| UnitError { text: text.to_owned(), what: "duration", why };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refuse("it is empty; write `5s`".to_owned()));
    }
    let mut total_ns = 0_u64;
    while !rest.is_empty() {
        let (number, after) =
            take_number(rest).ok_or_else(|| refuse("write a number and a unit, as in `5s`".into()))?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = if unit == "µs" { "us" } else { unit };
        let Some((_, unit_ns)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(refuse(match unit {
                "" => format!("which unit? Write `{text}s`, `{text}m` or `{text}h`"),
                _ => format!("`{unit}` is no unit; there are w, d, h, m, s, ms, us and ns"),
            }));
        };
        let part = scale(number, *unit_ns).ok_or_else(|| refuse("it is too large".to_owned()))?;
        total_ns = total_ns.checked_add(part).ok_or_else(|| refuse("it is too large".to_owned()))?;
        rest = next.trim_start();
    }
    Ok(Duration::from_nanos(total_ns))
}

/// Parses an instant: RFC 3339, or a date with or without a time, then in UTC.
#[must_use]
pub fn parse_instant(text: &str) -> Option<UnixNanos> {
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    i64::try_from(instant.as_nanosecond()).ok().map(UnixNanos)
}

/// Parses `64 MiB`, `10 GB`, `512 B`.
///
/// # Errors
/// Names the text and what is wrong with it: no unit, an unknown one, too large.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let refuse = |why: String| UnitError { text: text.to_owned(), what: "size", why };
    let (number, unit) = take_number(text.trim()).ok_or_else(|| refuse("write it as in `64 MiB`".to_owned()))?;
    let unit = unit.trim();
    let Some((_, unit_bytes)) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        let text = text.trim();
        return Err(refuse(match unit {
            "" => format!("which unit? Write `{text} B` or `{text} MiB`"),
            _ => format!("`{unit}` is no unit; there are B, KiB, MiB, GiB, TiB, kB, MB, GB and TB"),
        }));
    };
    scale(number, *unit_bytes).ok_or_else(|| refuse("it is too large".to_owned()))
}

/// The shortest text that [`parse_duration`] reads back as the same duration: `1h30m`, `250ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut left_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if left_ns == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Weeks are read but not printed: "30d" says more than "4w2d".
    for (unit, unit_ns) in &TIME_UNITS[1..] {
        if left_ns >= *unit_ns {
            text.push_str(&format!("{}{unit}", left_ns / unit_ns));
            left_ns %= unit_ns;
        }
    }
    text
}

/// An exact text for [`parse_bytes`]: the largest unit that divides it.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let (unit, unit_bytes) =
        SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)).unwrap_or(&("B", 1));
    format!("{} {unit}", bytes / unit_bytes)
}

/// A size for people, to three digits: `1.42 GiB`.
#[must_use]
pub fn about_bytes(bytes: u64) -> String {
    let Some((unit, unit_bytes)) = SIZE_UNITS[..4].iter().find(|(_, unit)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = bytes as f64 / *unit_bytes as f64;
    let digits = if value >= 100.0 { 0 } else { 1 + usize::from(value < 10.0) };
    format!("{value:.digits$} {unit}")
}

/// The digits before and after the point.
type Number<'a> = (&'a str, &'a str);

fn take_number(text: &str) -> Option<(Number<'_>, &str)> {
    let whole_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(whole_end);
    if whole.is_empty() {
        return None;
    }
    let Some(fraction) = rest.strip_prefix('.') else {
        return Some(((whole, ""), rest));
    };
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    (end > 0 && end <= FRACTION_DIGITS).then(|| ((whole, &fraction[..end]), &fraction[end..]))
}

/// `number * unit` in whole units, cut below one; no float is involved.
fn scale((whole, fraction): Number<'_>, unit: u64) -> Option<u64> {
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit);
    let fraction = match fraction {
        "" => 0,
        // At most FRACTION_DIGITS digits, so neither the value nor the power overflows.
        digits => digits.parse::<u128>().ok()? * u128::from(unit) / 10_u128.pow(u32::try_from(digits.len()).ok()?),
    };
    u64::try_from(whole + fraction).ok()
}

impl FromStr for Interval {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_duration(text).map(Interval)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_bytes(text).map(ByteSize)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_duration(self.0))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration::deserialize(deserializer).map(Interval)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes::deserialize(deserializer).map(ByteSize)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Interval {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Interval".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?\s*(w|d|h|m|s|ms|us|µs|ns)\s*)+$",
            "examples": ["5s", "250ms", "1h30m"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*\d+(\.\d+)?\s*([kKMGT]i?)?[bB]\s*$",
            "examples": ["64 MiB", "10 GB"],
        })
    }
}

/// `#[serde(with = "units::duration")]` for a plain `Duration`.
pub mod duration {
    use super::*;

    /// # Errors
    /// Not a text with a number and a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Text { what: "a duration such as \"5s\"", parse: parse_duration })
    }

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(*value))
    }
}

/// `#[serde(with = "units::bytes")]` for a plain `u64`.
pub mod bytes {
    use super::*;

    /// # Errors
    /// Not a text with a number and a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Text { what: "a size such as \"64 MiB\"", parse: parse_bytes })
    }

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_bytes(*value))
    }
}

/// Reads a text through `parse`; a number gets the parser's own words about its missing unit.
struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, UnitError>,
}

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match (self.parse)(&number.to_string()) {
            Err(error) => Err(E::custom(error)),
            Ok(_) => Err(E::invalid_type(de::Unexpected::Signed(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let cases = [
            ("5s", 5_000_000_000),
            ("250ms", 250_000_000),
            ("1h30m", 5_400_000_000_000),
            (" 1h 30m ", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("30d", 2_592_000_000_000_000),
            ("2w", 1_209_600_000_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("0s", 0),
        ];
        for (text, want_ns) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(want_ns)), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        let cases =
            [("64 MiB", 67_108_864), ("64MiB", 67_108_864), ("10 GB", 10_000_000_000), ("1.5 KiB", 1_536), ("9 b", 9)];
        for (text, want) in cases {
            assert_eq!(parse_bytes(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_asked_for_its_unit() {
        let error = parse_duration("30").map_err(|error| error.to_string());
        assert_eq!(error, Err("`30` is no duration: which unit? Write `30s`, `30m` or `30h`".to_owned()));
        let error = parse_bytes("4096").map_err(|error| error.to_string());
        assert_eq!(error, Err("`4096` is no size: which unit? Write `4096 B` or `4096 MiB`".to_owned()));
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in ["", "s", "5 parsecs", "-5s", "5s!", ".5s", "1.s", "99999999999999999999s", "600000w"] {
            assert!(parse_duration(text).is_err_and(|error| error.text == text), "{text}");
        }
        for text in ["", "MiB", "5 M", "-1 B", "20000000 TiB", "1..5 B"] {
            assert!(parse_bytes(text).is_err_and(|error| error.text == text), "{text}");
        }
    }

    #[test]
    fn sizes_for_people_have_three_digits() {
        for (bytes, want) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.50 KiB"), (67_108_864, "64.0 MiB")] {
            assert_eq!(about_bytes(bytes), want);
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ns in any::<u64>()) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_printed_size_reads_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,24}") {
            let _ = (parse_duration(&text), parse_bytes(&text));
        }
    }
}

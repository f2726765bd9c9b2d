//! SQLite's values, which have types of their own, by what their column is declared as.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use rusqlite::types::ValueRef;

use crate::sync::{Type, Value, json};

/// Columns of these names hold the time of a row, where none is declared as one; the first of the list that is there.
const TIME_NAMES: [&str; 6] = ["ts", "timestamp", "time", "datetime", "date", "created_at"];

/// What a column holds, by its declared type, as SQLite itself guesses, with what people mean by words that it does not know.
pub(super) fn kind(declared: &str) -> Type {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["TIMESTAMP", "DATE", "TIME"]) {
        Type::Time { nanos: true }
    } else if has(&["BOOL"]) {
        Type::Bool
    } else if has(&["JSON"]) {
        Type::Json
    } else if has(&["INT", "LONG"]) {
        Type::Int
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Type::Double
    } else if has(&["DEC", "NUM"]) {
        Type::Decimal
    } else {
        Type::Text
    }
}

/// Place of the column that holds the time of a row, and whether its declared type does not say so.
pub(super) fn time_column(columns: &[(String, Type)]) -> Option<usize> {
    let declared = columns.iter().position(|(_, kind)| matches!(kind, Type::Time { .. }));
    let named = |name: &str| columns.iter().position(|(column, _)| column.eq_ignore_ascii_case(name));
    TIME_NAMES.iter().find_map(|name| named(name)).or(declared)
}

/// A value; what does not fit its column is given as what it is.
pub(super) fn value(raw: ValueRef<'_>, kind: Type) -> Value {
    match (raw, kind) {
        (ValueRef::Null, _) => Value::Null,
        (raw, Type::Time { .. }) => time_ns(raw).map_or_else(|| plain(raw), Value::Time),
        (ValueRef::Integer(number @ (0 | 1)), Type::Bool) => Value::Bool(number == 1),
        (ValueRef::Integer(number), Type::Decimal) => Value::Decimal(number.to_string()),
        (ValueRef::Text(bytes), Type::Decimal) => {
            let text = String::from_utf8_lossy(bytes);
            // SQLite keeps as text what a double would change.
            if is_decimal(&text) { Value::Decimal(text.into_owned()) } else { Value::Text(text.into_owned()) }
        }
        (ValueRef::Text(bytes), Type::Json) => {
            std::str::from_utf8(bytes).ok().and_then(json::plain).map_or_else(|| plain(raw), Value::Json)
        }
        (raw, _) => plain(raw),
    }
}

fn plain(raw: ValueRef<'_>) -> Value {
    match raw {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Double(number),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Text(BASE64.encode(bytes)),
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !whole.is_empty() && all(whole) && all(part)
}

/// A moment, in ns since 1970: an ISO text (UTC where it names no offset), or a number of seconds, milliseconds, microseconds or
/// nanoseconds, whichever makes it one between 1973 and 2262.
pub(super) fn time_ns(raw: ValueRef<'_>) -> Option<i64> {
    match raw {
        ValueRef::Integer(number) => number.checked_mul(unit_ns(number.unsigned_abs())),
        ValueRef::Real(number) if number.is_finite() && number.abs() < 1e18 => {
            let whole = number.trunc() as i64;
            let unit = unit_ns(whole.unsigned_abs());
            whole.checked_mul(unit)?.checked_add((number.fract() * unit as f64).round() as i64)
        }
        ValueRef::Text(bytes) => of_text(std::str::from_utf8(bytes).ok()?.trim()),
        _ => None,
    }
}

fn unit_ns(number: u64) -> i64 {
    match number {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

fn of_text(text: &str) -> Option<i64> {
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            if let Ok(number) = text.parse::<i64>() {
                return number.checked_mul(unit_ns(number.unsigned_abs()));
            }
            let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(Into::into)).ok()?;
            civil.to_zoned(TimeZone::UTC).ok()?.timestamp()
        }
    };
    i64::try_from(moment.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_however_they_are_written() {
        let noon = 1_767_268_800_000_000_000;
        for text in [
            "2026-01-01T12:00:00Z",
            "2026-01-01 12:00:00",
            "2026-01-01 12:00",
            "2026-01-01T13:00:00+01:00",
            "2026-01-01T12:00:00.000000000",
            " 2026-01-01 12:00:00.000 ",
        ] {
            assert_eq!(time_ns(ValueRef::Text(text.as_bytes())), Some(noon), "{text}");
        }
        assert_eq!(time_ns(ValueRef::Text(b"2026-01-01")), Some(noon - 43_200_000_000_000));
        for number in [1_767_268_800, 1_767_268_800_000, 1_767_268_800_000_000, noon] {
            assert_eq!(time_ns(ValueRef::Integer(number)), Some(noon), "{number}");
        }
        assert_eq!(time_ns(ValueRef::Real(1_767_268_800.25)), Some(noon + 250_000_000));
        assert_eq!(time_ns(ValueRef::Text(b"1767268800000")), Some(noon));
        for text in ["", "yesterday", "2026-13-01", "12:00"] {
            assert_eq!(time_ns(ValueRef::Text(text.as_bytes())), None, "{text}");
        }
        assert_eq!(time_ns(ValueRef::Real(f64::INFINITY)), None);
    }

    #[test]
    fn values_keep_what_they_are_where_their_column_says_something_else() {
        assert_eq!(value(ValueRef::Integer(1), Type::Bool), Value::Bool(true));
        assert_eq!(value(ValueRef::Integer(2), Type::Bool), Value::Int(2));
        assert_eq!(value(ValueRef::Text(b"x"), Type::Int), Value::Text("x".into()));
        assert_eq!(value(ValueRef::Text(b"1.10"), Type::Decimal), Value::Decimal("1.10".into()));
        assert_eq!(value(ValueRef::Text(b"1.1.0"), Type::Decimal), Value::Text("1.1.0".into()));
        assert_eq!(value(ValueRef::Text(b"{\"a\":1}"), Type::Json), Value::Json("{\"a\":1}".into()));
        let exact = value(ValueRef::Text(b"{\"a\": 0.10000000000000000001}"), Type::Json);
        assert_eq!(exact, Value::Json("{\"a\":0.10000000000000000001}".into()));
        assert_eq!(value(ValueRef::Text(b"{"), Type::Json), Value::Text("{".into()));
        assert_eq!(value(ValueRef::Text(b"soon"), Type::Time { nanos: true }), Value::Text("soon".into()));
        assert_eq!(value(ValueRef::Blob(b"\0\xff"), Type::Text), Value::Text("AP8=".into()));
        assert_eq!(value(ValueRef::Real(f64::INFINITY), Type::Double), Value::Double(f64::INFINITY));
    }

    #[test]
    fn the_time_of_a_row_is_found_by_name_or_type() {
        let columns = |list: &[(&str, &str)]| -> Vec<(String, Type)> {
            list.iter().map(|(name, declared)| ((*name).to_owned(), kind(declared))).collect()
        };
        assert_eq!(time_column(&columns(&[("symbol", "TEXT"), ("TS", "TEXT")])), Some(1));
        assert_eq!(time_column(&columns(&[("born", "DATE"), ("x", "INT")])), Some(0));
        assert_eq!(time_column(&columns(&[("updated", "DATETIME"), ("timestamp", "TEXT")])), Some(1));
        assert_eq!(time_column(&columns(&[("symbol", "TEXT")])), None);
        assert_eq!(kind("varchar(10)"), Type::Text);
        assert_eq!(kind(""), Type::Text);
    }
}

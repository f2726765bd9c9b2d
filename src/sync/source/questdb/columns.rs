//! Columns: what each type is asked for as, and how its answer becomes a [`Value`].
//!
//! Most types are sent in PostgreSQL's binary form as they are. Those whose answer would lose something are cast: times to a long
//! (the protocol knows microseconds only), decimals to their text, and geohashes and IPv4 addresses, which the server (9.3.4)
//! sends with a wrong length, so that the whole answer cannot be read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type as PgType};

use super::names::quoted;
use crate::sync::{Class, Column, Schema, Trouble, Type, Value};

/// How the answer of a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Bool,
    Short,
    Int,
    Long,
    Float,
    Double,
    Text,
    /// A text where nothing is NULL.
    Geohash,
    Decimal,
    /// A long of ticks.
    Time {
        unit_ns: i64,
    },
    Uuid,
    Binary,
    Array,
}

/// The type, how it is read, and what it is cast to for that.
fn of(native: &str) -> (Type, How, Option<&'static str>) {
    let word = native.split('(').next().unwrap_or_default();
    if native.contains('[') {
        return (Type::Json, How::Array, None);
    }
    match word {
        "BOOLEAN" => (Type::Bool, How::Bool, None),
        "BYTE" | "SHORT" => (Type::Int, How::Short, None),
        "INT" => (Type::Int, How::Int, None),
        "LONG" => (Type::Int, How::Long, None),
        "FLOAT" => (Type::Double, How::Float, None),
        "DOUBLE" => (Type::Double, How::Double, None),
        "DECIMAL" => (Type::Decimal, How::Decimal, Some("varchar")),
        "DATE" => (Type::Time { nanos: false }, How::Time { unit_ns: 1_000_000 }, Some("long")),
        "TIMESTAMP" => (Type::Time { nanos: false }, How::Time { unit_ns: 1_000 }, Some("long")),
        "TIMESTAMP_NS" => (Type::Time { nanos: true }, How::Time { unit_ns: 1 }, Some("long")),
        "UUID" => (Type::Text, How::Uuid, None),
        "BINARY" => (Type::Text, How::Binary, None),
        "GEOHASH" => (Type::Text, How::Geohash, Some("varchar")),
        "SYMBOL" | "STRING" | "VARCHAR" | "CHAR" | "LONG256" => (Type::Text, How::Text, None),
        // IPv4, and types of a newer server: their text.
        _ => (Type::Text, How::Text, Some("varchar")),
    }
}

/// The type that we call it.
pub(super) fn kind(native: &str) -> Type {
    of(native).0
}

/// Ticks of the designated timestamp, in nanoseconds.
pub(super) fn tick_ns(schema: &Schema) -> i64 {
    match schema.time.and_then(|at| schema.columns.get(at)).map(|column| column.kind) {
        Some(Type::Time { nanos: true }) => 1,
        _ => 1_000,
    }
}

/// What reads rows of a schema.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub list: String,
    columns: Vec<(Column, How)>,
}

impl Reader {
    pub(super) fn new(schema: &Schema) -> Reader {
        let expression = |column: &Column| {
            let name = quoted(&column.name);
            of(&column.native).2.map_or_else(|| name.clone(), |cast| format!("{name}::{cast}"))
        };
        let list: Vec<String> = schema.columns.iter().map(expression).collect();
        let columns = schema.columns.iter().map(|column| (column.clone(), of(&column.native).1)).collect();
        Reader { list: list.join(", "), columns }
    }

    /// The values of a row.
    ///
    /// # Errors
    /// The server sent what does not fit its own type.
    pub(super) fn values(&self, row: &Row) -> Result<Vec<Value>, Trouble> {
        let value = |(at, (column, how)): (usize, &(Column, How))| {
            let Some(bytes) = raw(row, at) else { return Ok(Value::Null) };
            let kind = row.columns().get(at).map(tokio_postgres::Column::type_);
            if !kind.is_some_and(|kind| fits(*how, kind)) {
                let words = format!(
                    "column `{}` is no {} any more: the table was changed while it was read",
                    column.name, column.native
                );
                return Err(Trouble::new(Class::Server, words));
            }
            read(*how, bytes).ok_or_else(|| {
                let words = format!("column `{}`: {} bytes are no {}", column.name, bytes.len(), column.native);
                Trouble::new(Class::Server, words)
            })
        };
        self.columns.iter().enumerate().map(value).collect()
    }
}

/// The bytes of an answer; `None`: NULL.
pub(super) fn raw(row: &Row, at: usize) -> Option<&[u8]> {
    struct Raw<'a>(&'a [u8]);
    impl<'a> FromSql<'a> for Raw<'a> {
        fn from_sql(_: &PgType, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
            Ok(Raw(raw))
        }
        fn accepts(_: &PgType) -> bool {
            true
        }
    }
    row.try_get::<_, Option<Raw<'_>>>(at).ok().flatten().map(|raw| raw.0)
}

/// A whole number, of whatever width.
pub(super) fn int(row: &Row, at: usize) -> Option<i64> {
    whole(raw(row, at)?)
}

/// A text.
pub(super) fn text(row: &Row, at: usize) -> Option<String> {
    raw(row, at).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn flag(row: &Row, at: usize) -> bool {
    raw(row, at) == Some(&[1])
}

fn whole(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// Whether an answer of that type may be what was asked for, and not what a column has become meanwhile.
fn fits(how: How, kind: &PgType) -> bool {
    let floating = [PgType::FLOAT4, PgType::FLOAT8].contains(kind);
    let whole = [PgType::INT2, PgType::INT4, PgType::INT8].contains(kind);
    match how {
        How::Float | How::Double => floating,
        How::Short | How::Int | How::Long | How::Time { .. } => whole,
        How::Text | How::Geohash | How::Decimal => !floating && !whole && *kind != PgType::BOOL,
        How::Bool | How::Uuid | How::Binary | How::Array => true,
    }
}

fn read(how: How, bytes: &[u8]) -> Option<Value> {
    let owned = || String::from_utf8_lossy(bytes).into_owned();
    Some(match how {
        How::Bool => Value::Bool(*bytes.first()? != 0),
        How::Short | How::Int | How::Long => Value::Int(whole(bytes)?),
        How::Float => float(f32::from_be_bytes(bytes.try_into().ok()?))?,
        How::Double => double(f64::from_be_bytes(bytes.try_into().ok()?)),
        How::Text => Value::Text(owned()),
        How::Geohash if bytes.is_empty() => Value::Null,
        How::Geohash => Value::Text(owned()),
        How::Decimal => Value::Decimal(owned()),
        How::Time { unit_ns } => time(whole(bytes)?, unit_ns),
        How::Uuid => Value::Text(uuid::Uuid::from_slice(bytes).ok()?.to_string()),
        How::Binary => Value::Text(BASE64.encode(bytes)),
        How::Array => Value::Json(array(bytes)?.to_string()),
    })
}

fn double(number: f64) -> Value {
    if number.is_nan() { Value::Null } else { Value::Double(number) }
}

/// As the server shows it: 1.1 is 1.1, not 1.10000002384185791.
fn float(number: f32) -> Option<Value> {
    if number.is_finite() { Some(Value::Double(number.to_string().parse().ok()?)) } else { Some(double(number.into())) }
}

/// One that is too far away for nanoseconds in 64 bits (before 1677, after 2262) is given as its text, which is no time.
fn time(ticks: i64, unit_ns: i64) -> Value {
    if let Some(nanos) = ticks.checked_mul(unit_ns) {
        return Value::Time(nanos);
    }
    let seconds = ticks.div_euclid(1_000_000_000 / unit_ns);
    let rest_ns = ticks.rem_euclid(1_000_000_000 / unit_ns) * unit_ns;
    let moment = i32::try_from(rest_ns).ok().and_then(|rest| jiff::Timestamp::new(seconds, rest).ok());
    Value::Text(moment.map_or_else(|| format!("{seconds} s since 1970"), |moment| moment.to_string()))
}

/// `dimensions, flags, type, (length, lower bound) a dimension, (length, element)…`, all numbers of 4 bytes.
fn array(bytes: &[u8]) -> Option<serde_json::Value> {
    fn number(bytes: &mut &[u8]) -> Option<i32> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(i32::from_be_bytes(*head))
    }
    fn level(shape: &[usize], bytes: &mut &[u8]) -> Option<serde_json::Value> {
        let Some((len, inner)) = shape.split_first() else {
            let len = number(bytes)?;
            let Ok(len) = usize::try_from(len) else { return Some(serde_json::Value::Null) };
            let (element, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            let double = f64::from_be_bytes(element.try_into().ok()?);
            // JSON knows neither NaN nor infinities.
            return Some(serde_json::Number::from_f64(double).map_or(serde_json::Value::Null, Into::into));
        };
        // Grown as elements come, not as the server announces them.
        let mut list = Vec::new();
        for _ in 0..*len {
            list.push(level(inner, bytes)?);
        }
        Some(list.into())
    }
    let mut rest = bytes;
    let dimensions = number(&mut rest)?;
    let (_flags, _type) = (number(&mut rest)?, number(&mut rest)?);
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(usize::try_from(number(&mut rest)?).ok()?);
        let _lower = number(&mut rest)?;
    }
    if shape.is_empty() {
        return Some(serde_json::Value::Array(Vec::new()));
    }
    level(&shape, &mut rest)
}

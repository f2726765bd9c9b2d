//! One field of a document: where its value comes from, and the form in which the target keeps it whole.

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};
use std::path::Path;
use tapedeck_market::SmolStr;

use super::expression::{Expression, Names};
use super::lookup::Lookup;
use super::settings::{FieldSettings, Null};
use super::{Refused, shown, usual};
use crate::sync::{Schema, Type, Value, json as exact_json};

/// Integers beyond do not all have a double of their own.
const EXACT_MAX: u64 = 1 << 53;

/// Form of a field at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A double; what a double does not hold exactly is refused.
    Number,
    /// A double that is a whole number.
    Integer,
    Text,
    Bool,
    /// Numbers here may be absent: the target keeps null.
    Json,
    /// The target's own dates, to the millisecond; a finer time is refused.
    Date,
    /// A time as text of one width, as fine as the source has it, so that texts sort as times do.
    Time {
        nanos: bool,
    },
}

impl Kind {
    const WORDS: [&str; 7] = ["text", "number", "integer", "bool", "json", "date", "time"];

    /// As the config has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Integer => "integer",
            Kind::Text => "text",
            Kind::Bool => "bool",
            Kind::Json => "json",
            Kind::Date => "date",
            Kind::Time { .. } => "time",
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "number" => Kind::Number,
            "integer" => Kind::Integer,
            "text" => Kind::Text,
            "bool" => Kind::Bool,
            "json" => Kind::Json,
            "date" => Kind::Date,
            // How fine is said by the column.
            "time" => Kind::Time { nanos: false },
            other => return Err(serde::de::Error::unknown_variant(other, &Kind::WORDS)),
        })
    }
}

impl JsonSchema for Kind {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Kind".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Kind::WORDS })
    }
}

/// A field that a collection must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: SmolStr,
    pub kind: Kind,
}

/// Where a value comes from, and what becomes of it.
#[derive(Debug)]
pub(super) struct Field {
    origin: Origin,
    kind: Kind,
    null: Null,
}

#[derive(Debug)]
enum Origin {
    Column(usize),
    Lookup { key: usize, file: Lookup },
    Constant(serde_json::Value),
    Expression(Expression),
}

impl Field {
    pub(super) fn new(
        settings: &FieldSettings,
        schema: &Schema,
        place: &dyn Fn(&str) -> anyhow::Result<usize>,
        base: &Path,
    ) -> anyhow::Result<Self> {
        let one = "say one of `from`, `lookup` (with `from` and `take`), `value` and `expr`";
        match settings {
            FieldSettings { from: Some(from), lookup: None, value: None, expr: None, .. } => {
                ensure!(settings.by.is_none() && settings.take.is_none() && settings.or_else.is_none(), one);
                let at = place(from)?;
                Field::column(at, schema.columns[at].kind, settings)
            }
            FieldSettings {
                from: Some(from), lookup: Some(path), take: Some(take), value: None, expr: None, ..
            } => {
                let by = settings.by.as_deref().unwrap_or(from);
                let file = Lookup::read(&base.join(path), by, take, settings.or_else.clone())?;
                let kind = settings.form.unwrap_or(Kind::Text);
                Ok(Field { origin: Origin::Lookup { key: place(from)?, file }, kind, null: null(settings, kind)? })
            }
            FieldSettings { from: None, lookup: None, value: Some(value), expr: None, .. } => {
                let value = serde_json::to_value(value).context("value")?;
                let kind = settings.form.unwrap_or(match value {
                    serde_json::Value::Number(_) => Kind::Number,
                    serde_json::Value::Bool(_) => Kind::Bool,
                    serde_json::Value::String(_) => Kind::Text,
                    _ => Kind::Json,
                });
                let plain = match &value {
                    serde_json::Value::Bool(flag) => Value::Bool(*flag),
                    serde_json::Value::Number(number) if kind == Kind::Json => Value::Json(number.to_string()),
                    serde_json::Value::Number(number) => Value::Decimal(number.to_string()),
                    serde_json::Value::String(text) => Value::Text(text.clone()),
                    other => Value::Json(other.to_string()),
                };
                let value = write(&plain, kind).map_err(|why| anyhow::anyhow!("value: {value} {why}"))?;
                Ok(Field { origin: Origin::Constant(value), kind, null: Null::Refuse })
            }
            FieldSettings { from: None, lookup: None, value: None, expr: Some(text), .. } => {
                let kind = settings.form.unwrap_or(Kind::Number);
                let origin = Origin::Expression(Expression::new(text, place)?);
                Ok(Field { origin, kind, null: null(settings, kind)? })
            }
            _ => bail!(one),
        }
    }

    pub(super) fn column(at: usize, column: Type, settings: &FieldSettings) -> anyhow::Result<Self> {
        let kind = match (settings.form, column) {
            (Some(Kind::Time { .. }), Type::Time { nanos }) => Kind::Time { nanos },
            (Some(kind), _) => kind,
            (None, column) => usual(column),
        };
        Ok(Field { origin: Origin::Column(at), kind, null: null(settings, kind)? })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn calculates(&self) -> bool {
        matches!(self.origin, Origin::Expression(_))
    }

    /// Whether it is made of that column alone.
    pub(super) fn reads(&self, at: usize) -> bool {
        matches!(self.origin, Origin::Column(own) if own == at)
    }

    /// Whether it is made of that column, as it is or by a file.
    pub(super) fn takes(&self, at: usize) -> bool {
        match &self.origin {
            Origin::Column(own) => *own == at,
            Origin::Lookup { key, .. } => *key == at,
            Origin::Constant(_) => false,
            Origin::Expression(expression) => expression.places.contains(&at),
        }
    }

    /// What its file of lookups says, in few characters.
    pub(super) fn lookup(&self) -> Option<String> {
        match &self.origin {
            Origin::Lookup { file, .. } => Some(file.digest()),
            _ => None,
        }
    }

    /// Whether its file of lookups is another one than the one that was read.
    pub(super) fn lookup_changed(&self) -> bool {
        matches!(&self.origin, Origin::Lookup { file, .. } if file.has_changed())
    }

    /// Whether equal values of that column, and only they, give equal fields.
    pub(super) fn copies(&self, at: usize) -> bool {
        self.reads(at) && !matches!(self.kind, Kind::Json)
    }

    /// Its value in the document of a row.
    pub(super) fn value(&self, name: &str, row: &[Value], names: Option<&Names>) -> Result<serde_json::Value, Refused> {
        let found;
        let value = match &self.origin {
            Origin::Column(at) => row.get(*at).unwrap_or(&Value::Null),
            Origin::Constant(value) => return Ok(value.clone()),
            Origin::Lookup { key, file } => {
                let key = row.get(*key).and_then(key_text).unwrap_or_default();
                found = file.find(&key).map(|text| Value::Text(text.to_owned())).ok_or_else(|| {
                    refused(
                        name,
                        "is not in the file of lookups",
                        &format!("{name}: {key:?} is not in {}", file.shown()),
                    )
                })?;
                &found
            }
            Origin::Expression(expression) => {
                let names = names.ok_or_else(|| refused(name, "cannot be calculated", name))?;
                let value = expression.value(names);
                found = value.map_err(|why| refused(name, "cannot be calculated", &format!("{name}: {why}")))?;
                &found
            }
        };
        if *value == Value::Null {
            return self.nothing(name);
        }
        write(value, self.kind).map_err(|why| refused(name, why, &format!("{name}: {} {why}", shown(value))))
    }

    fn nothing(&self, name: &str) -> Result<serde_json::Value, Refused> {
        match (self.null, self.kind) {
            (Null::Zero, _) => Ok(json!(0)),
            (Null::Empty, Kind::Json) => Ok(serde_json::Value::Null),
            (Null::Empty, _) => Ok(json!("")),
            (Null::Refuse, _) => Err(refused(name, "has no value", &format!("{name} has no value"))),
        }
    }
}

fn refused(name: &str, rule: &str, reason: &str) -> Refused {
    Refused { rule: format!("{name} {rule}"), reason: reason.to_owned() }
}

/// What an absent value becomes: the target's numbers would silently be 0, its flags false.
fn null(settings: &FieldSettings, kind: Kind) -> anyhow::Result<Null> {
    let usual = match kind {
        Kind::Text | Kind::Json | Kind::Date | Kind::Time { .. } => Null::Empty,
        Kind::Number | Kind::Integer | Kind::Bool => Null::Refuse,
    };
    let null = settings.null.unwrap_or(usual);
    match (null, kind) {
        (Null::Empty, Kind::Number | Kind::Integer | Kind::Bool) => {
            bail!("the target keeps no empty {}: use as = \"json\", or null = \"refuse\"", kind.as_str())
        }
        (Null::Zero, Kind::Number | Kind::Integer | Kind::Json) | (Null::Refuse | Null::Empty, _) => Ok(null),
        (Null::Zero, _) => bail!("null = \"zero\" is for numbers"),
    }
}

/// A value in the form of a field, whole or not at all.
fn write(value: &Value, kind: Kind) -> Result<serde_json::Value, &'static str> {
    const WIDE: &str = "does not fit a number exactly (as = \"text\" keeps it)";
    const INFINITE: &str = "is infinite, which no number there can be (as = \"text\" keeps it)";
    match kind {
        Kind::Number | Kind::Integer => {
            let number = match value {
                Value::Int(number) if number.unsigned_abs() <= EXACT_MAX => return Ok(json!(number)),
                Value::Int(_) => return Err(WIDE),
                Value::Double(number) if number.is_infinite() => return Err(INFINITE),
                Value::Double(number) => *number,
                Value::Decimal(text) => exact(text).ok_or(WIDE)?,
                Value::Text(text) => exact(text.trim()).ok_or("is no number that a double holds exactly")?,
                Value::Time(_) => return Err("is a time (as = \"time\" or \"date\")"),
                _ => return Err("is no number"),
            };
            if kind == Kind::Integer && number.fract() != 0.0 {
                return Err("is no whole number");
            }
            if number.fract() == 0.0 && number.abs() <= EXACT_MAX as f64 {
                return Ok(json!(number as i64));
            }
            Number::from_f64(number).map(serde_json::Value::Number).ok_or(INFINITE)
        }
        Kind::Text => Ok(json!(match value {
            Value::Text(text) | Value::Decimal(text) => text.clone(),
            Value::Double(number) => format!("{number}"),
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Time(ns) => time_text(*ns, true),
            Value::Json(text) => text.clone(),
            Value::Null => String::new(),
        })),
        Kind::Bool => match value {
            Value::Bool(flag) => Ok(json!(flag)),
            Value::Int(0) => Ok(json!(false)),
            Value::Int(1) => Ok(json!(true)),
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Ok(json!(true)),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Ok(json!(false)),
            _ => Err("is neither true nor false"),
        },
        Kind::Json => match value {
            // A text that is JSON is what was meant by it.
            Value::Json(text) | Value::Text(text) => match exact_json::plain(text) {
                // The target keeps a bare number as a double; within an object or a list it keeps its text.
                Some(plain) if plain.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                    write(&Value::Decimal(plain), Kind::Number)
                }
                Some(plain) => exact_json::field(&plain).ok_or("is no JSON"),
                None => Ok(exact_json::quoted(text).into()),
            },
            Value::Bool(_) => write(value, Kind::Bool),
            Value::Int(_) | Value::Double(_) => write(value, Kind::Number),
            // Not a number, which would lose digits.
            Value::Decimal(_) | Value::Time(_) => match write(value, Kind::Text)? {
                serde_json::Value::String(text) => Ok(exact_json::quoted(&text).into()),
                other => Ok(other),
            },
            Value::Null => Ok(serde_json::Value::Null),
        },
        Kind::Date => {
            let ns = instant(value).ok_or("is no time")?;
            if ns % 1_000_000 != 0 {
                return Err("is finer than the millisecond of a date there (as = \"time\" keeps it)");
            }
            Ok(json!(date_text(ns).ok_or("is no time of the years 1 to 9999")?))
        }
        Kind::Time { nanos } => {
            let ns = instant(value).ok_or("is no time")?;
            Ok(json!(time_text(ns, nanos || ns % 1_000 != 0)))
        }
    }
}

/// The double that is that decimal: its shortest text says the same number.
fn exact(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let (wanted, kept) = (plain(text)?, plain(&format!("{number}"))?);
    (wanted == kept).then_some(number)
}

/// Sign, digits without zeros around them, and where the point stands.
fn plain(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, power) = match text.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0').to_owned();
    if digits.is_empty() {
        return Some((false, digits, 0));
    }
    Some((negative, digits, whole.len() as i64 - leading as i64 + power))
}

/// ns since 1970 of a time, or of a text that is one.
pub(super) fn instant(value: &Value) -> Option<i64> {
    match value {
        Value::Time(ns) => Some(*ns),
        Value::Text(text) => {
            let text = text.trim();
            let stamp = text.parse::<Timestamp>().ok().or_else(|| {
                let civil = text.parse::<jiff::civil::DateTime>().ok();
                let day =
                    || text.parse::<jiff::civil::Date>().ok().map(|day| day.to_datetime(jiff::civil::Time::midnight()));
                // Without a zone: UTC, as everything in these stores.
                civil.or_else(day)?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
            })?;
            i64::try_from(stamp.as_nanosecond()).ok()
        }
        _ => None,
    }
}

/// ns since 1970 of a time as a document has it.
#[must_use]
pub fn instant_of(value: &serde_json::Value) -> Option<i64> {
    instant(&Value::Text(value.as_str()?.to_owned()))
}

/// `2026-01-02T03:04:05.000006Z`, always as wide.
#[must_use]
pub fn time_text(ns: i64, nanos: bool) -> String {
    let stamp = Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default();
    if nanos { format!("{stamp:.9}") } else { format!("{stamp:.6}") }
}

/// As the target writes dates: `2026-01-02 03:04:05.000Z`.
#[must_use]
pub fn date_text(ns: i64) -> Option<String> {
    let stamp = Timestamp::from_nanosecond(i128::from(ns)).ok()?;
    let text = format!("{stamp:.3}").replacen('T', " ", 1);
    (text.len() == "2026-01-02 03:04:05.000Z".len()).then_some(text)
}

/// A part of a natural key as text; `None` without a value.
pub(super) fn key_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => format!("{}", number + 0.0),
        Value::Decimal(text) | Value::Text(text) => text.clone(),
        Value::Time(ns) => ns.to_string(),
        Value::Json(text) => text.clone(),
    })
}

/// A name of the source as a name of the target.
pub(super) fn name_of(source: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = source.chars().map(plain).collect();
    match name.as_str() {
        // The target's own.
        "id" => "source_id".to_owned(),
        "collectionId" | "collectionName" | "expand" => format!("{name}_"),
        _ if name.starts_with(|c: char| c.is_ascii_digit()) => format!("_{name}"),
        _ => name,
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name_of(name) == name
}

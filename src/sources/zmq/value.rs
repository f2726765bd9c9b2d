//! Values of a payload, whatever it was written in, and the exact numbers and instants in them.
//!
//! MessagePack and JSON become the same tree. A number of JSON keeps its text; a double of MessagePack has none, so
//! it gets the shortest text that reads back as the same double (what Python prints), and that text becomes the decimal:
//! this is the one door through which a price may come from an `f64`. Depth and number of values are
//! bounded before anything is kept.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tapedeck_market::{Decimal, SmolStr, UnixNanos};

use super::Reject;

/// Lists in lists: deeper than any publisher goes.
pub(super) const MAX_DEPTH: usize = 32;
/// Values of one message: the ticker of 1,434 pairs has 30,000.
pub(super) const MAX_VALUES: u32 = 200_000;

/// A value of a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Val {
    Nil,
    Bool(bool),
    Int(i64),
    UInt(u64),
    /// A double of MessagePack.
    Float(f64),
    /// A number whose text is known: JSON, or a single-precision float of MessagePack.
    Number(SmolStr),
    Text(SmolStr),
    Bytes(Vec<u8>),
    List(Vec<Val>),
    Map(Vec<(SmolStr, Val)>),
}

impl Val {
    pub(super) fn get(&self, key: &str) -> Option<&Val> {
        match self {
            Val::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A scalar as text.
    pub(super) fn text(&self) -> Option<SmolStr> {
        match self {
            Val::Text(text) | Val::Number(text) => Some(text.clone()),
            Val::Int(n) => Some(SmolStr::from(n.to_string())),
            Val::UInt(n) => Some(SmolStr::from(n.to_string())),
            Val::Float(f) => Some(SmolStr::from(format!("{f:?}"))),
            Val::Bool(b) => Some(SmolStr::new_static(if *b { "true" } else { "false" })),
            Val::Nil | Val::Bytes(_) | Val::List(_) | Val::Map(_) => None,
        }
    }

    /// Not told: nil, an empty text, or what Python prints for it.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Val::Nil) || matches!(self, Val::Text(text) if text.trim().is_empty() || text.trim() == "None")
    }

    /// An exact number; `nan` and infinity are none.
    pub(super) fn decimal(&self) -> Result<Decimal, Reject> {
        let parse = |text: &str| Decimal::parse(text.as_bytes()).map_err(|error| Reject::new("number", error));
        match self {
            Val::Int(n) => Decimal::new(*n, 0).ok_or_else(|| Reject::new("number", format!("`{n}` has 19 digits"))),
            // As decimals take it: at most 18 digits.
            Val::UInt(n) => parse(&n.to_string()),
            Val::Float(f) if f.is_finite() => parse(&format!("{f:?}")),
            Val::Float(f) => Err(Reject::new("number", format!("`{f}` is not a number"))),
            Val::Number(text) => parse(text),
            Val::Text(text) => parse(text.trim()),
            other => Err(Reject::new("number", format!("{} is not a number", other.kind()))),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Val::Int(n) => u64::try_from(*n).ok(),
            Val::UInt(n) => Some(*n),
            Val::Number(text) | Val::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// An instant: RFC 3339 text, or a number in `unit`.
    pub(super) fn instant(&self, unit: Unit) -> Result<UnixNanos, Reject> {
        let text = self.text().unwrap_or_default();
        let text = text.trim();
        if let Some(instant) = UnixNanos::parse_rfc3339(text.as_bytes()) {
            return Ok(instant);
        }
        let refuse = || Reject::new("time", format!("`{}` is no instant", shorten(text)));
        let nanos = match text.parse::<i64>() {
            // Nanoseconds have 19 digits, one more than a decimal holds.
            Ok(whole) => unit.nanos(i128::from(whole), 0),
            Err(_) => {
                let number = Decimal::parse(text.as_bytes()).map_err(|_| refuse())?;
                unit.nanos(i128::from(number.mantissa()), number.scale())
            }
        };
        nanos.ok_or_else(refuse)
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Val::Nil => "nil",
            Val::Bool(_) => "a truth value",
            Val::Int(_) | Val::UInt(_) | Val::Float(_) | Val::Number(_) => "a number",
            Val::Text(_) => "a text",
            Val::Bytes(_) => "bytes",
            Val::List(_) => "a list",
            Val::Map(_) => "a map",
        }
    }
}

/// A text from outside, cut for a message.
pub(super) fn shorten(text: &str) -> String {
    const SHOWN: usize = 48;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Unit of a number that stands for an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Unit {
    /// By its size: seconds until the year 5138, then milliseconds, microseconds, nanoseconds.
    #[default]
    Auto,
    S,
    Ms,
    Us,
    Ns,
}

impl Unit {
    /// `mantissa / 10^scale` of this unit, cut below a nanosecond; `None` beyond the years of 64 bits.
    fn nanos(self, mantissa: i128, scale: u8) -> Option<UnixNanos> {
        let one = 10_i128.pow(u32::from(scale));
        let zeros = match self {
            Unit::S => 9,
            Unit::Ms => 6,
            Unit::Us => 3,
            Unit::Ns => 0,
            Unit::Auto => match (mantissa / one).abs() {
                0..100_000_000_000 => 9,
                100_000_000_000..100_000_000_000_000 => 6,
                100_000_000_000_000..100_000_000_000_000_000 => 3,
                _ => 0,
            },
        };
        let nanos = mantissa * 10_i128.pow(zeros) / one;
        i64::try_from(nanos).ok().map(UnixNanos)
    }
}

/// Reads MessagePack: one value and nothing behind it.
pub(super) fn msgpack(bytes: &[u8]) -> Result<Val, Reject> {
    let refuse = |error: &dyn fmt::Display| Reject::new("payload", format!("no MessagePack: {error}"));
    let budget = Cell::new(MAX_VALUES);
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(MAX_DEPTH);
    let value = Seed(&budget).deserialize(&mut reader).map_err(|error| refuse(&error))?;
    let rest = reader.get_ref().len();
    if rest > 0 { Err(refuse(&format!("{rest} bytes behind the value"))) } else { Ok(value) }
}

/// Reads JSON, with the text of its numbers.
pub(super) fn json(bytes: &[u8]) -> Result<Val, Reject> {
    let raw: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| Reject::new("payload", format!("no JSON: {error}")))?;
    let budget = Cell::new(MAX_VALUES);
    from_raw(raw, MAX_DEPTH, &budget)
}

fn from_raw(raw: &RawValue, depth: usize, budget: &Cell<u32>) -> Result<Val, Reject> {
    spend(budget).map_err(|error| Reject::new("payload", error))?;
    let text = raw.get();
    let read_error = |error: serde_json::Error| Reject::new("payload", format!("no JSON: {error}"));
    let deeper = || depth.checked_sub(1).ok_or_else(|| Reject::new("payload", "nested too deep"));
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let depth = deeper()?;
            let entries: RawMap<'_> = serde_json::from_str(text).map_err(read_error)?;
            let read = |(key, raw): (SmolStr, &RawValue)| Ok((key, from_raw(raw, depth, budget)?));
            Val::Map(entries.0.into_iter().map(read).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let depth = deeper()?;
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(read_error)?;
            Val::List(items.into_iter().map(|raw| from_raw(raw, depth, budget)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Val::Text(serde_json::from_str(text).map_err(read_error)?),
        Some(b't') => Val::Bool(true),
        Some(b'f') => Val::Bool(false),
        Some(b'n') => Val::Nil,
        _ => Val::Number(SmolStr::new(text)),
    })
}

/// The entries of an object, in their order.
struct RawMap<'a>(Vec<(SmolStr, &'a RawValue)>);

impl<'de> de::Deserialize<'de> for RawMap<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn spend(budget: &Cell<u32>) -> Result<(), &'static str> {
    let left = budget.get().checked_sub(1).ok_or("more values than a message may have")?;
    budget.set(left);
    Ok(())
}

/// Reads any value, as long as the budget lasts.
#[derive(Clone, Copy)]
struct Seed<'b>(&'b Cell<u32>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Val;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Val, D::Error> {
        spend(self.0).map_err(de::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Val, E> {
        Ok(Val::Nil)
    }
    fn visit_none<E>(self) -> Result<Val, E> {
        Ok(Val::Nil)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Val, E> {
        Ok(Val::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Val, E> {
        Ok(Val::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Val, E> {
        Ok(i64::try_from(value).map_or(Val::UInt(value), Val::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Val, E> {
        Ok(Val::Float(value))
    }
    fn visit_f32<E>(self, value: f32) -> Result<Val, E> {
        // Its own shortest text: 0.1 stays 0.1.
        Ok(if value.is_finite() {
            Val::Number(SmolStr::from(format!("{value:?}")))
        } else {
            Val::Float(f64::from(value))
        })
    }
    fn visit_str<E>(self, value: &str) -> Result<Val, E> {
        Ok(Val::Text(SmolStr::new(value)))
    }
    fn visit_bytes<E>(self, value: &[u8]) -> Result<Val, E> {
        Ok(Val::Bytes(value.to_vec()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Val::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let Some(key) = key.text() else {
                return Err(de::Error::custom("a key is no text"));
            };
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Val::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(value: impl serde::Serialize) -> Vec<u8> {
        rmp_serde::to_vec_named(&value).expect("MessagePack")
    }

    fn decimal(value: &Val) -> Option<String> {
        value.decimal().ok().map(|decimal| decimal.to_string())
    }

    #[test]
    fn a_double_becomes_the_decimal_that_python_prints() {
        for (float, text) in [
            (1.08234, "1.08234"),
            (62_807.0, "62807.0"),
            (0.1, "0.1"),
            (1e-7, "0.0000001"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(decimal(&msgpack(&pack(float)).expect("a value")).as_deref(), Some(text), "{float}");
        }
        assert_eq!(decimal(&msgpack(&pack(0.1_f32)).expect("a value")).as_deref(), Some("0.1"));
        for float in [f64::NAN, f64::INFINITY, 1e300, 1.234_567_890_123_456_7e-5] {
            assert_eq!(decimal(&Val::Float(float)), None, "{float}");
        }
    }

    #[test]
    fn numbers_of_json_and_text_keep_their_digits() {
        let value = json(br#"{"a":62807.10,"b":"0.00000000","c":[1e-8,7],"d":null,"e":true}"#).expect("JSON");
        assert_eq!(value.get("a").and_then(decimal).as_deref(), Some("62807.10"));
        assert_eq!(value.get("b").and_then(decimal).as_deref(), Some("0.00000000"));
        assert_eq!(value.get("c"), Some(&Val::List(vec![Val::Number("1e-8".into()), Val::Number("7".into())])));
        assert_eq!((value.get("d"), value.get("e")), (Some(&Val::Nil), Some(&Val::Bool(true))));
    }

    #[test]
    fn instants_are_text_or_numbers_of_a_unit_told_or_guessed() {
        let at = |value: &Val, unit| value.instant(unit).ok().map(|at| at.0);
        let ns = 1_767_607_200_123_456_789;
        assert_eq!(at(&Val::Text("2026-01-05T10:00:00.123456789Z".into()), Unit::Auto), Some(ns));
        assert_eq!(at(&Val::Int(ns), Unit::Auto), Some(ns));
        assert_eq!(at(&Val::Int(ns / 1_000_000), Unit::Auto), Some(ns / 1_000_000 * 1_000_000));
        assert_eq!(at(&Val::Int(ns / 1_000), Unit::Auto), Some(ns / 1_000 * 1_000));
        assert_eq!(at(&Val::Float(1_767_607_200.5), Unit::Auto), Some(1_767_607_200_500_000_000));
        assert_eq!(at(&Val::Text("1767607200".into()), Unit::Auto), Some(1_767_607_200_000_000_000));
        assert_eq!(at(&Val::Int(5), Unit::Ms), Some(5_000_000));
        for value in [Val::Nil, Val::Text("soon".into()), Val::Float(f64::NAN), Val::Bool(true)] {
            assert_eq!(at(&value, Unit::Auto), None, "{value:?}");
        }
        assert_eq!(at(&Val::Number("99999999999999999".into()), Unit::S), None);
    }

    #[test]
    fn what_is_too_deep_too_much_or_not_all_is_refused() {
        let mut deep = vec![0x91; MAX_DEPTH + 8];
        deep.push(0xc0);
        assert!(msgpack(&deep).is_err());
        assert!(json(format!("{}{}", "[".repeat(40), "]".repeat(40)).as_bytes()).is_err());
        assert!(msgpack(&pack(vec![0_u8; MAX_VALUES as usize])).is_err());
        assert!(json(format!("[{}0]", "0,".repeat(MAX_VALUES as usize)).as_bytes()).is_err());
        assert!(msgpack(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err(), "a list that says it is long");
        assert!(msgpack(&[0xc0, 0xc0]).is_err(), "two values");
        assert!(msgpack(&[0xd4, 1, 2]).is_err(), "an extension");
        assert!(msgpack(&[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = msgpack(&bytes);
            let _ = json(&bytes);
        }

        #[test]
        fn a_double_of_seventeen_digits_comes_back_as_itself(mantissa in 1_u32..u32::MAX, scale in 0_i32..9) {
            let float = f64::from(mantissa) / 10_f64.powi(scale);
            let decimal = Val::Float(float).decimal().expect("it fits");
            proptest::prop_assert_eq!(decimal.to_f64().to_bits(), float.to_bits());
        }
    }
}

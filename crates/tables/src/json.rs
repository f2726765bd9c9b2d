//! Pairs as the text of a JSON object, in their order and with whatever occurs twice, and back.

use std::fmt;
use std::fmt::Write as _;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use tapedeck_market::{Decimal, SmolStr, Value};

/// `{"a":"1","b":"2"}`
pub fn texts<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> String {
    object(pairs, |value, out| string(value.as_ref(), out))
}

/// `{"likes":3}`
pub fn ints(pairs: &[(SmolStr, i64)]) -> String {
    object(pairs, |value, out| {
        let _ = write!(out, "{value}");
    })
}

/// Numbers as numbers, with their digits; `NaN` and infinities as texts, because JSON has none.
pub fn fields(pairs: &[(SmolStr, Value)]) -> String {
    object(pairs, |value, out| match value {
        Value::Text(text) => string(text, out),
        Value::Float(float) if !float.is_finite() => string(&value_text(value), out),
        value => out.push_str(&value_text(value)),
    })
}

/// A field's value as plain text, from which it can be read back.
pub fn value_text(value: &Value) -> SmolStr {
    match value {
        Value::Int(int) => smol(int),
        Value::UInt(int) => smol(int),
        Value::Decimal(decimal) => smol(decimal),
        // The shortest text that reads back as the same double.
        Value::Float(float) if float.is_finite() => smol(&format_args!("{float:?}")),
        Value::Float(float) => smol(float),
        Value::Bool(flag) => smol(flag),
        Value::Text(text) => text.clone(),
    }
}

/// The letter by which `field_types` tells one kind of value from another.
pub fn value_type(value: &Value) -> char {
    match value {
        Value::Int(_) => 'i',
        Value::UInt(_) => 'u',
        Value::Decimal(_) => 'd',
        Value::Float(_) => 'f',
        Value::Bool(_) => 'b',
        Value::Text(_) => 't',
    }
}

/// The nearest double of a number; flags are 0 and 1. A store whose column is a double has its door here.
pub fn value_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::UInt(int) => Some(*int as f64),
        Value::Decimal(decimal) => Some(decimal.to_f64()),
        Value::Float(float) => Some(*float),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Text(_) => None,
    }
}

pub fn parse_value(of_type: char, text: &SmolStr) -> Option<Value> {
    Some(match of_type {
        'i' => Value::Int(text.parse().ok()?),
        'u' => Value::UInt(text.parse().ok()?),
        'd' => Value::Decimal(text.parse::<Decimal>().ok()?),
        'f' => Value::Float(text.parse().ok()?),
        'b' => Value::Bool(text.parse().ok()?),
        't' => Value::Text(text.clone()),
        _ => return None,
    })
}

/// The pairs of an object of texts; empty when it is none.
pub fn parse_texts(json: &str) -> Vec<(SmolStr, SmolStr)> {
    parse::<SmolStrOwned>(json).into_iter().map(|(name, value)| (name, value.0)).collect()
}

pub fn parse_ints(json: &str) -> Vec<(SmolStr, i64)> {
    parse(json)
}

fn smol(value: &dyn fmt::Display) -> SmolStr {
    let mut text = String::new();
    let _ = write!(text, "{value}");
    text.into()
}

fn object<K: AsRef<str>, V>(pairs: &[(K, V)], mut put: impl FnMut(&V, &mut String)) -> String {
    let mut out = String::from("{");
    for (nth, (name, value)) in pairs.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        string(name.as_ref(), &mut out);
        out.push(':');
        put(value, &mut out);
    }
    out.push('}');
    out
}

fn string(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[derive(Debug)]
struct SmolStrOwned(SmolStr);

impl<'de> serde::Deserialize<'de> for SmolStrOwned {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| SmolStrOwned(text.into()))
    }
}

/// An object's pairs in their order, twice where a name occurs twice.
fn parse<T: for<'de> serde::Deserialize<'de>>(json: &str) -> Vec<(SmolStr, T)> {
    struct Pairs<T>(std::marker::PhantomData<T>);
    impl<'de, T: serde::Deserialize<'de>> Visitor<'de> for Pairs<T> {
        type Value = Vec<(SmolStr, T)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, T>()? {
                pairs.push((name.into(), value));
            }
            Ok(pairs)
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_map(Pairs(std::marker::PhantomData)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order_and_what_occurs_twice() {
        let pairs: Vec<(SmolStr, SmolStr)> =
            [("b", "1"), ("a", "\"\n\u{1}é"), ("b", "2")].map(|(a, b)| (a.into(), b.into())).into();
        assert_eq!(parse_texts(&texts(&pairs)), pairs);
        let counts = vec![(SmolStr::from("likes"), i64::MIN), ("likes".into(), 3)];
        assert_eq!(parse_ints(&ints(&counts)), counts);
        assert!(parse_texts("[1]").is_empty());
    }

    #[test]
    fn a_value_reads_back_as_what_it_was() {
        for value in [
            Value::Int(i64::MIN),
            Value::UInt(u64::MAX),
            Value::Decimal("1.50".parse().unwrap()),
            Value::Float(0.1 + 0.2),
            Value::Float(f64::MIN_POSITIVE),
            Value::Float(-0.0),
            Value::Float(f64::NEG_INFINITY),
            Value::Bool(true),
            Value::Text("1".into()),
        ] {
            assert_eq!(parse_value(value_type(&value), &value_text(&value)), Some(value));
        }
        let nan = parse_value('f', &value_text(&Value::Float(f64::NAN)));
        assert!(matches!(nan, Some(Value::Float(nan)) if nan.is_nan()));
        let fields = fields(&[("a".into(), Value::Float(1.0)), ("b".into(), Value::Float(f64::NAN))]);
        assert_eq!(fields, r#"{"a":1.0,"b":"NaN"}"#);
    }
}

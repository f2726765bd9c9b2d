//! JSON with its numbers as they were written: never through a double.
//!
//! ```text
//! source: {"n": 12345678901234567890.10} ─► text, made plain ─► target, as a text that it takes for JSON ─► and back, as text
//! ```
//!
//! A field of JSON in a document is null, a flag, a number that a double holds, or the plain text of anything else: of an object, a
//! list, or a quoted text. The target reads such a text as the JSON that it is, and keeps it character by character.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Deeper is not read: it is a text like any other.
const DEPTH: usize = 64;

/// The text of JSON made plain: without blanks, texts escaped as little as may be, numbers and the order of names as they are. `None`:
/// it is no JSON.
#[must_use]
pub fn plain(text: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len());
    write(raw, DEPTH, &mut out)?;
    Some(out)
}

/// A text as the plain text of a JSON text.
#[must_use]
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A field of JSON as a document has it, from its text; `None`: it is no JSON, or a bare number that no double is.
#[must_use]
pub fn field(text: &str) -> Option<Value> {
    let plain = plain(text)?;
    Some(match plain.as_bytes().first()? {
        b'n' => Value::Null,
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        b'{' | b'[' | b'"' => Value::String(plain),
        _ => Value::Number(plain.parse().ok()?),
    })
}

fn write(raw: &RawValue, depth: usize, out: &mut String) -> Option<()> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'{' => {
            let depth = depth.checked_sub(1)?;
            let Pairs(pairs) = serde_json::from_str(text).ok()?;
            out.push('{');
            for (n, (name, value)) in pairs.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                out.push_str(&quoted(name));
                out.push(':');
                write(value, depth, out)?;
            }
            out.push('}');
        }
        b'[' => {
            let depth = depth.checked_sub(1)?;
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (n, item) in items.into_iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                write(item, depth, out)?;
            }
            out.push(']');
        }
        b'"' => {
            let text: String = serde_json::from_str(text).ok()?;
            out.push_str(&quoted(&text));
        }
        _ => out.push_str(text),
    }
    Some(())
}

/// Names and values of an object, in their order, also where a name comes twice.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_stay_as_they_were_written_and_only_blanks_and_escapes_go() {
        for (text, wanted) in [
            (
                r#" { "n" : 12345678901234567890.10 , "a":[1.0, -0 ,1E400]} "#,
                r#"{"n":12345678901234567890.10,"a":[1.0,-0,1E400]}"#,
            ),
            (r#""\u017c\u003cb\u003e\/""#, "\"ż<b>/\""),
            (r#"{"b":1,"a":2,"b":3}"#, r#"{"b":1,"a":2,"b":3}"#),
            ("0.10000000000000000001", "0.10000000000000000001"),
            ("[]", "[]"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(wanted), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for none in ["", "{", "nope", "01", "[1,]", r#""\ud800""#, "1 2", &deep] {
            assert_eq!(plain(none), None, "{}", &none[..none.len().min(20)]);
        }
    }

    #[test]
    fn a_field_is_what_the_target_gives_back() {
        assert_eq!(field("null"), Some(json!(null)));
        assert_eq!(field(" true"), Some(json!(true)));
        assert_eq!(field("1.50"), Some(json!(1.5)));
        assert_eq!(field(r#"{"a": 1}"#), Some(json!(r#"{"a":1}"#)));
        assert_eq!(field(r#""1""#), Some(json!(r#""1""#)));
        assert_eq!(field("1e999"), None);
    }

    proptest! {
        #[test]
        fn what_is_plain_stays_so_and_any_text_is_read_or_not(text in ".{0,40}", value in any::<i64>(), name in ".{0,8}") {
            let _ = plain(&text);
            let object = json!({ name: [value, text, null, {"x": 1.5}] }).to_string();
            let once = plain(&object).expect("json");
            prop_assert_eq!(plain(&once), Some(once.clone()));
            prop_assert_eq!(serde_json::from_str::<Value>(&once).unwrap(), serde_json::from_str::<Value>(&object).unwrap());
        }
    }
}

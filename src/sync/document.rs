//! What is written to the target: one document a row.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// Identity of a document at the target: 15 characters of `0-9a-z`, a function of the natural key.
///
/// PocketBase's own rule for ids; 77.5 bits, so that two of 10^8 keys meet with odds of 2e-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 15]);

impl Id {
    /// Of the parts of a natural key, in order; each part is told apart from its neighbours by its length.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut key = Vec::new();
        for part in parts {
            key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            key.extend_from_slice(part.as_bytes());
        }
        let hash = digest(&SHA256, &key);
        let (high, low) = hash.as_ref()[..16].split_at(8);
        let number = |half: &[u8]| half.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        let mut rest = u128::from(number(high)) << 64 | u128::from(number(low));
        let mut text = [0; 15];
        for place in &mut text {
            *place = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
        }
        Id(text)
    }

    /// An id as it is written, `None` where it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 15] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()).then_some(Id(bytes))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of ASCII in both ways that there are.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a document says, in 64 bits: equal documents have equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u64);

/// A row as the target keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: Id,
    /// Fields of the mapping, without `id`; keys in the order of the alphabet, whatever order a mapping has.
    pub body: Map<String, Value>,
    /// Time of the row, ns since 1970; which day a document belongs to. 0 where the table has no time.
    pub time_ns: i64,
}

impl Document {
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest_of(&self.body)
    }
}

/// Of fields and their values, whatever order the map keeps them in; numbers that are equal as doubles are equal here (`1` and `1.0`),
/// because that is how the target gives them back.
#[must_use]
pub fn digest_of(body: &Map<String, Value>) -> Digest {
    let mut text = Vec::with_capacity(256);
    write_map(body, &mut text);
    let hash = digest(&SHA256, &text);
    Digest(hash.as_ref()[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

fn write_map(map: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    out.push(b'{');
    out.extend_from_slice(&(fields.len() as u64).to_le_bytes());
    for (name, value) in fields {
        write_text(name, out);
        write_value(value, out);
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(flag) => out.push(if *flag { b't' } else { b'f' }),
        Value::Number(number) => {
            out.push(b'd');
            // -0.0 and 0 are one number.
            let double = number.as_f64().unwrap_or_default() + 0.0;
            out.extend_from_slice(&double.to_bits().to_le_bytes());
        }
        Value::String(text) => {
            out.push(b's');
            write_text(text, out);
        }
        Value::Array(items) => {
            out.push(b'[');
            out.extend_from_slice(&(items.len() as u64).to_le_bytes());
            for item in items {
                write_value(item, out);
            }
        }
        Value::Object(map) => write_map(map, out),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("a map") };
        map
    }

    #[test]
    fn an_id_is_made_of_the_key_alone_and_parts_do_not_run_into_each_other() {
        assert_eq!(Id::of(["PKN", "2026-01-02"]), Id::of(["PKN", "2026-01-02"]));
        assert_ne!(Id::of(["ab", "c"]), Id::of(["a", "bc"]));
        assert_ne!(Id::of(["ab"]), Id::of(["ab", ""]));
    }

    proptest! {
        #[test]
        fn an_id_fits_the_targets_rule_and_comes_back_from_its_text(parts in prop::collection::vec(".*", 1..4)) {
            let id = Id::of(parts.iter().map(String::as_str));
            prop_assert_eq!(id.as_str().len(), 15);
            prop_assert_eq!(Id::parse(id.as_str()), Some(id));
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_how_a_number_is_written_nor_on_the_order_of_fields() {
        let one = body(json!({"a": 1, "b": {"x": 2.5, "y": [0.0, "t"]}}));
        let same = body(json!({"b": {"y": [-0.0, "t"], "x": 2.5}, "a": 1.0}));
        assert_eq!(digest_of(&one), digest_of(&same));
        for other in [
            json!({"a": 1}),
            json!({"a": "1", "b": {"x": 2.5, "y": [0, "t"]}}),
            json!({"a": 1, "b": {"x": 2.5, "y": ["t", 0]}}),
        ] {
            assert_ne!(digest_of(&one), digest_of(&body(other)));
        }
    }
}

//! Rows in the binary form of COPY.
//!
//! ```text
//! PGCOPY\n\377\r\n\0 · u32 flags · u32 more · (i16 columns · (i32 length, or -1 for NULL · bytes)…)… · i16 -1
//! ```

use std::fmt::Write as _;

use memchr::memchr;
use tapedeck_market::{Decimal, Event, Leg, SmolStr, Sum, UnixNanos, Uuid};
use tapedeck_tables::{Column, Columns, LEG_DECIMALS, Rung, Shape, Table, leg_decimals, row};

use super::{layout, numeric};

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: [u8; 2] = (-1_i16).to_be_bytes();
/// Seconds from 1970 to 2000, where the server's times begin.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
const TEXT_OID: i32 = 25;
const FLOAT8_OID: i32 = 701;
/// Before the text of a `jsonb`.
const JSONB_VERSION: u8 = 1;

/// Rows of one table, ready to be sent.
#[derive(Debug)]
pub(super) struct Rows {
    table: Table,
    columns: i16,
    bytes: Vec<u8>,
    pub count: u64,
    refused: Option<String>,
    scratch: String,
}

impl Rows {
    pub(super) fn new(table: Table) -> Rows {
        // A table has some dozens of columns.
        let columns = layout::of(table).len() as i16;
        Rows { table, columns, bytes: HEADER.to_vec(), count: 0, refused: None, scratch: String::new() }
    }

    /// Appends a row. `Err`: it cannot be stored as it is, and why; nothing was appended.
    pub(super) fn push(&mut self, tape: Uuid, seq: u64, event: &Event) -> Result<(), String> {
        let start = self.bytes.len();
        self.bytes.extend(self.columns.to_be_bytes());
        let mut buffer = Uuid::encode_buffer();
        let tape = tape.hyphenated().encode_lower(&mut buffer);
        row(self, self.table, tape, seq, event);
        match self.refused.take() {
            Some(why) => {
                self.bytes.truncate(start);
                Err(why)
            }
            None => {
                self.count += 1;
                Ok(())
            }
        }
    }

    /// All of it, for the wire.
    pub(super) fn finish(mut self) -> bytes::Bytes {
        self.bytes.extend(END);
        self.bytes.into()
    }

    fn null(&mut self) {
        self.bytes.extend((-1_i32).to_be_bytes());
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend((bytes.len() as i32).to_be_bytes());
        self.bytes.extend(bytes);
    }

    /// Writes a value of unknown length.
    fn sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        write(&mut self.bytes);
        // A record is far smaller than 2 GiB: the tape's own limit.
        let length = (self.bytes.len() - at - 4) as i32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.refused.get_or_insert_with(|| format!("`{name}` {why}"));
    }

    /// The server's texts cannot hold it, and to leave it out would be another text.
    fn without_nul(&mut self, name: &str, text: &[u8]) {
        if memchr(0, text).is_some() {
            self.refuse(name, "holds a NUL character, which PostgreSQL cannot store");
        }
    }

    fn jsonb(&mut self, text: &str) {
        self.sized(|out| {
            out.push(JSONB_VERSION);
            out.extend(text.as_bytes());
        });
    }
}

/// Whether a JSON text holds the character NUL, which it can only write as an escape.
fn json_has_nul(text: &str) -> bool {
    let escape = "\\u0000";
    text.match_indices(escape).any(|(at, _)| {
        let before = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        before % 2 == 0
    })
}

impl Columns for Rows {
    fn sum(&mut self, _: Column, value: Option<Sum>) -> Option<Sum> {
        match value {
            Some(value) => self.sized(|out| numeric::put_sum(out, value)),
            None => self.null(),
        }
        None
    }

    fn decimal(&mut self, _: Column, value: Option<Decimal>) -> Option<Decimal> {
        match value {
            Some(value) => self.sized(|out| numeric::put_decimal(out, value)),
            None => self.null(),
        }
        None
    }

    fn count(&mut self, (name, _): Column, value: Option<u64>) -> Option<u64> {
        match value.map(i64::try_from) {
            Some(Ok(value)) => self.fixed(&value.to_be_bytes()),
            Some(Err(_)) => self.refuse(name, "is larger than a signed 64-bit number"),
            None => self.null(),
        }
        None
    }

    fn int(&mut self, _: Column, value: Option<i64>) -> Option<i64> {
        match value {
            Some(value) => self.fixed(&value.to_be_bytes()),
            None => self.null(),
        }
        None
    }

    fn float(&mut self, _: Column, value: Option<f64>) -> Option<f64> {
        match value {
            Some(value) => self.fixed(&value.to_be_bytes()),
            None => self.null(),
        }
        None
    }

    fn flag(&mut self, _: Column, value: Option<bool>) -> Option<bool> {
        match value {
            Some(value) => self.fixed(&[u8::from(value)]),
            None => self.null(),
        }
        None
    }

    fn time(&mut self, _: Column, value: Option<UnixNanos>) -> Option<UnixNanos> {
        match value {
            Some(UnixNanos(ns)) => {
                self.fixed(&(ns.div_euclid(1_000) - EPOCH_US).to_be_bytes());
                match ns.rem_euclid(1_000) as i16 {
                    0 => self.null(),
                    below => self.fixed(&below.to_be_bytes()),
                }
            }
            None => {
                self.null();
                self.null();
            }
        }
        None
    }

    fn text(&mut self, (name, _): Column, value: Option<&str>) -> Option<SmolStr> {
        match value {
            Some(value) => {
                self.without_nul(name, value.as_bytes());
                self.fixed(value.as_bytes());
            }
            None => self.null(),
        }
        None
    }

    fn word(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        self.text(column, value)
    }

    fn uuid(&mut self, (name, _): Column, value: Option<&str>) -> Option<SmolStr> {
        match value.map(Uuid::parse_str) {
            Some(Ok(value)) => self.fixed(value.as_bytes()),
            Some(Err(_)) => self.refuse(name, "is no UUID"),
            None => self.null(),
        }
        None
    }

    fn json(&mut self, (name, _): Column, value: Option<&str>) -> Option<SmolStr> {
        match value {
            Some(value) => {
                if json_has_nul(value) {
                    self.refuse(name, "holds a NUL character, which PostgreSQL cannot store");
                }
                self.fixed(value.as_bytes());
            }
            None => self.null(),
        }
        None
    }

    fn json_to_ask(&mut self, (name, _): Column, value: Option<&str>) -> Option<SmolStr> {
        match value {
            Some(value) => {
                if json_has_nul(value) {
                    self.refuse(name, "holds a NUL character, which PostgreSQL cannot store");
                }
                self.jsonb(value);
            }
            None => self.null(),
        }
        None
    }

    fn bytes(&mut self, _: Column, value: &[u8]) -> Vec<u8> {
        self.fixed(value);
        Vec::new()
    }

    fn texts(&mut self, (name, _): Column, value: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        let texts: Vec<SmolStr> = value.collect();
        for text in &texts {
            self.without_nul(name, text.as_bytes());
        }
        self.sized(|out| {
            array(out, TEXT_OID, texts.len(), false);
            for text in &texts {
                out.extend((text.len() as i32).to_be_bytes());
                out.extend(text.as_bytes());
            }
        });
        Vec::new()
    }

    fn floats(&mut self, _: Column, value: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        let floats: Vec<Option<f64>> = value.collect();
        self.sized(|out| {
            array(out, FLOAT8_OID, floats.len(), floats.contains(&None));
            for float in floats {
                match float {
                    Some(float) => {
                        out.extend(8_i32.to_be_bytes());
                        out.extend(float.to_be_bytes());
                    }
                    None => out.extend((-1_i32).to_be_bytes()),
                }
            }
        });
        Vec::new()
    }

    fn rungs(&mut self, _: Column, shape: Shape, value: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        text.push('[');
        for (nth, Rung { level, price, size, orders }) in value.enumerate() {
            text.push_str(if nth == 0 { "{" } else { ",{" });
            if shape == Shape::Numbered {
                let _ = write!(text, "\"level\":{level},");
            }
            let _ = write!(text, "\"price\":{price},\"size\":{size}");
            if let (Shape::Counted, Some(orders)) = (shape, orders) {
                let _ = write!(text, ",\"orders\":{orders}");
            }
            text.push('}');
        }
        text.push(']');
        self.jsonb(&text);
        self.scratch = text;
        Vec::new()
    }

    fn legs(&mut self, (name, _): Column, value: &[Leg]) -> Vec<Leg> {
        let mut text = String::from("[");
        for (nth, leg) in value.iter().enumerate() {
            self.without_nul(name, leg.instrument.as_bytes());
            let instrument = serde_json::to_string(&leg.instrument).unwrap_or_default();
            let _ = write!(text, "{}{{\"instrument\":{instrument}", if nth == 0 { "" } else { "," });
            for (part, number) in LEG_DECIMALS.iter().zip(leg_decimals(leg)) {
                if let Some(number) = number {
                    let _ = write!(text, ",\"{part}\":{number}");
                }
            }
            text.push('}');
        }
        text.push(']');
        self.jsonb(&text);
        Vec::new()
    }
}

/// The head of an array: dimensions, NULLs, type, length, first index.
fn array(out: &mut Vec<u8>, oid: i32, len: usize, nulls: bool) {
    out.extend(i32::from(len > 0).to_be_bytes());
    out.extend(i32::from(nulls).to_be_bytes());
    out.extend(oid.to_be_bytes());
    if len > 0 {
        out.extend((len as i32).to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_seen_in_json_and_its_look_alike_is_not() {
        for (text, has) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"\\u0000"}"#, false),
            (r#"{"a":"\\\u0000"}"#, true),
            (r#"{"a":"u0000"}"#, false),
        ] {
            assert_eq!(json_has_nul(text), has, "{text}");
        }
    }
}

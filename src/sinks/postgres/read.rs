//! Rows of the server as records again: what was written, digit for digit.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::value::RawValue;
use tapedeck_market::{Decimal, Leg, Price, Record, Size, SmolStr, Sum, UnixNanos, Uuid};
use tapedeck_tables::{Column, Columns, LEG_DECIMALS, Rung, Shape, Table, prototype, row};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::copy::EPOCH_US;
use super::numeric;

/// The record of a row that has the columns of [`super::layout::names`], in that order, and the tape that it is of.
pub(super) fn record(table: Table, from: &Row) -> Option<(Uuid, Record)> {
    let prototype = prototype(table);
    let mut reading = Reading { row: from, at: 0, tape: None };
    let record = row(&mut reading, table, "", prototype.seq, &prototype.event);
    Some((reading.tape?, record))
}

/// A value as the server sent it.
struct Sent<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Sent<'a> {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Sent(bytes))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

struct Reading<'a> {
    row: &'a Row,
    at: usize,
    tape: Option<Uuid>,
}

impl<'a> Reading<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let at = self.at;
        self.at += 1;
        self.row.try_get::<_, Option<Sent<'a>>>(at).ok()?.map(|sent| sent.0)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.next()?.try_into().ok()
    }

    fn elements(&mut self) -> Vec<Option<&'a [u8]>> {
        self.next().and_then(elements).unwrap_or_default()
    }

    /// The objects of a `jsonb` list, each value with the digits it has.
    fn objects(&mut self) -> Vec<Object> {
        // Behind the version of the `jsonb`.
        let text = self.next().and_then(|bytes| bytes.get(1..)).unwrap_or_default();
        serde_json::from_slice(text).unwrap_or_default()
    }
}

type Object = BTreeMap<SmolStr, Box<RawValue>>;

fn number<T: FromStr>(object: &Object, name: &str) -> Option<T> {
    object.get(name)?.get().parse().ok()
}

/// The elements of an array of one dimension.
fn elements(bytes: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let int = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if int(0)? == 0 {
        return Some(Vec::new());
    }
    let mut at = 20;
    let mut all = Vec::new();
    for _ in 0..int(12)? {
        let length = int(at)?;
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                all.push(Some(bytes.get(at..at + length)?));
                at += length;
            }
            Err(_) => all.push(None),
        }
    }
    Some(all)
}

fn text_of(bytes: &[u8]) -> SmolStr {
    String::from_utf8_lossy(bytes).as_ref().into()
}

impl Columns for Reading<'_> {
    fn sum(&mut self, _: Column, _: Option<Sum>) -> Option<Sum> {
        numeric::sum_of(self.next()?)
    }

    fn decimal(&mut self, _: Column, _: Option<Decimal>) -> Option<Decimal> {
        numeric::decimal_of(self.next()?)
    }

    fn count(&mut self, column: Column, _: Option<u64>) -> Option<u64> {
        u64::try_from(self.int(column, None)?).ok()
    }

    fn int(&mut self, _: Column, _: Option<i64>) -> Option<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    fn float(&mut self, _: Column, _: Option<f64>) -> Option<f64> {
        self.fixed().map(f64::from_be_bytes)
    }

    fn flag(&mut self, _: Column, _: Option<bool>) -> Option<bool> {
        self.fixed().map(|[byte]| byte != 0)
    }

    fn time(&mut self, _: Column, _: Option<UnixNanos>) -> Option<UnixNanos> {
        let (us, below) = (self.fixed().map(i64::from_be_bytes), self.fixed().map(i16::from_be_bytes));
        let ns = us?.checked_add(EPOCH_US)?.checked_mul(1_000)?.checked_add(i64::from(below.unwrap_or(0)))?;
        Some(UnixNanos(ns))
    }

    fn text(&mut self, _: Column, _: Option<&str>) -> Option<SmolStr> {
        self.next().map(text_of)
    }

    fn word(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.text(column, None)
    }

    fn uuid(&mut self, (name, _): Column, _: Option<&str>) -> Option<SmolStr> {
        let uuid = self.fixed().map(Uuid::from_bytes)?;
        if name == "tape_id" {
            self.tape = Some(uuid);
        }
        Some(uuid.to_string().into())
    }

    fn json_to_ask(&mut self, _: Column, _: Option<&str>) -> Option<SmolStr> {
        // Other columns hold it.
        self.next();
        None
    }

    fn bytes(&mut self, _: Column, _: &[u8]) -> Vec<u8> {
        self.next().unwrap_or_default().to_vec()
    }

    fn texts(&mut self, _: Column, _: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        self.elements().into_iter().flatten().map(text_of).collect()
    }

    fn floats(&mut self, _: Column, _: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        let float = |bytes: &[u8]| bytes.try_into().ok().map(f64::from_be_bytes);
        self.elements().into_iter().map(|bytes| bytes.and_then(float)).collect()
    }

    fn rungs(&mut self, _: Column, _: Shape, _: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let rung = |object: &Object| Rung {
            level: number(object, "level").unwrap_or_default(),
            price: Price(number(object, "price").unwrap_or_default()),
            size: Size(number(object, "size").unwrap_or_default()),
            orders: number(object, "orders"),
        };
        self.objects().iter().map(rung).collect()
    }

    fn legs(&mut self, _: Column, _: &[Leg]) -> Vec<Leg> {
        let leg = |object: &Object| {
            let [bid, ask, leg_bid, leg_bid_size, leg_ask, leg_ask_size] =
                LEG_DECIMALS.map(|name| number(object, name));
            let instrument = object.get("instrument").and_then(|text| serde_json::from_str(text.get()).ok());
            Leg {
                instrument: instrument.unwrap_or_default(),
                bid: bid.map(Price),
                ask: ask.map(Price),
                leg_bid: leg_bid.map(Price),
                leg_bid_size: leg_bid_size.map(Size),
                leg_ask: leg_ask.map(Price),
                leg_ask_size: leg_ask_size.map(Size),
            }
        };
        self.objects().iter().map(leg).collect()
    }
}

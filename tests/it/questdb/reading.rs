//! Rows of QuestDB back into records, by the columns that the tables are stated in.

use base64::Engine as _;
use serde_json::Value;
use tapedeck_market::{Decimal, Leg, Price, Record, Size, SmolStr, Sum, UnixNanos};
use tapedeck_tables::{Column, Columns, LEG_DECIMALS, Rung, Shape, Table, json, prototype, row};

use super::dataset;
use crate::servers::Questdb;

/// All records of a table.
pub(crate) fn records(server: &Questdb, table: Table, prefix: &str) -> Vec<Record> {
    let Some((names, rows)) = dataset(server, &format!("\"{prefix}{table}\"")) else { return Vec::new() };
    let prototype = prototype(table);
    rows.iter()
        .map(|values| row(&mut Reading { names: &names, values }, table, "", prototype.seq, &prototype.event))
        .collect()
}

struct Reading<'a> {
    names: &'a [String],
    values: &'a [Value],
}

impl Reading<'_> {
    fn get(&self, name: &str) -> &Value {
        let at = self.names.iter().position(|known| known == name).unwrap_or_else(|| panic!("no column {name}"));
        &self.values[at]
    }

    /// A value as a text, by preference the one that stands in `exact`.
    fn number(&self, name: &str) -> Option<String> {
        let exact = json::parse_texts(self.get("exact").as_str().unwrap_or_default());
        if let Some((_, text)) = exact.into_iter().find(|(known, _)| known == name) {
            return Some(text.to_string());
        }
        match self.get(name) {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            number => Some(number.to_string()),
        }
    }

    fn list(&self, name: &str) -> Vec<Value> {
        let Some(text) = self.get(name).as_str() else { return Vec::new() };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    }
}

fn decimal(text: &str) -> Decimal {
    // A double of a table with doubles may be written with an exponent, and a column fills up with zeros: digits that count.
    let plain = if text.contains('.') && !text.contains(['e', 'E']) {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    };
    plain.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn listed(value: &Value) -> Decimal {
    decimal(value.as_str().unwrap_or_else(|| panic!("{value} is no text")))
}

fn price(value: &Value) -> Price {
    Price(listed(value))
}

fn size(value: &Value) -> Size {
    Size(listed(value))
}

impl Columns for Reading<'_> {
    fn sum(&mut self, column: Column, _: Option<Sum>) -> Option<Sum> {
        let text = self.number(column.0)?;
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let fraction = fraction.trim_end_matches('0');
        let mantissa = format!("{whole}{fraction}").parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        Some(Sum { mantissa, scale: u8::try_from(fraction.len()).unwrap() })
    }

    fn decimal(&mut self, column: Column, _: Option<Decimal>) -> Option<Decimal> {
        self.number(column.0).map(|text| decimal(&text))
    }

    fn count(&mut self, column: Column, _: Option<u64>) -> Option<u64> {
        self.number(column.0).map(|text| text.parse().unwrap())
    }

    fn int(&mut self, column: Column, _: Option<i64>) -> Option<i64> {
        self.number(column.0).map(|text| text.parse().unwrap())
    }

    fn float(&mut self, column: Column, _: Option<f64>) -> Option<f64> {
        self.number(column.0).map(|text| text.parse().unwrap())
    }

    fn flag(&mut self, column: Column, _: Option<bool>) -> Option<bool> {
        self.get(column.0).as_bool()
    }

    fn time(&mut self, column: Column, _: Option<UnixNanos>) -> Option<UnixNanos> {
        let text = self.number(column.0)?;
        if let Ok(nanos) = text.parse::<i64>() {
            return Some(UnixNanos(nanos));
        }
        let instant: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        Some(UnixNanos(i64::try_from(instant.as_nanosecond()).unwrap()))
    }

    fn text(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.get(column.0).as_str().map(SmolStr::from)
    }

    fn word(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.text(column, None)
    }

    fn bytes(&mut self, column: Column, _: &[u8]) -> Vec<u8> {
        let text = self.get(column.0).as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }

    fn texts(&mut self, column: Column, _: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        self.list(column.0).iter().map(|text| text.as_str().unwrap().into()).collect()
    }

    fn floats(&mut self, column: Column, _: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        self.list(column.0).iter().map(Value::as_f64).collect()
    }

    fn rungs(&mut self, column: Column, shape: Shape, _: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let rung = |item: &Value| match shape {
            Shape::Plain => Rung { level: 0, price: price(&item[0]), size: size(&item[1]), orders: None },
            Shape::Counted => {
                let orders = item[2].as_u64().map(|orders| u32::try_from(orders).unwrap());
                Rung { level: 0, price: price(&item[0]), size: size(&item[1]), orders }
            }
            Shape::Numbered => {
                let level = u32::try_from(item[0].as_u64().unwrap()).unwrap();
                Rung { level, price: price(&item[1]), size: size(&item[2]), orders: None }
            }
        };
        self.list(column.0).iter().map(rung).collect()
    }

    fn legs(&mut self, column: Column, _: &[Leg]) -> Vec<Leg> {
        let leg = |item: &Value| {
            let some = |at: usize| Some(&item[LEG_DECIMALS[at]]).filter(|value| !value.is_null());
            Leg {
                instrument: item["instrument"].as_str().unwrap().into(),
                bid: some(0).map(price),
                ask: some(1).map(price),
                leg_bid: some(2).map(price),
                leg_bid_size: some(3).map(size),
                leg_ask: some(4).map(price),
                leg_ask_size: some(5).map(size),
            }
        };
        self.list(column.0).iter().map(leg).collect()
    }
}

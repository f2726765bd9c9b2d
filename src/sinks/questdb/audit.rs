//! What a QuestDB holds. Points in tables of their own are not compared: their columns are whatever clients sent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value as Json;
use tapedeck_market::{Body, Point, Record, SmolStr, Uuid, Value};
use tapedeck_tables::{Table, json};

use super::rows::{identity, instrument, interval, time};
use super::{Questdb, points};
use crate::sinks::SinkError;
use crate::sinks::audit::{Amount, Audit, Cell, Row, Second, Series, span_of, weight};

/// A row that was taken is there a moment later. So long is waited, unless its table is suspended.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);
/// What tells of a row of `points` which point it is.
const NAMES: &str = ", name, tag_names, field_names";

#[async_trait]
impl Audit for Questdb {
    fn expect(&mut self, tape: Uuid, record: &Record, rows: &mut Vec<Row>) {
        let own =
            matches!(&record.event.body, Body::Point(point) if points::table_of(point, &self.config.prefix).is_some());
        // What came from another tape is there under that one's name.
        if own || identity(tape, record).0 != tape {
            return;
        }
        let event = &record.event;
        let table = Table::of(&event.body);
        let candle = if let Body::Candle(candle) = &event.body { Some(candle) } else { None };
        let mut tags = vec![("instrument".into(), SmolStr::new(instrument(event)))];
        if let Some(candle) = candle {
            tags.insert(0, ("input".into(), candle.input.name().into()));
            tags.push(("interval".into(), SmolStr::new(interval(candle.interval_ns))));
        }
        let series = Series { table: table.name().into(), tags };
        let values = weight::columns(table).iter().zip(weight::values(&event.body));
        let values = values.filter_map(|(name, value)| Some((SmolStr::new(name), value?)));
        let apart = if candle.is_some() { 0 } else { record.seq };
        let second = if candle.is_some() { Second::Replaces } else { Second::Collides };
        rows.push(row(series, time(event).0, apart, record.seq, values.collect(), second));
    }

    async fn totals(&mut self, tape: Uuid, table: &str, minutes: Range<i64>) -> Result<Vec<(Cell, Amount)>, SinkError> {
        let name = self.applied(table).await?;
        let series = tags_of(table).join(", ");
        let columns = columns_of(table);
        let weight: Vec<String> = columns.iter().map(|column| format!("coalesce({column}::double, 0.0)")).collect();
        let weight = if weight.is_empty() { "0.0".to_owned() } else { weight.join(" + ") };
        let within = within(tape, &span_of(&minutes));
        let statement = format!(
            "SELECT {series}, minute, count(), sum(seq), sum(weight) FROM \
             (SELECT {series}, ts::long / 60000000000 AS minute, seq, {weight} AS weight FROM \"{name}\" WHERE {within})"
        );
        let many = tags_of(table).len();
        let total = |line: Vec<Json>| {
            let series = series_of(table, &line);
            let minute = line.get(many)?.as_i64()?;
            let values = line.get(many + 1)?.as_u64()?;
            let seqs = line.get(many + 2)?.as_i64()?.cast_unsigned();
            let sum = line.get(many + 3).and_then(Json::as_f64).unwrap_or(0.0);
            Some((Cell { series, minute }, Amount { values, seqs, sum, size: sum.abs() }))
        };
        Ok(self.client.rows(&statement).await?.into_iter().filter_map(total).collect())
    }

    async fn rows(
        &mut self,
        tape: Uuid,
        table: &str,
        tags: &[(SmolStr, SmolStr)],
        times: Range<i64>,
    ) -> Result<Vec<Row>, SinkError> {
        let name = self.applied(table).await?;
        let (columns, prefix) = (columns_of(table), self.config.prefix.clone());
        let numbers: String = columns.iter().map(|column| format!(", {column}::double")).collect();
        let mut wanted = within(tape, &times);
        for (key, value) in tags {
            wanted += &format!(" AND {key} = '{}'", value.replace('\'', "''"));
        }
        let points = table == Table::Points.name();
        let names = if points { NAMES } else { "" };
        let series = tags_of(table).join(", ");
        let statement = format!("SELECT {series}, ts::long, seq, exact{numbers}{names} FROM \"{name}\" WHERE {wanted}");
        let candles = table == Table::Candles.name();
        let held = |mut line: Vec<Json>| {
            let series = series_of(table, &line);
            let line = line.split_off(line.len().min(tags_of(table).len()));
            let (time, seq) = (line.first()?.as_i64()?, line.get(1)?.as_u64()?);
            // What a column cannot hold stands beside it.
            let exact = json::parse_texts(line.get(2)?.as_str().unwrap_or_default());
            let exact = |name: &str| exact.iter().find(|(known, _)| known == name)?.1.parse().ok();
            let values = columns.iter().zip(line.iter().skip(3));
            let values = values.filter_map(|(name, value)| Some((SmolStr::new(name), exact(name).or(value.as_f64())?)));
            let apart = if candles { 0 } else { seq };
            let mut row = row(series, time, apart, seq, values.collect(), Second::Collides);
            if points && is_misfit(&prefix, [line.get(3)?, line.get(4)?, line.get(5)?]) {
                row.seq = None;
            }
            Some(row)
        };
        Ok(self.client.rows(&statement).await?.into_iter().filter_map(held).collect())
    }
}

impl Questdb {
    /// The name of a table of ours, as soon as everything that it took can be read; a suspended one shows what it has.
    async fn applied(&self, table: &str) -> Result<String, SinkError> {
        let name = format!("{}{table}", self.config.prefix);
        self.client.applied(&name, APPLIED_WITHIN).await?;
        Ok(name.replace('"', "\"\""))
    }
}

/// Whether a row of `points` is a point that a table of its own would hold by its names, and that stands here for what is in that
/// table, or was: which of the two, the tape does not say.
fn is_misfit(prefix: &str, [name, tags, fields]: [&Json; 3]) -> bool {
    let names = |value: &Json| -> Vec<SmolStr> {
        value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let point = Point {
        name: name.as_str().unwrap_or_default().into(),
        tags: names(tags).into_iter().map(|name| (name, SmolStr::default())).collect(),
        fields: names(fields).into_iter().map(|name| (name, Value::Int(0))).collect(),
    };
    points::table_of(&point, prefix).is_some()
}

fn row(series: Series, time: i64, apart: u64, seq: u64, values: BTreeMap<SmolStr, f64>, second: Second) -> Row {
    let sum: f64 = values.values().sum();
    let amount = Amount { values: 1, seqs: seq, sum, size: values.values().map(|value| value.abs()).sum() };
    let mut fields: BTreeMap<SmolStr, Value> =
        values.into_iter().map(|(name, value)| (name, Value::Float(value))).collect();
    fields.insert("seq".into(), Value::UInt(seq));
    Row { series, time, apart, seq: Some(seq), fields, amount, second }
}

fn columns_of(table: &str) -> &'static [&'static str] {
    table.parse().map_or(&[], weight::columns)
}

fn tags_of(table: &str) -> &'static [&'static str] {
    if table == Table::Candles.name() { &["input", "instrument", "interval"] } else { &["instrument"] }
}

fn series_of(table: &str, line: &[Json]) -> Series {
    let tags = tags_of(table).iter().zip(line);
    let tags = tags.map(|(name, value)| (SmolStr::new(name), value.as_str().unwrap_or_default().into()));
    Series { table: table.into(), tags: tags.collect() }
}

fn within(tape: Uuid, times: &Range<i64>) -> String {
    let Range { start, end } = times;
    format!("tape_id = '{tape}' AND ts >= {start}L::timestamp_ns AND ts < {end}L::timestamp_ns")
}

//! What a QuestDB holds. Points in tables of their own are not compared: their columns are whatever clients sent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value as Json;
use tapedeck_market::{Body, Record, SmolStr, Uuid, Value};
use tapedeck_tables::Table;

use super::rows::{identity, instrument, interval, time};
use super::{Questdb, points};
use crate::sinks::SinkError;
use crate::sinks::audit::{Amount, Audit, Cell, Row, Second, Series, span_of, weight};

/// A row that was taken is there a moment later. So long is waited, unless its table is suspended.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
        let within = within(tape, &minutes);
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

    async fn rows(&mut self, tape: Uuid, cell: &Cell) -> Result<Vec<Row>, SinkError> {
        let table = cell.series.table.as_str();
        let name = self.applied(table).await?;
        let columns = columns_of(table);
        let numbers: String = columns.iter().map(|column| format!(", {column}::double")).collect();
        let mut wanted = within(tape, &(cell.minute..cell.minute.saturating_add(1)));
        for (key, value) in &cell.series.tags {
            wanted += &format!(" AND {key} = '{}'", value.replace('\'', "''"));
        }
        let statement = format!("SELECT ts::long, seq{numbers} FROM \"{name}\" WHERE {wanted}");
        let candles = table == Table::Candles.name();
        let held = |line: Vec<Json>| {
            let (time, seq) = (line.first()?.as_i64()?, line.get(1)?.as_u64()?);
            let values = columns.iter().zip(line.iter().skip(2));
            let values = values.filter_map(|(name, value)| Some((SmolStr::new(name), value.as_f64()?)));
            let apart = if candles { 0 } else { seq };
            Some(row(cell.series.clone(), time, apart, seq, values.collect(), Second::Collides))
        };
        Ok(self.client.rows(&statement).await?.into_iter().filter_map(held).collect())
    }
}

impl Questdb {
    /// The name of a table of ours, as soon as everything that it took can be read.
    async fn applied(&self, table: &str) -> Result<String, SinkError> {
        let name = format!("{}{table}", self.config.prefix);
        let literal = name.replace('\'', "''");
        let waiting = format!(
            "SELECT count() FROM wal_tables() WHERE name = '{literal}' AND NOT suspended AND writerTxn < sequencerTxn"
        );
        let begun = Instant::now();
        while self.client.value(&waiting).await? != "0" && begun.elapsed() < APPLIED_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(name.replace('"', "\"\""))
    }
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

fn within(tape: Uuid, minutes: &Range<i64>) -> String {
    let Range { start, end } = span_of(minutes);
    format!("tape_id = '{tape}' AND ts >= {start}L::timestamp_ns AND ts < {end}L::timestamp_ns")
}

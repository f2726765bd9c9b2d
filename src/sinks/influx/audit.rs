//! What an InfluxDB holds, asked in InfluxQL, which all of its versions speak.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use serde_json::Value as Json;
use tapedeck_market::{Kind, Record, SmolStr, UnixNanos, Uuid, Value};

use super::ask::text;
use super::client::quoted;
use super::policies::{self, Route};
use super::{Influx, Parcel, lines_of};
use crate::lineproto;
use crate::sinks::SinkError;
use crate::sinks::audit::{Amount, Audit, Cell, Row, Second, Series, counts, minute_of, span_of};
use crate::sinks::line::Lines;

#[async_trait]
impl Audit for Influx {
    fn expect(&mut self, _tape: Uuid, record: &Record, rows: &mut Vec<Row>) {
        let now = *self.judged_at.get_or_insert_with(UnixNanos::now);
        rows.extend(self.rows_of(record, now));
    }

    async fn totals(
        &mut self,
        _tape: Uuid,
        table: &str,
        minutes: Range<i64>,
    ) -> Result<Vec<(Cell, Amount)>, SinkError> {
        let within = within(&span_of(&minutes));
        let now = *self.judged_at.get_or_insert_with(UnixNanos::now);
        let whole_from = self.parcel_of_table(table).map_or(i64::MIN, |parcel| parcel.whole_from(now));
        let statement = format!("SELECT count(*), sum(*) FROM {table} WHERE {within} GROUP BY *, time(1m) fill(none)");
        let mut totals = Vec::new();
        for (series, columns, values) in self.asked(table, &statement).await.map_err(unasked)? {
            let Some(Json::Number(time)) = values.first() else { continue };
            let mut amount = Amount::default();
            for (column, value) in columns.iter().zip(&values).skip(1) {
                let Json::Number(value) = value else { continue };
                match column.split_once('_') {
                    Some(("count", _)) => amount.values += value.as_u64().unwrap_or(0),
                    Some(("sum", "seq")) => amount.seqs = value.as_i64().unwrap_or(0) as u64,
                    Some(("sum", field)) if counts(field) => amount.sum += value.as_f64().unwrap_or(f64::NAN),
                    _ => {}
                }
            }
            let minute = minute_of(time.as_i64().unwrap_or_default());
            if minute >= whole_from {
                totals.push((Cell { series, minute }, amount));
            }
        }
        Ok(totals)
    }

    async fn rows(
        &mut self,
        _tape: Uuid,
        table: &str,
        tags: &[(SmolStr, SmolStr)],
        times: Range<i64>,
    ) -> Result<Vec<Row>, SinkError> {
        let mut wanted = within(&times);
        for (key, value) in tags {
            wanted += &format!(" AND {} = {}", quoted(key), text(value));
        }
        let statement = format!("SELECT * FROM {table} WHERE {wanted} GROUP BY *");
        self.held(table, &statement).await.map_err(unasked)
    }
}

/// That nothing is answered is no case for waiting here.
fn unasked(error: SinkError) -> SinkError {
    SinkError::Unavailable(anyhow::anyhow!("{error}"))
}

type Answered = (Series, Vec<String>, Vec<Json>);

impl Influx {
    /// The rows of a record that the store surely still has.
    pub(super) fn rows_of(&self, record: &Record, now: UnixNanos) -> Vec<Row> {
        let mut lines = Lines::default();
        if lines_of(&self.config, &mut lines, record).is_err() {
            return Vec::new();
        }
        let parcel = &self.parcels[self.parcel_of(record)];
        let table = |measurement: &str| self.named(&parcel.route, measurement);
        let rows = lineproto::lines(&lines.text).filter_map(|line| row_of(line, table));
        rows.filter(|row| minute_of(row.time) >= parcel.whole_from(now)).collect()
    }

    /// Where the rows of a measurement go, by the name that it has in statements.
    fn parcel_of_table(&self, table: &str) -> Option<&Parcel> {
        let in_policy = |policy: &String| table.starts_with(&self.named_in(policy, ""));
        let by_name = self.parcels.iter().find(|parcel| parcel.route.policy.as_ref().is_some_and(in_policy));
        by_name.or_else(|| self.parcels.iter().find(|parcel| parcel.route.policy.is_none()))
    }

    /// The rows of a statement for all fields of a measurement.
    pub(super) async fn held(&self, table: &str, statement: &str) -> Result<Vec<Row>, SinkError> {
        let mut rows = Vec::new();
        for (series, columns, values) in self.asked(table, statement).await? {
            let Some(time) = values.first().and_then(Json::as_i64) else { continue };
            let fields: BTreeMap<SmolStr, Value> = (columns.iter().zip(&values).skip(1))
                .filter_map(|(column, value)| Some((SmolStr::new(column), value_of(value)?)))
                .collect();
            let seq = fields.get("seq").and_then(seq_of);
            let amount = Amount::of(seq, &fields);
            rows.push(Row { series, time, apart: 0, seq, fields, amount, second: Second::Collides });
        }
        Ok(rows)
    }

    /// How InfluxQL names a measurement, where such events go.
    pub(super) fn place_of(&self, kind: Kind, measurement: &str) -> String {
        let routes = self.parcels.iter().map(|parcel| &parcel.route);
        self.named(&self.parcels[policies::route_of(routes, kind)].route, measurement)
    }

    fn named(&self, route: &Route, measurement: &str) -> String {
        match &route.policy {
            Some(policy) => self.named_in(policy, &quoted(measurement)),
            None => quoted(measurement),
        }
    }

    fn named_in(&self, policy: &str, measurement: &str) -> String {
        format!("{}.{}.{measurement}", quoted(&self.config.database), quoted(policy))
    }

    /// Runs a statement; hands out each line of its answer with its series and the names of its columns.
    async fn asked(&self, table: &str, statement: &str) -> Result<Vec<Answered>, SinkError> {
        let answer = self.client.ask(statement).await?;
        let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
        let mut lines = Vec::new();
        for result in list(&answer["results"]) {
            for series in list(&result["series"]) {
                let mut tags: Vec<(SmolStr, SmolStr)> = (series["tags"].as_object().into_iter().flatten())
                    .filter_map(|(key, value)| Some((key.into(), value.as_str()?.into())))
                    // A tag that others of the measurement have.
                    .filter(|(_, value): &(SmolStr, SmolStr)| !value.is_empty())
                    .collect();
                tags.sort_unstable();
                let series_of = Series { table: table.into(), tags };
                let columns: Vec<String> =
                    list(&series["columns"]).iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
                for values in list(&series["values"]) {
                    lines.push((series_of.clone(), columns.clone(), list(&values)));
                }
            }
        }
        Ok(lines)
    }
}

fn row_of(line: &[u8], table: impl Fn(&str) -> String) -> Option<Row> {
    let lineproto::Line { point, time } = lineproto::parse(line).ok()?;
    let mut tags = point.tags;
    tags.sort_unstable();
    let fields: BTreeMap<SmolStr, Value> = point.fields.into_iter().collect();
    let seq = fields.get("seq").and_then(seq_of);
    let amount = Amount::of(seq, &fields);
    let second = if point.name == "candle" { Second::Revises } else { Second::Collides };
    let series = Series { table: table(&point.name).into(), tags };
    Some(Row { series, time: time?, apart: 0, seq, fields, amount, second })
}

fn seq_of(value: &Value) -> Option<u64> {
    match value {
        Value::Int(seq) => u64::try_from(*seq).ok(),
        Value::UInt(seq) => Some(*seq),
        _ => None,
    }
}

fn value_of(value: &Json) -> Option<Value> {
    match value {
        Json::Number(number) => Some(match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64()?),
        }),
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::String(text) => Some(Value::Text(text.into())),
        _ => None,
    }
}

fn within(times: &Range<i64>) -> String {
    let Range { start, end } = times;
    format!("time >= {start} AND time < {end}")
}

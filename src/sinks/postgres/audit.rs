//! What a PostgreSQL holds: sums by a statement, rows as the records that they were.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::anyhow;
use async_trait::async_trait;
use tapedeck_market::{Body, Record, SmolStr, Uuid, Value};
use tapedeck_tables::Table;
use tokio_postgres::Row as Line;
use tokio_postgres::types::ToSql;

use super::session::{PgUuid, Session};
use super::{Postgres, failure, layout, read};
use crate::sinks::SinkError;
use crate::sinks::audit::{Amount, Audit, Cell, Row, Second, Series, span_of, weight};

/// What of a candle is its series, and of which columns the sums are.
const CANDLE_SERIES: [&str; 4] = ["input", "interval_ns", "symbol", "venue"];

#[async_trait]
impl Audit for Postgres {
    fn expect(&mut self, tape: Uuid, record: &Record, rows: &mut Vec<Row>) {
        // What came from another tape is there under that one's name.
        if record.event.origin.is_none_or(|origin| origin.tape == tape) {
            rows.push(row_of(record));
        }
    }

    async fn totals(&mut self, tape: Uuid, table: &str, minutes: Range<i64>) -> Result<Vec<(Cell, Amount)>, SinkError> {
        let of = Shape::of(table)?;
        let series: Vec<String> = of.series.iter().map(|column| format!("{column}::text")).collect();
        let weight: Vec<String> =
            weight::columns(of.table).iter().map(|column| format!("coalesce({column}, 0)")).collect();
        let weight = if weight.is_empty() { "0".to_owned() } else { weight.join(" + ") };
        let (series, time) = (series.join(", "), of.time);
        let groups = (1..=of.series.len() + 1).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let columns = format!(
            "{series}, floor(extract(epoch FROM {time}) / 60)::bigint, count(*), mod(sum(seq), 18446744073709551616)::text, sum({weight})::float8"
        );
        let lines = self.lines(tape, &of, &span_of(&minutes), &columns, &format!("GROUP BY {groups}"), &[]).await?;
        let total = |line: &Line| {
            let at = of.series.len();
            let cell = Cell { series: of.series_of(|nth| line.get::<_, Option<String>>(nth)), minute: line.get(at) };
            let values = line.get::<_, i64>(at + 1).unsigned_abs();
            let seqs = line.get::<_, String>(at + 2).parse().unwrap_or(0);
            let sum: f64 = line.get(at + 3);
            (cell, Amount { values, seqs, sum, size: sum.abs() })
        };
        Ok(lines.iter().map(total).collect())
    }

    async fn rows(
        &mut self,
        tape: Uuid,
        table: &str,
        tags: &[(SmolStr, SmolStr)],
        times: Range<i64>,
    ) -> Result<Vec<Row>, SinkError> {
        let of = Shape::of(table)?;
        let wanted: Vec<String> =
            tags.iter().enumerate().map(|(nth, (name, _))| format!("AND {name}::text = ${}", nth + 4)).collect();
        let tags: Vec<&str> = tags.iter().map(|(_, value)| value.as_str()).collect();
        let lines = self.lines(tape, &of, &times, &layout::names(of.table), &wanted.join(" "), &tags).await?;
        Ok(lines.iter().filter_map(|line| read::record(of.table, line)).map(|(_, record)| row_of(&record)).collect())
    }

    /// What is there stays as it is, so it goes in the transaction that writes its record again.
    fn make_way(&mut self, rows: Vec<(u64, Row)>) {
        self.doomed = rows.into_iter().collect();
    }
}

/// Removes the rows that stand where records of a batch belong, in its transaction.
pub(super) async fn remove(session: &Session, rows: impl Iterator<Item = &Row>) -> Result<(), SinkError> {
    for row in rows {
        let Some(seq) = row.seq.and_then(|seq| i64::try_from(seq).ok()) else { continue };
        let of = Shape::of(&row.series.table)?;
        let minute = row.cell().minute;
        let (from, to) = bounds(&span_of(&(minute..minute.saturating_add(1))));
        let name = layout::full(&session.schema, of.table.name());
        let sql = format!(
            "DELETE FROM {name} WHERE tape_id = $1 AND {0} >= to_timestamp($2::float8) AND {0} < to_timestamp($3::float8) AND seq = $4",
            of.time
        );
        let done = session.client.execute(&sql, &[&PgUuid(session.tape()), &from, &to, &seq]).await;
        done.map_err(|error| failure::of(&error, "removing a row that differs"))?;
    }
    Ok(())
}

impl Postgres {
    fn place(&self, table: Table) -> Result<(&Session, String), SinkError> {
        let session = self.session.as_ref().ok_or_else(|| SinkError::Unavailable(anyhow!("not connected")))?;
        Ok((session, layout::full(&self.config.schema, table.name())))
    }

    async fn lines(
        &self,
        tape: Uuid,
        of: &Shape,
        times: &Range<i64>,
        columns: &str,
        rest: &str,
        more: &[&str],
    ) -> Result<Vec<Line>, SinkError> {
        let (session, name) = self.place(of.table)?;
        let (from, to) = bounds(times);
        let tape = PgUuid(tape);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&tape, &from, &to];
        params.extend(more.iter().map(|text| text as &(dyn ToSql + Sync)));
        let sql = format!(
            "SELECT {columns} FROM {name} WHERE tape_id = $1 AND {0} >= to_timestamp($2::float8) AND {0} < to_timestamp($3::float8) {rest}",
            of.time
        );
        let found = session.client.query(&sql, &params).await;
        found.map_err(|error| failure::of(&error, "asking what it holds"))
    }
}

/// Whole seconds: exact as doubles.
fn bounds(times: &Range<i64>) -> (f64, f64) {
    let (start, end) = (times.start, times.end);
    (start as f64 / 1e9, end as f64 / 1e9)
}

/// How rows of a table are told apart and grouped.
struct Shape {
    table: Table,
    time: &'static str,
    series: &'static [&'static str],
}

impl Shape {
    fn of(table: &str) -> Result<Shape, SinkError> {
        let table: Table = table.parse().map_err(|_| SinkError::Unavailable(anyhow!("there is no table {table}")))?;
        Ok(match table {
            Table::Candles => Shape { table, time: "start", series: &CANDLE_SERIES },
            _ => Shape { table, time: "ts_recv", series: &["symbol"] },
        })
    }

    fn series_of(&self, value: impl Fn(usize) -> Option<String>) -> Series {
        let tags = self
            .series
            .iter()
            .enumerate()
            .map(|(nth, name)| (SmolStr::new(name), value(nth).unwrap_or_default().into()));
        Series { table: self.table.name().into(), tags: tags.collect() }
    }
}

fn row_of(record: &Record) -> Row {
    let event = &record.event;
    let table = Table::of(&event.body);
    let mut json = Vec::new();
    crate::json::event_json(Some(record.seq), event, &mut json);
    let all: BTreeMap<SmolStr, serde_json::Value> = serde_json::from_slice(&json).unwrap_or_default();
    let fields = all.into_iter().map(|(name, value)| (name, Value::Text(value.to_string().into()))).collect();
    let series = |tags: &[(&str, String)]| Series {
        table: table.name().into(),
        tags: tags.iter().map(|(name, value)| (SmolStr::new(name), value.into())).collect(),
    };
    let sum: f64 = weight::values(&event.body).iter().flatten().sum();
    let amount = Amount { values: 1, seqs: record.seq, sum, size: sum.abs() };
    let seq = Some(record.seq);
    match &event.body {
        Body::Candle(candle) => {
            let [input, interval, symbol, venue] = CANDLE_SERIES;
            let series = series(&[
                (input, candle.input.name().to_owned()),
                (interval, candle.interval_ns.to_string()),
                (symbol, event.symbol.to_string()),
                (venue, event.venue.to_string()),
            ]);
            Row { series, time: candle.start.0, apart: 0, seq, fields, amount, second: Second::Replaces }
        }
        _ => {
            let series = series(&[("symbol", event.symbol.to_string())]);
            Row { series, time: event.ts_recv.0, apart: record.seq, seq, fields, amount, second: Second::Collides }
        }
    }
}

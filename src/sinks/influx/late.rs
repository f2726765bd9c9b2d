//! What comes late must not take the place of what is newer.
//!
//! The store keeps the last of one series and time that comes. Of candles it holds the revision and the seq, so it is asked before a
//! late one is sent. Of a client's point it holds nothing that says how old it is: behind a backlog the pump delivers again what overtook
//! it ([`Sink::times`](crate::sinks::Sink::times)), and a dead letter whose place is taken by other values stays one.

use std::collections::{HashMap, HashSet};

use tapedeck_market::{Kind, Record, UnixNanos};

use super::ask::text;
use super::client::quoted;
use super::{Influx, measure};
use crate::config::units::show_duration;
use crate::sinks::audit::{Row, is_same};
use crate::sinks::candles::{Statement, candle_of, spans};
use crate::sinks::{Batch, SinkError};

/// Exchange, input, instrument, interval and start of a candle.
type Key = ([String; 4], i64);
const TAGS: [&str; 4] = ["exchange", "input", "instrument", "interval"];

impl Influx {
    /// The places of candles in the batch of which the store holds a newer statement. A user who may write and not read is told of
    /// none: what overtook a backlog comes again anyway.
    ///
    /// # Errors
    /// The server is away.
    pub(super) async fn superseded(&self, batch: &Batch<'_>) -> Result<HashSet<usize>, SinkError> {
        let spans = spans(batch.records.iter().filter_map(candle_of));
        let mut older = HashSet::new();
        if spans.is_empty() {
            return Ok(older);
        }
        let table = self.place_of(Kind::CANDLE, "candle");
        let mut newest: HashMap<Key, Statement> = HashMap::new();
        for (from, to) in spans {
            let statement =
                format!("SELECT revision, seq FROM {table} WHERE time >= {from} AND time <= {to} GROUP BY *");
            let answer = match self.client.ask(&statement).await {
                Ok(answer) => answer,
                Err(SinkError::Waiting(_)) => return Ok(older),
                Err(error) => return Err(error),
            };
            for series in answer["results"][0]["series"].as_array().into_iter().flatten() {
                let tags = TAGS.map(|tag| series["tags"][tag].as_str().unwrap_or_default().to_owned());
                for row in series["values"].as_array().into_iter().flatten() {
                    let number = |at: usize| row[at].as_u64().unwrap_or_default();
                    let Some(time) = row[0].as_i64() else { continue };
                    newest.insert((tags.clone(), time), (number(1), number(2)));
                }
            }
        }
        for (at, record) in batch.records.iter().enumerate() {
            let Some(candle) = candle_of(record) else { continue };
            let event = &record.event;
            let interval = std::time::Duration::from_nanos(candle.interval_ns.unsigned_abs());
            let tags = [event.venue.as_str(), candle.input.name(), event.symbol.as_str(), &show_duration(interval)];
            let key = (tags.map(str::to_owned), measure::time(record).0);
            let ours = (u64::from(candle.revision), record.seq);
            if newest.get(&key).is_some_and(|there| *there > ours) {
                older.insert(at);
            }
        }
        Ok(older)
    }

    /// Whether the store has other values at the place of a record that is sent again, and in which field.
    ///
    /// # Errors
    /// The server is away.
    pub(super) async fn other_there(&mut self, record: &Record) -> Result<Option<String>, SinkError> {
        // Which statement on a candle is newer, it says itself.
        if candle_of(record).is_some() {
            return Ok(None);
        }
        for row in &self.rows_of(record, UnixNanos::now()) {
            let mut wanted = format!("time = {}", row.time);
            for (key, value) in &row.series.tags {
                wanted += &format!(" AND {} = {}", quoted(key), text(value));
            }
            let statement = format!("SELECT * FROM {} WHERE {wanted} GROUP BY *", row.series.table);
            let held = match self.held(&row.series.table, &statement).await {
                Ok(held) => held,
                Err(SinkError::Waiting(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            if let Some(words) = held.iter().filter(|held| held.series == row.series).find_map(|held| other(row, held))
            {
                return Ok(Some(words));
            }
        }
        Ok(None)
    }
}

/// The first field that both have, with other values.
fn other(ours: &Row, held: &Row) -> Option<String> {
    ours.fields.iter().find_map(|(name, value)| {
        let there = held.fields.get(name).filter(|there| !is_same(value, there))?;
        Some(format!(
            "`{name}` of this series and time is {there:?} in the store, which does not say whether that is newer: remove it there to \
             send this one, or drop the letter"
        ))
    })
}

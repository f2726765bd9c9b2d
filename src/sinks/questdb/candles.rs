//! Candles that come late must not replace newer statements of themselves.
//!
//! A row replaces the one with its keys, whichever was stated first. In order of the tape that is what is wanted; a backlog, or a dead
//! letter, comes after newer ones. So what is there is asked first, once the server has applied all it was sent.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;
use tapedeck_market::{Record, Uuid};
use tapedeck_tables::Table;

use super::client::{Applied, Client};
use super::rows::{identity, instrument, interval};
use crate::sinks::SinkError;
use crate::sinks::candles::{Statement, candle_of, spans};

/// How long the server may take to apply what it was sent.
const APPLY_WITHIN: Duration = Duration::from_secs(10);

type Key = (i64, String, String, String);

/// Takes candles out of the list of which a newer statement is there.
///
/// # Errors
/// The server is away, refuses us, or is behind with what it was sent.
pub(super) async fn leave_out_older(
    client: &Client,
    prefix: &str,
    records: &[Record],
    indices: &mut Vec<usize>,
) -> Result<(), SinkError> {
    let name = format!("{prefix}{}", Table::Candles.name());
    let spans = spans(indices.iter().filter_map(|&at| candle_of(&records[at])));
    if spans.is_empty() {
        return Ok(());
    }
    match client.applied(&name, APPLY_WITHIN).await? {
        Applied::Shown => {}
        Applied::NoTable => return Ok(()),
        Applied::Behind => {
            return Err(SinkError::Unavailable(anyhow!("table `{name}` is behind with what it was sent")));
        }
    }
    let mut newest: HashMap<Key, Statement> = HashMap::new();
    for (from, to) in spans {
        let sql = format!(
            "SELECT cast(ts AS long), instrument, \"interval\", \"input\", \"revision\", seq FROM \"{name}\" \
             WHERE ts BETWEEN cast({from} AS timestamp_ns) AND cast({to} AS timestamp_ns)"
        );
        for row in client.rows(&sql).await? {
            let [ts, instrument, interval, input, revision, seq] = row.as_slice() else { continue };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let key = (ts.as_i64().unwrap_or_default(), text(instrument), text(interval), text(input));
            newest.insert(key, (revision.as_u64().unwrap_or_default(), seq.as_u64().unwrap_or_default()));
        }
    }
    indices.retain(|&at| {
        let record = &records[at];
        let Some(candle) = candle_of(record) else { return true };
        let key =
            (candle.start.0, instrument(&record.event), interval(candle.interval_ns), candle.input.name().to_owned());
        let ours = (u64::from(candle.revision), identity(Uuid::nil(), record).1);
        newest.get(&key).is_none_or(|there| *there <= ours)
    });
    Ok(())
}

//! Candles that come late must not replace newer statements of themselves.
//!
//! A row replaces the one with its keys, whichever was stated first. In order of the tape that is what is wanted; a backlog, or a dead
//! letter, comes after newer ones. So what is there is asked first, once the server has applied all it was sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::Value;
use tapedeck_market::{Body, Candle, Record};
use tapedeck_tables::Table;

use super::client::Client;
use super::rows::{instrument, interval};
use crate::sinks::SinkError;

/// How long the server may take to apply what it was sent.
const APPLY_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Candles that are asked for together: all of a span of this length, so that no answer is too long.
const SPAN_NS: i64 = 600_000_000_000;

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
    let mut starts: Vec<i64> = indices.iter().filter_map(|&at| candle(&records[at])).map(|it| it.start.0).collect();
    starts.sort_unstable();
    starts.dedup();
    if starts.is_empty() || !applied(client, &name).await? {
        return Ok(());
    }
    let mut newest: HashMap<Key, (u64, u64)> = HashMap::new();
    for (from, to) in spans(&starts) {
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
        let Some(candle) = candle(record) else { return true };
        let key =
            (candle.start.0, instrument(&record.event), interval(candle.interval_ns), candle.input.name().to_owned());
        let ours = (u64::from(candle.revision), record.event.origin.map_or(record.seq, |origin| origin.seq));
        newest.get(&key).is_none_or(|there| *there <= ours)
    });
    Ok(())
}

fn candle(record: &Record) -> Option<&Candle> {
    match &record.event.body {
        Body::Candle(candle) => Some(candle),
        _ => None,
    }
}

/// Waits until the table shows all that was sent to it; `false`: there is no such table.
async fn applied(client: &Client, name: &str) -> Result<bool, SinkError> {
    let sql = format!("SELECT writerTxn, sequencerTxn FROM wal_tables() WHERE lower(name) = lower('{name}')");
    let since = Instant::now();
    loop {
        let rows = client.rows(&sql).await?;
        match rows.first().map(Vec::as_slice) {
            None => return Ok(false),
            Some([applied, sent]) if applied.as_i64() >= sent.as_i64() => return Ok(true),
            Some(_) if since.elapsed() > APPLY_WITHIN => {
                return Err(SinkError::Unavailable(anyhow!("table `{name}` is behind with what it was sent")));
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// The starts in spans that are short, first and last of each.
fn spans(starts: &[i64]) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for &start in starts {
        match spans.last_mut() {
            Some((from, to)) if start.saturating_sub(*from) <= SPAN_NS => *to = start,
            _ => spans.push((start, start)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_have_every_start() {
        let minute = 60_000_000_000;
        let starts: Vec<i64> = [0, 1, 9, 10, 11, 500, 505].map(|at| at * minute).into();
        assert_eq!(spans(&starts), [(0, 10), (11, 11), (500, 505)].map(|(from, to)| (from * minute, to * minute)));
        assert!(spans(&[]).is_empty());
    }
}

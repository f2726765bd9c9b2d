//! Events as line protocol: the lines of an `influx` sink, beside QuestDB's own client making the same ones as text.
//!
//! The peer's numbers are doubles that are ready; ours are exact, and each name and text is looked at for what would break its line.

use std::hint::black_box;

use anyhow::Context as _;
use questdb::ingress::{Buffer, ColumnName, ProtocolVersion, TableName, TimestampNanos};
use tapedeck_benches::stores::trade;
use tapedeck_benches::{compare, each, probe};
use tapedeck_market::{Body, Decimal, Event, Price, Record, Size, Stats, Ticker};

const ROWS: u64 = 1_000;
const START_NS: i64 = 1_784_483_703_000_000_000;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let trades: Vec<Record> = (1..=ROWS).map(|seq| Record { seq, event: trade(seq, START_NS) }).collect();
    stage("trade", &trades)?;
    let tickers: Vec<Record> = (1..=ROWS).map(|seq| Record { seq, event: ticker(seq) }).collect();
    stage("ticker", &tickers)
}

fn stage(name: &str, records: &[Record]) -> anyhow::Result<()> {
    let rows = records.iter().map(row).collect::<anyhow::Result<Vec<Row>>>()?;
    let mut ours = Vec::new();
    let mut theirs = Buffer::new(ProtocolVersion::V1);
    encode(records, &mut ours);
    peer(&rows, &mut theirs)?;
    let (one, other) = (lines(&ours), lines(theirs.as_bytes()));
    anyhow::ensure!(one == other, "not the same rows: {:?} and {:?}", one.first(), other.first());
    let bytes = ours.len() as u64;
    let stage = format!("line protocol, {ROWS} × {name}, {} B each", bytes / ROWS);
    compare(
        &stage,
        each("tapedeck", || encode(records, &mut ours)),
        vec![each("questdb-rs 7.2.1, text", || peer(&rows, &mut theirs))],
        Some(bytes),
    );
    Ok(())
}

fn encode(records: &[Record], out: &mut Vec<u8>) {
    out.clear();
    for record in records {
        tapedeck::sinks::line_protocol(record, out).expect("a line");
    }
    black_box(&out);
}

/// Lines with their numbers read: a double prints other digits than the decimal it was.
fn lines(text: &[u8]) -> Vec<Vec<String>> {
    let plain = |cell: &str| match cell.split_once('=') {
        Some((key, value)) => match value.parse::<f64>() {
            Ok(number) => format!("{key}={number}"),
            Err(_) => cell.to_owned(),
        },
        None => cell.to_owned(),
    };
    String::from_utf8_lossy(text).lines().map(|line| line.split([' ', ',']).map(plain).collect()).collect()
}

/// What the peer is given: names and numbers of a row, ready.
struct Row {
    table: &'static str,
    tags: Vec<(&'static str, String)>,
    doubles: Vec<(&'static str, f64)>,
    text: Option<(&'static str, String)>,
    ints: Vec<(&'static str, i64)>,
    ts: i64,
}

fn peer(rows: &[Row], buffer: &mut Buffer) -> anyhow::Result<()> {
    buffer.clear();
    for row in rows {
        // Names that were looked at once, as its documentation has it.
        buffer.table(TableName::new_unchecked(row.table))?;
        for (key, value) in &row.tags {
            buffer.symbol(ColumnName::new_unchecked(key), value)?;
        }
        for (key, value) in &row.doubles {
            buffer.column_f64(ColumnName::new_unchecked(key), *value)?;
        }
        if let Some((key, value)) = &row.text {
            buffer.column_str(ColumnName::new_unchecked(key), value)?;
        }
        for (key, value) in &row.ints {
            buffer.column_i64(ColumnName::new_unchecked(key), *value)?;
        }
        buffer.at(TimestampNanos::new(row.ts))?;
    }
    black_box(&buffer);
    Ok(())
}

/// The same row, read from our own line.
fn row(record: &Record) -> anyhow::Result<Row> {
    let mut line = Vec::new();
    tapedeck::sinks::line_protocol(record, &mut line)?;
    let line = String::from_utf8(line)?;
    let mut parts = line.trim().split(' ');
    let (head, fields, ts) = (parts.next(), parts.next(), parts.next());
    let mut head = head.context("no tags")?.split(',');
    let mut row = Row {
        table: leaked(head.next().context("no name")?),
        tags: Vec::new(),
        doubles: Vec::new(),
        text: None,
        ints: Vec::new(),
        ts: ts.context("no time")?.parse()?,
    };
    for tag in head {
        let (key, value) = tag.split_once('=').context("no tag")?;
        row.tags.push((leaked(key), value.to_owned()));
    }
    for field in fields.context("no fields")?.split(',') {
        let (key, value) = field.split_once('=').context("no field")?;
        if let Some(text) = value.strip_prefix('"') {
            row.text = Some((leaked(key), text.trim_end_matches('"').to_owned()));
        } else if let Some(int) = value.strip_suffix('i') {
            row.ints.push((leaked(key), int.parse()?));
        } else {
            row.doubles.push((leaked(key), value.parse()?));
        }
    }
    Ok(row)
}

/// Names live as long as the bench.
fn leaked(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

/// As Kraken's second protocol tells it, with digits that change.
fn ticker(n: u64) -> Event {
    let Event { source, venue, symbol, ts_event, ts_recv, flags, origin, .. } = trade(n, START_NS);
    let price = |add: u64| Price(Decimal::new(645_280 + (n * 7 + add) as i64 % 9_000, 1).unwrap_or_default());
    let size = |add: u64| Size(Decimal::new(1 + (n * 7_919 + add) as i64 * 31, 8).unwrap_or_default());
    let day = Stats {
        open: None,
        high: Some(price(500)),
        low: Some(price(100)),
        volume: Some(size(9_999_999)),
        vwap: Some(price(55)),
        trades: None,
    };
    let body = Ticker {
        bid: Some(price(0)),
        bid_size: Some(size(3)),
        ask: Some(price(1)),
        ask_size: Some(size(5)),
        last: Some(price(1)),
        day,
        ..Ticker::default()
    };
    Event { source, venue, symbol, ts_event, ts_recv, flags, origin, body: Body::Ticker(Box::new(body)) }
}

//! polars and DuckDB read the folder, and find what is on the tape.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};
use tapedeck_archive::Table;
use tapedeck_market::strategy::event as any_event;
use tapedeck_market::*;

use crate::rig::*;

const MINUTE_NS: i64 = 60_000_000_000;
const UNIT: u32 = 10;

/// A Python with what `tests/python/requirements.txt` names; `None`, said aloud, where there is none and none is demanded.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/venv");
    let out = Command::new(script).output().unwrap();
    if out.status.success() {
        return Some(PathBuf::from(String::from_utf8(out.stdout).unwrap().trim()));
    }
    crate::skipped::skipped(&format!("no Python for the tests: {}", String::from_utf8_lossy(&out.stderr)));
    None
}

fn book() -> Event {
    let level =
        |price: &str, size: &str| Level { price: price.parse().unwrap(), size: size.parse().unwrap(), orders: None };
    let bids = vec![level("62807.1", "0.5"), level("62807", "1.25")];
    event("BTC/USD", NOON, Body::Book(BookUpdate { snapshot: true, bids, ..BookUpdate::default() }))
}

fn point() -> Event {
    let fields =
        vec![("value".into(), Value::Decimal("1.50".parse().unwrap())), ("note".into(), Value::Text("a".into()))];
    event("", NOON, Body::Point(Box::new(Point { name: "custom".into(), tags: Vec::new(), fields })))
}

/// Several days, a part of it compacted, with trades as they are and every kind of event at its worst.
fn archive(rig: &mut Rig) {
    let mut archiver = rig.archiver();
    let mut runner = TestRunner::deterministic();
    let strange = any_event();
    rig.record(&[book(), point()]);
    for round in 0..8_u64 {
        let at = NOON + (round / 3) as i64 * DAY_NS + round as i64 * 90_000_000_000;
        let mut events: Vec<Event> =
            (0..900).map(|nth| trade(round * 900 + nth, at + nth as i64 * 333_333_333)).collect();
        for _ in 0..100 {
            let mut event = strange.new_tree(&mut runner).unwrap().current();
            event.ts_recv = UnixNanos(at);
            if !matches!(event.body, Body::Trade(_)) {
                events.push(event);
            }
        }
        if round == 4 {
            let tiny =
                Trade { price: "0.00000000001".parse().unwrap(), size: "1".parse().unwrap(), side: None, id: None };
            events.push(event("PEPE/BTC", at, Body::Trade(tiny)));
        }
        rig.record(&events);
        archiver.catch_up().unwrap();
        archiver.close_range().unwrap();
    }
    assert!(archiver.house().tidy(&|| false).unwrap().compacted > 5);
}

/// In units of 10^-10, by another way than the program's.
fn units(decimal: Decimal) -> i128 {
    i128::from(decimal.mantissa()) * 10_i128.pow(UNIT) / 10_i128.pow(u32::from(decimal.scale()))
}

fn text(units: i128) -> String {
    Sum { mantissa: units, scale: UNIT as u8 }.to_string()
}

#[derive(Default)]
struct Candle {
    prices: Vec<i128>,
    volume: i128,
}

fn expected(tape: &[Record]) -> Json {
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sums: BTreeMap<&str, (u64, i128)> = BTreeMap::new();
    let mut candles: BTreeMap<(&str, i64), Candle> = BTreeMap::new();
    let mut days = BTreeSet::new();
    let mut exact = Vec::new();
    for record in tape {
        let event = &record.event;
        *rows.entry(Table::of(&event.body).name()).or_default() += 1;
        let Body::Trade(trade) = &event.body else { continue };
        let sum = sums.entry(&event.symbol).or_default();
        sum.0 += 1;
        sum.1 += units(trade.size.0);
        days.insert(if event.ts_recv.0 < NOON + DAY_NS / 2 {
            "2026-07-19"
        } else if event.ts_recv.0 < NOON + DAY_NS * 3 / 2 {
            "2026-07-20"
        } else {
            "2026-07-21"
        });
        let start = event.ts_event.unwrap().0.div_euclid(MINUTE_NS) * MINUTE_NS;
        let candle = candles.entry((&event.symbol, start)).or_default();
        candle.volume += units(trade.size.0);
        if trade.price.0.scale() > 10 {
            exact.push(json!([record.seq, trade.price.to_string()]));
        } else {
            candle.prices.push(units(trade.price.0));
        }
    }
    let candles: Vec<Json> = candles
        .into_iter()
        .map(|((symbol, start), candle)| {
            let price = |price: Option<&i128>| price.map(|price| text(*price));
            let (open, close) = (candle.prices.first(), candle.prices.last());
            let (high, low) = (candle.prices.iter().max(), candle.prices.iter().min());
            json!([symbol, start, price(open), price(high), price(low), price(close), text(candle.volume)])
        })
        .collect();
    let sums: Vec<Json> = sums.into_iter().map(|(symbol, (rows, size))| json!([symbol, rows, text(size)])).collect();
    json!({
        "rows": rows, "sums": sums, "candles": candles, "days": days, "exact": exact,
        "bids": [["62807.1", "0.5"], ["62807", "1.25"]],
        "point": {"value": "1.50", "note": "a"},
    })
}

#[test]
fn polars_and_duckdb_read_the_folder_and_agree_with_the_tape() {
    let Some(python) = python() else { return };
    let mut rig = Rig::new();
    archive(&mut rig);
    let expected = expected(&rig.on_tape());
    assert!(expected["rows"].as_object().unwrap().len() >= 15, "every kind occurs: {}", expected["rows"]);
    let path = rig.dir.path().join("expected.json");
    std::fs::write(&path, serde_json::to_vec(&expected).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/archive_read.py");
    let out = Command::new(python).arg(script).arg(rig.archive()).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(said.trim(), format!("{} rows agree", rig.on_tape().len()));
}

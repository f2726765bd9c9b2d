//! A selection of the tape as one file.

use std::path::Path;

use serde_json::Value as Json;
use tapedeck_archive::{Error, Exported, Format, Selection, Table, export};
use tapedeck_market::*;

use crate::rig::*;

fn tape() -> Rig {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 400, NOON));
    rig.record(&ticks(401, 20_000, NOON + DAY_NS));
    rig
}

fn all<'a>(table: Table) -> Selection<'a> {
    Selection { table, from_ns: None, to_ns: None, wants: &|_| true }
}

fn run(rig: &Rig, selection: &Selection<'_>, out: &Path, format: Format) -> Exported {
    export(&storage(), &rig.tape(), selection, (out, format), &mut |_| true).unwrap()
}

#[test]
fn a_time_and_a_symbol_become_one_parquet_file() {
    let rig = tape();
    let out = rig.dir.path().join("trades.parquet");
    let wants = |event: &Event| event.symbol == "BTC/USD";
    let (from_ns, to_ns) = (Some(NOON + DAY_NS), Some(NOON + DAY_NS + 10_000_000_000));
    let selection = Selection { table: Table::Trades, from_ns, to_ns, wants: &wants };
    let exported = run(&rig, &selection, &out, Format::Parquet);
    let wanted: Vec<Record> = rig
        .on_tape()
        .into_iter()
        .filter(|record| matches!(record.event.body, Body::Trade(_)) && wants(&record.event))
        .filter(|record| (from_ns.unwrap()..to_ns.unwrap()).contains(&record.event.ts_recv.0))
        .collect();
    assert!(wanted.len() > 2000, "{}", wanted.len());
    assert_eq!(exported.rows, wanted.len() as u64);
    assert_eq!(read_file(Table::Trades, &out), wanted, "in the order of the tape");
}

#[test]
fn every_row_is_a_line_of_csv_or_of_json() {
    let mut rig = Rig::new();
    let level = |price: &str| Level { price: price.parse().unwrap(), size: "2.50".parse().unwrap(), orders: Some(3) };
    let bids = vec![level("1.10"), level("0.00000000001")];
    rig.record(&[event("A,\"B\"", NOON, Body::Book(BookUpdate { snapshot: true, bids, ..BookUpdate::default() }))]);
    rig.record(&ticks(1, 30, NOON));
    let out = rig.dir.path().join("books.json");
    let exported = run(&rig, &all(Table::Books), &out, Format::Json);
    assert_eq!((exported.rows, exported.inexact, exported.last_seq), (1, 1, 31));
    let text = std::fs::read_to_string(&out).unwrap();
    let line: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(line["symbol"], "A,\"B\"");
    assert_eq!(line["ts_recv"], NOON);
    assert_eq!(line["bids"][0], serde_json::json!({"price": "1.1", "size": "2.5", "orders": 3}));
    assert_eq!(line["bids"][1]["price"], Json::Null);
    assert_eq!(line["exact"], r#"{"bids[1].price":"0.00000000001"}"#);
    assert!(line.get("checksum").is_none(), "what is NULL is absent");

    let out = rig.dir.path().join("books.csv");
    run(&rig, &all(Table::Books), &out, Format::Csv);
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("seq,tape_id,ts_event,ts_recv,source,venue,symbol,"), "{text}");
    assert!(text.contains(r#","A,""B""","#), "{text}");
    assert!(text.contains(r#""[{""price"":""1.1"",""size"":""2.5"",""orders"":3},"#), "{text}");
    let out = rig.dir.path().join("trades.csv");
    assert_eq!(run(&rig, &all(Table::Trades), &out, Format::Csv).rows, 23);
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 24);
    assert!(text.contains("2026-07-19T12:00:00.0015"), "{text}");
}

#[test]
fn an_export_that_is_stopped_leaves_what_was_there() {
    let rig = tape();
    let out = rig.dir.path().join("out.csv");
    std::fs::write(&out, "before").unwrap();
    let mut calls = 0;
    let mut stop = |_: &Exported| {
        calls += 1;
        calls < 2
    };
    let stopped = export(&storage(), &rig.tape(), &all(Table::Trades), (&out, Format::Csv), &mut stop);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before");
    assert_eq!(names(rig.dir.path()), ["out.csv", "tape"]);
}

//! What is written reads back equal, once.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use tapedeck_market::strategy::event;
use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Origin, Record, UnixNanos, Uuid, Value};
use tapedeck_tables::Table;

use super::*;
use crate::servers::fresh_name;

/// Two days: each day of each table is a folder of files there, which take up room before anything is in them.
const DRAWN_WITHIN: i64 = 2 * 86_400_000_000_000;

/// Events of every kind, drawn the same way each time.
fn drawn(count: u64) -> Vec<Record> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let near = |at: &mut UnixNanos| at.0 = if at.0 < 0 { at.0 } else { NOON + at.0 % DRAWN_WITHIN };
    (1..=count)
        .map(|seq| {
            let mut event = event().new_tree(&mut runner).unwrap().current();
            near(&mut event.ts_recv);
            event.ts_event.iter_mut().for_each(near);
            match &mut event.body {
                Body::Candle(candle) => near(&mut candle.start),
                // Tables of their own are read elsewhere.
                Body::Point(_) => event.body = Body::Status(tapedeck_market::Status::default()),
                _ => {}
            }
            Record { seq, event }
        })
        .collect()
}

/// Totals are equal by digits, and what was recorded elsewhere has its place there.
fn by_value(record: &Record) -> Record {
    let mut record = record.clone();
    if let Some(origin) = record.event.origin {
        record.seq = origin.seq;
    }
    if let Body::Candle(candle) = &mut record.event.body
        && let Some(sum) = &mut candle.volume
    {
        while sum.scale > 0 && sum.mantissa % 10 == 0 {
            sum.mantissa /= 10;
            sum.scale -= 1;
        }
    }
    record
}

fn every_body_reads_back(numbers: &str) {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("body_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\"\nnumbers = \"{numbers}\""));
    let drawn = drawn(400);
    let refused: BTreeMap<usize, String> = alone.refused(&drawn).into_iter().collect();
    for (index, words) in &refused {
        let Record { event, .. } = &drawn[*index];
        let long = words.contains("more than 65536");
        assert!(long || words.contains("no time of a row there"), "{words}: {event:?}");
    }
    assert!(refused.len() < drawn.len() / 2, "{} of {}", refused.len(), drawn.len());
    let mut kinds = 0;
    for table in Table::ALL {
        let sent: Vec<Record> = drawn
            .iter()
            .enumerate()
            .filter(|(index, record)| !refused.contains_key(index) && Table::of(&record.event.body) == table)
            .map(|(_, record)| by_value(record))
            .collect();
        if sent.is_empty() {
            continue;
        }
        kinds += 1;
        applied(server, &format!("{prefix}{table}"));
        let mut found: Vec<Record> = reading::records(server, table, &prefix).iter().map(by_value).collect();
        let mut sent = sent;
        sent.sort_by_key(|record| record.seq);
        found.sort_by_key(|record| record.seq);
        assert_eq!(found.len(), sent.len(), "{table}");
        for (found, sent) in found.iter().zip(&sent) {
            assert_eq!(found, sent, "{table}");
        }
    }
    assert!(kinds >= 15, "{kinds} tables");
}

#[test]
fn every_body_reads_back_equal_from_decimals() {
    every_body_reads_back("decimal");
}

#[test]
fn every_body_reads_back_equal_from_doubles_and_what_stands_beside_them() {
    every_body_reads_back("double");
}

#[test]
fn a_batch_that_comes_again_is_there_once_and_sums_are_exact() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("once_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    // All of the same moment.
    let mut trades: Vec<Record> = (1..=1_000).map(|seq| trade(seq, "62807.1")).collect();
    trades.iter_mut().for_each(|trade| trade.event.ts_event = Some(UnixNanos(NOON)));
    for part in [&trades[..], &trades[..], &trades[500..], &trades[..10]] {
        assert_eq!(alone.refused(part), []);
    }
    // The same event by another deck, which took it over, is the same row.
    let mut over = trades[7].clone();
    over.event.origin = Some(Origin { tape: TAPE, seq: over.seq });
    over.seq = 99_999;
    assert_eq!(alone.refused(&[over]), []);
    // One of another tape is not.
    let mut other = trades[7].clone();
    other.event.origin = Some(Origin { tape: Uuid::from_u128(8), seq: other.seq });
    assert_eq!(alone.refused(&[other]), []);
    let table = format!("{prefix}trades");
    applied(server, &table);
    let sql = format!("SELECT count(), count_distinct(seq), sum(price), count_distinct(ts) FROM \"{table}\"");
    let found = server.query(&sql);
    assert_eq!(found, json!([[1001, 1000, "62869907.1000000000", 1]]));
    let found = server.query(&format!("SELECT instrument, id, exact, guard FROM \"{table}\" LIMIT 1"));
    assert_eq!(found, json!([["kraken:BTC/USD", "1", null, "0"]]));
}

fn candle(seq: u64, minute: i64, revision: u32, close: &str, input: CandleInput) -> Record {
    let price = |text: &str| text.parse().unwrap();
    let body = Candle {
        interval_ns: 60_000_000_000,
        start: UnixNanos(minute * 60_000_000_000),
        open: price("1"),
        high: price("2"),
        low: price("0.5"),
        close: price(close),
        volume: None,
        vwap: None,
        trades: Some(3),
        flags: CandleFlags::COMPLETE,
        revision,
        input,
    };
    record(seq, "BTC/USD", Body::Candle(Box::new(body)))
}

#[test]
fn a_newer_statement_of_a_candle_takes_its_place_and_an_older_one_that_comes_late_does_not() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("candle_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    let of = CandleInput::Trades;
    alone.write(&[candle(1, 28_000_000, 0, "1.1", of), candle(2, 28_000_001, 0, "1.2", of)], false).unwrap();
    alone
        .write(&[candle(9, 28_000_000, 1, "1.9", of), candle(10, 28_000_000, 0, "7", CandleInput::Venue)], false)
        .unwrap();
    let late =
        [candle(1, 28_000_000, 0, "1.1", of), candle(2, 28_000_001, 0, "1.2", of), candle(3, 28_000_002, 0, "1.3", of)];
    alone.write(&late, true).unwrap();
    let table = format!("{prefix}candles");
    applied(server, &table);
    let sql = format!(
        "SELECT ts::long / 60000000000, \"interval\", input, close, revision, seq FROM \"{table}\" ORDER BY 1, 3"
    );
    let want = json!([
        [28_000_000, "1m", "trades", "1.9000000000", 1, 9],
        [28_000_000, "1m", "venue", "7.0000000000", 0, 10],
        [28_000_001, "1m", "trades", "1.2000000000", 0, 2],
        [28_000_002, "1m", "trades", "1.3000000000", 0, 3],
    ]);
    assert_eq!(server.query(&sql), want);
}

#[test]
fn points_have_tables_of_their_own_and_what_those_cannot_hold_stands_in_points() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("point_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    let long = "x".repeat(200);
    let odd = "say \"hi\"\\, DROP TABLE x; --\n\r\0🙂";
    let mut seq = 0;
    let mut next = |name: &str, tags: &[(&str, &str)], fields: &[(&str, Value)]| {
        seq += 1;
        point(seq, name, tags, fields)
    };
    let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
    let own = [
        next("cpu", &[("host", odd)], &[("v", decimal("1.5")), ("n", Value::Int(-3)), ("ok", Value::Bool(false))]),
        next("cpu", &[("host", "")], &[("v", decimal("0.12345678901234567")), ("text", Value::Text(odd.into()))]),
        next("cpu", &[], &[("v", Value::Float(f64::NAN)), ("n", Value::Int(i64::MIN)), ("u", Value::UInt(u64::MAX))]),
        next("cpu", &[], &[("v", Value::Int(9_007_199_254_740_993)), ("n", Value::Int(i64::MAX))]),
        next("a b=é🙂", &[("t g", "x")], &[("f=1", Value::Float(5e-324)), ("select", Value::Float(-0.0))]),
    ];
    let misfits = [
        next("a\nb", &[("host", odd)], &[("v", Value::Int(1))]),
        next(&long, &[], &[("v", Value::Int(1))]),
        next("../etc/passwd", &[], &[("v", Value::Float(f64::INFINITY))]),
        next("x'); DROP TABLE trades; --", &[], &[("v\0", Value::Bool(true))]),
        next("trades", &[], &[("v", decimal("1.50"))]),
        next("CPU", &[], &[("v", Value::Int(1))]),
        next("cpu", &[], &[("V", Value::Int(1))]),
        next("cpu", &[("v", "tag")], &[("v", Value::Int(1))]),
        next("cpu", &[("seq", "1")], &[("v", Value::Int(1))]),
    ];
    let all: Vec<Record> = own.iter().chain(&misfits).cloned().collect();
    for _ in 0..2 {
        assert_eq!(alone.refused(&all), []);
    }
    let (cpu, odd_name, points) = (format!("{prefix}cpu"), format!("{prefix}a b=é🙂"), format!("{prefix}points"));
    for table in [&cpu, &odd_name, &points] {
        applied(server, table);
    }
    let (_, found) =
        dataset(server, &format!("SELECT seq, host, v, n, ok, text, u, exact FROM \"{cpu}\" ORDER BY seq")).unwrap();
    assert_eq!(json!(found[0]), json!([1, odd, 1.5, -3, "false", null, null, null]));
    assert_eq!(
        json!(found[1]),
        json!([2, "", 0.123_456_789_012_345_67, null, null, odd, null, "{\"v\":\"0.12345678901234567\"}"])
    );
    let exact = format!("{{\"v\":\"NaN\",\"n\":\"{}\",\"u\":\"{}\"}}", i64::MIN, u64::MAX);
    assert_eq!(json!(found[2]), json!([3, null, null, null, null, null, null, exact]));
    assert_eq!(found[3][7], json!("{\"v\":\"9007199254740993\"}"));
    assert_eq!((found.len(), &found[3][3]), (4, &json!(i64::MAX)));
    let (_, found) = dataset(server, &format!("SELECT \"t g\", \"f=1\", \"select\" FROM \"{odd_name}\"")).unwrap();
    assert_eq!(json!(found), json!([["x", 5e-324, -0.0]]));

    let mut found = reading::records(server, Table::Points, &prefix);
    found.sort_by_key(|record| record.seq);
    assert_eq!(found, misfits);
}

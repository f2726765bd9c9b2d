//! Against polars: ticks in and out of order, late and very late, grouped by a program that knows nothing of ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tapedeck_market::{CandleInput, Decimal, Price, Size, Trade};

use super::{HOUR, MINUTE, SECOND, event, latest, make, numbered, recipe};
use crate::support::python;

const INTERVALS: [i64; 4] = [SECOND, 5 * SECOND, MINUTE, HOUR];

#[test]
fn candles_of_ticks_in_disorder_are_those_of_polars() {
    let Some(python) = python() else { return };
    let mut dice = 12_345_u64;
    let mut below = |n: i64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((dice >> 33) % n as u64) as i64
    };
    let mut now = 1_767_571_200 * SECOND;
    let (mut events, mut lines) = (Vec::new(), String::new());
    for _ in 0..6_000 {
        now += below(SECOND);
        let late = match below(50) {
            0 => below(10 * MINUTE),
            1..5 => below(4 * SECOND),
            _ => below(SECOND / 5),
        };
        let (time, price, size) = (now - late, 100_000 + below(5_000), below(1_000_000));
        writeln!(lines, "{time},{price},{size}").unwrap();
        let (price, size) = (Price(Decimal::new(price, 2).unwrap()), Size(Decimal::new(size, 4).unwrap()));
        let body = tapedeck_market::Body::Trade(Trade { price, size, side: None, id: None });
        events.push(event("fake", "S", time, now, body));
    }
    let ours: BTreeMap<(i64, i64), Vec<i128>> =
        latest(&make(&recipe(&INTERVALS, CandleInput::Trades, "utc"), &numbered(events)))
            .into_iter()
            .map(|((_, interval, start), candle)| {
                let prices =
                    [candle.open, candle.high, candle.low, candle.close].map(|price| i128::from(price.0.mantissa()));
                let rest = [candle.volume.unwrap().mantissa, i128::from(candle.trades.unwrap())];
                ((interval, start), prices.into_iter().chain(rest).collect())
            })
            .collect();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/candles_polars.py");
    let mut child = Command::new(python)
        .arg(script)
        .args(INTERVALS.map(|interval| interval.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let mut theirs = BTreeMap::new();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let numbers: Vec<i128> = line.split(',').map(|number| number.parse().unwrap()).collect();
        let key = (i64::try_from(numbers[0]).unwrap(), i64::try_from(numbers[1]).unwrap());
        theirs.insert(key, numbers[2..].to_vec());
    }
    for (key, theirs) in &theirs {
        assert_eq!(ours.get(key), Some(theirs), "{key:?}");
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(theirs.len() > 2_500, "{}", theirs.len());
}

//! Random lists of ticks: what the program says is what the naive implementation says, whole and cut anywhere.

use std::collections::BTreeMap;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tapedeck::candles::{Maker, Recipe};
use tapedeck_market::{CandleFlags, CandleInput, Decimal, Flags, Price, Record, Size, Trade, UnixNanos};

use super::oracle::{Row, Rules, Statement};
use super::{Bucket, DAY, HOUR, MINUTE, Recorded, SECOND, event, make, numbered, recipe, statements};

const INTERVALS: [i64; 6] = [SECOND, 7 * SECOND, MINUTE, 7 * MINUTE, HOUR, DAY];
/// Digits of prices and sizes in these tests.
const PRICE_SCALE: u8 = 2;
const SIZE_SCALE: u8 = 3;

/// How a tick comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// So long after it happened.
    Delayed(i64),
    /// Ahead of our clock.
    Ahead(i64),
    /// The same once more.
    Again,
    Backfilled(i64),
    /// 1970, or two days ahead.
    Absurd(bool),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    wait: i64,
    symbol: u8,
    way: Way,
    price: i64,
    size: i64,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        12 => (0..300_000_000_i64).prop_map(Way::Delayed),
        3 => (0..5 * SECOND).prop_map(Way::Delayed),
        1 => (0..3 * HOUR).prop_map(Way::Delayed),
        1 => (0..20 * SECOND).prop_map(Way::Ahead),
        1 => (0..20 * HOUR).prop_map(Way::Ahead),
        1 => Just(Way::Again),
        1 => (0..10 * MINUTE).prop_map(Way::Backfilled),
        1 => any::<bool>().prop_map(Way::Absurd),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![
        10 => 0..400_000_000_i64,
        4 => 0..4 * SECOND,
        2 => 0..5 * MINUTE,
        1 => 0..30 * HOUR,
    ];
    (wait, 0..3_u8, way(), 9_000..11_000_i64, 0..5_000_i64).prop_map(|(wait, symbol, way, price, size)| Step {
        wait,
        symbol,
        way,
        price,
        size,
    })
}

/// Some of them around a change of time: 29 March 2026 01:00 UTC in Europe, 8 March 07:00 UTC in New York.
fn begin() -> impl Strategy<Value = i64> {
    let around = |at: &str| {
        let at: jiff::Timestamp = at.parse().unwrap();
        i64::try_from(at.as_nanosecond()).unwrap()
    };
    let moments = [
        "2026-03-29T00:59:30Z",
        "2026-10-25T00:59:30Z",
        "2026-03-08T06:59:30Z",
        "2026-11-01T05:59:30Z",
        "2026-07-01T23:59:30Z",
    ]
    .map(around);
    proptest::sample::select(moments.to_vec())
}

fn anchors() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "utc",
        "09:15 Asia/Kolkata",
        "17:00 America/New_York",
        "02:30 Europe/Warsaw",
        "00:00 Europe/Warsaw",
    ])
}

fn rows(begin: i64, steps: &[Step]) -> Vec<Row> {
    let mut now = begin;
    let mut rows: Vec<Row> = Vec::new();
    for step in steps {
        now += step.wait;
        let mut row = Row {
            symbol: ["A", "B", "C"][usize::from(step.symbol)].to_owned(),
            venue_time: now,
            received: now,
            price: step.price,
            size: step.size,
            backfilled: false,
            absurd: false,
        };
        match step.way {
            Way::Delayed(by) => row.venue_time = now - by,
            Way::Ahead(by) => row.venue_time = now + by,
            Way::Again => {
                if let Some(last) = rows.last() {
                    row = Row { received: now, ..last.clone() };
                }
            }
            Way::Backfilled(by) => (row.venue_time, row.backfilled) = (now - by, true),
            Way::Absurd(early) => row.venue_time = if early { 0 } else { now + 2 * DAY },
        }
        row.absurd = row.venue_time < 946_684_800 * SECOND || row.venue_time > row.received + DAY;
        rows.push(row);
    }
    rows
}

fn records(rows: &[Row]) -> Vec<Record> {
    let events = rows.iter().map(|row| {
        let price = Price(Decimal::new(row.price, PRICE_SCALE).unwrap());
        let size = Size(Decimal::new(row.size, SIZE_SCALE).unwrap());
        let body = tapedeck_market::Body::Trade(Trade { price, size, side: None, id: None });
        let mut event = event("fake", &row.symbol, row.venue_time, row.received, body);
        if row.backfilled {
            event.flags = Flags::BACKFILLED;
        }
        event
    });
    numbered(events.collect())
}

fn rules(anchor: &str) -> Rules {
    let (start_of_day, zone) = match anchor.split_once(' ') {
        Some((time, zone)) => (time.parse::<Time>().unwrap(), TimeZone::get(zone).unwrap()),
        None => (Time::midnight(), TimeZone::UTC),
    };
    Rules { intervals: INTERVALS.to_vec(), zone, start_of_day, lateness: 2 * SECOND }
}

/// What the program said, in the oracle's words.
fn said(events: &[tapedeck_market::Event]) -> BTreeMap<Bucket, Vec<Statement>> {
    let price = |price: Price| {
        assert_eq!(price.0.scale(), PRICE_SCALE);
        price.0.mantissa()
    };
    let statement = |candle: tapedeck_market::Candle| Statement {
        open: price(candle.open),
        high: price(candle.high),
        low: price(candle.low),
        close: price(candle.close),
        volume: candle.volume.unwrap().mantissa,
        vwap: candle.vwap.map(price),
        trades: usize::try_from(candle.trades.unwrap()).unwrap(),
        partial: candle.flags.contains(CandleFlags::PARTIAL),
        revised: candle.flags.contains(CandleFlags::REVISED),
        backfilled: candle.flags.contains(CandleFlags::BACKFILLED),
    };
    let all = statements(events).into_iter();
    all.map(|(bucket, candles)| (bucket, candles.into_iter().map(statement).collect())).collect()
}

fn of_these(anchor: &str) -> Recipe {
    recipe(&INTERVALS, CandleInput::Trades, anchor)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_ticks_make_the_candles_of_the_naive_implementation(
        begin in begin(), anchor in anchors(), steps in proptest::collection::vec(step(), 1..200)
    ) {
        let rows = rows(begin, &steps);
        let want = rules(anchor).state(&rows);
        let got = said(&make(&of_these(anchor), &records(&rows)));
        for (bucket, want) in &want {
            prop_assert_eq!(got.get(bucket), Some(want), "{:?}", bucket);
        }
        prop_assert_eq!(got.len(), want.len());
    }

    #[test]
    fn a_state_that_is_damaged_is_no_state_and_never_panics(
        steps in proptest::collection::vec(step(), 1..40), at in any::<prop::sample::Index>(), bit in 0..8_u8
    ) {
        let records = records(&rows(1_774_745_970 * SECOND, &steps));
        let recipe = of_these("utc");
        let mut maker = Maker::new(recipe.clone());
        for record in &records {
            maker.record(record.seq, &record.event, &mut Recorded { records: &records, first: 0 }).unwrap();
        }
        maker.take_said(UnixNanos::EPOCH);
        let mut state = maker.state(records.len() as u64);
        prop_assert!(Maker::resume(recipe.clone(), &state).is_some());
        let cut = at.index(state.len());
        prop_assert!(Maker::resume(recipe.clone(), &state[..cut]).is_none());
        state[cut] ^= 1 << bit;
        prop_assert!(Maker::resume(recipe, &state).is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Cut at every place, saved and read back: the same is said. So it does not matter either how records are batched.
    #[test]
    fn a_restart_at_any_record_changes_nothing(
        begin in begin(), anchor in anchors(), steps in proptest::collection::vec(step(), 1..80)
    ) {
        let records = records(&rows(begin, &steps));
        let recipe = of_these(anchor);
        let mut past = Recorded { records: &records, first: 0 };
        let mut maker = Maker::new(recipe.clone());
        // What is said from each record on, and the state before it.
        let mut states = Vec::new();
        let mut whole = Vec::new();
        for record in &records {
            states.push((maker.state(record.seq - 1), whole.len()));
            maker.record(record.seq, &record.event, &mut past).unwrap();
            whole.extend(maker.take_said(UnixNanos::EPOCH));
        }
        maker.pause(records.len() as u64, &mut past).unwrap();
        whole.extend(maker.take_said(UnixNanos::EPOCH));
        for (state, from) in &states {
            let (mut maker, seq) = Maker::resume(recipe.clone(), state).expect("its own state");
            prop_assert_eq!(maker.state(seq), state.clone(), "what is read back is what was saved");
            let mut again = Vec::new();
            for record in &records[usize::try_from(seq).unwrap()..] {
                maker.record(record.seq, &record.event, &mut past).unwrap();
                again.extend(maker.take_said(UnixNanos::EPOCH));
            }
            maker.pause(records.len() as u64, &mut past).unwrap();
            again.extend(maker.take_said(UnixNanos::EPOCH));
            prop_assert_eq!(again.len(), whole.len() - from, "restarted behind {}", seq);
            for (again, before) in again.iter().zip(&whole[*from..]) {
                prop_assert_eq!(again, before, "restarted behind {}", seq);
            }
        }
    }
}

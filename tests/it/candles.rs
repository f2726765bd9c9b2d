//! Candles: against what venues published, against a naive implementation, across restarts and kills.

mod deck;
mod oracle;
mod polars;
mod random;
mod rules;
pub(crate) mod venues;

use std::collections::BTreeMap;

use tapedeck::candles::{Anchor, Maker, Recipe, Selection, candle_of};
use tapedeck::derive::Past;
use tapedeck_market::{Body, Candle, CandleInput, Event, Flags, Price, Quote, Record, Size, SmolStr, Trade, UnixNanos};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The records of a test as the past of a tape; what lies before `first` is gone.
pub(crate) struct Recorded<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) first: usize,
}

impl Past for Recorded<'_> {
    fn read(
        &mut self,
        since: UnixNanos,
        upto: u64,
        each: &mut dyn FnMut(u64, Option<&Event>),
    ) -> anyhow::Result<UnixNanos> {
        let there = &self.records[self.first..];
        for record in there.iter().filter(|record| record.event.ts_recv >= since && record.seq <= upto) {
            each(record.seq, Some(&record.event));
        }
        let whole_since = if self.first == 0 { None } else { there.first().map(|record| record.event.ts_recv) };
        Ok(whole_since.unwrap_or(UnixNanos(i64::MIN)))
    }
}

pub(crate) fn recipe(intervals_ns: &[i64], input: CandleInput, anchor: &str) -> Recipe {
    Recipe {
        intervals_ns: intervals_ns.to_vec(),
        input,
        anchor: anchor.parse::<Anchor>().unwrap(),
        lateness_ns: 2 * SECOND,
        selection: Selection { cumulative: tapedeck::config::Globs(vec!["kite".into()]), ..Selection::default() },
    }
}

/// A record; its seq is its place, from 1.
pub(crate) fn numbered(events: Vec<Event>) -> Vec<Record> {
    events.into_iter().zip(1..).map(|(event, seq)| Record { seq, event }).collect()
}

pub(crate) fn event(venue: &str, symbol: &str, ts_event: i64, ts_recv: i64, body: Body) -> Event {
    Event {
        source: SmolStr::new(format!("{venue}-source")),
        venue: venue.into(),
        symbol: symbol.into(),
        ts_event: Some(UnixNanos(ts_event)),
        ts_recv: UnixNanos(ts_recv),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

pub(crate) fn trade(price: &str, size: &str) -> Body {
    let (price, size): (Price, Size) = (price.parse().unwrap(), size.parse().unwrap());
    Body::Trade(Trade { price, size, side: None, id: None })
}

pub(crate) fn quote(bid: &str, ask: &str) -> Body {
    Body::Quote(Quote { bid: Some(bid.parse().unwrap()), ask: Some(ask.parse().unwrap()), ..Quote::default() })
}

/// Everything said about the records, in order; recording stops behind the last one.
pub(crate) fn make(recipe: &Recipe, records: &[Record]) -> Vec<Event> {
    let mut maker = Maker::new(recipe.clone());
    let mut said = Vec::new();
    for record in records {
        maker.record(record.seq, &record.event, &mut Recorded { records, first: 0 }).unwrap();
        said.extend(maker.take_said(UnixNanos::EPOCH));
    }
    let last = records.last().map_or(0, |record| record.seq);
    maker.pause(last, &mut Recorded { records, first: 0 }).unwrap();
    said.extend(maker.take_said(UnixNanos::EPOCH));
    said
}

/// A bucket: symbol, interval, start.
pub(crate) type Bucket = (String, i64, i64);

/// Every statement of each bucket, by revision. A revision that stands there twice, or is left out, fails the test.
pub(crate) fn statements(said: &[Event]) -> BTreeMap<Bucket, Vec<Candle>> {
    let mut all: BTreeMap<Bucket, Vec<Candle>> = BTreeMap::new();
    for event in said {
        let Some(candle) = candle_of(event) else { continue };
        let of = all.entry((event.symbol.to_string(), candle.interval_ns, candle.start.0)).or_default();
        assert_eq!(candle.revision as usize, of.len(), "revisions are dense: {event:?}");
        of.push(candle.clone());
    }
    all
}

/// The last statement of each bucket.
pub(crate) fn latest(said: &[Event]) -> BTreeMap<Bucket, Candle> {
    let last = |(bucket, mut all): (Bucket, Vec<Candle>)| Some((bucket, all.pop()?));
    statements(said).into_iter().filter_map(last).collect()
}

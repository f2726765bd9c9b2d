//! The venue's own candles, said once each.
//!
//! Kraken sends the running candle again at every trade, whole buckets of history at every
//! subscription, and never says that a bucket is over. So: what says the same as before is dropped; each
//! statement of the running candle is `PARTIAL` with a growing revision; when a later bucket
//! appears, the one before is stated once more as `COMPLETE`; and of history only what is newer than
//! the last complete one is taken, which fills in what a restart missed. The start of the last complete one is kept as
//! a `Position`, in the same append.

use std::collections::HashMap;

use tapedeck_market::{Body, Candle, CandleFlags, Event, Position, SmolStr, UnixNanos};

/// What was last said, per (symbol, interval).
#[derive(Debug, Default)]
pub(in crate::sources) struct Candles {
    said: HashMap<(SmolStr, i64), Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Start of the newest candle stated as complete.
    complete: Option<UnixNanos>,
    running: Option<Event>,
}

impl Candles {
    /// Takes over the positions that the tape kept.
    pub(in crate::sources) fn resume(&mut self, positions: &HashMap<SmolStr, SmolStr>) {
        for (key, value) in positions {
            let parts = key.strip_prefix("ohlc ").and_then(|rest| rest.split_once(' '));
            let Some((minutes, symbol)) = parts else { continue };
            let (Ok(minutes), Ok(start)) = (minutes.parse::<i64>(), value.parse::<i64>()) else { continue };
            let said = self.said.entry((SmolStr::new(symbol), minutes.saturating_mul(MINUTE_NS))).or_default();
            said.complete = said.complete.max(Some(UnixNanos(start)));
        }
    }

    /// Turns one frame's candles, in order, into what is news in them.
    #[must_use]
    pub(in crate::sources) fn news(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut news = Vec::with_capacity(events.len());
        for event in events {
            match &event.body {
                Body::Candle(_) => self.take(event, &mut news),
                _ => news.push(event),
            }
        }
        news
    }

    fn take(&mut self, mut event: Event, news: &mut Vec<Event>) {
        let Body::Candle(candle) = &mut event.body else { return };
        let said = self.said.entry((event.symbol.clone(), candle.interval_ns)).or_default();
        if said.complete.is_some_and(|complete| candle.start <= complete) {
            return;
        }
        match said.running.as_ref().and_then(|running| of(running).map(|known| (running, known))) {
            Some((_, known)) if candle.start < known.start => return,
            Some((_, known)) if candle.start == known.start => {
                if same(candle, known) {
                    return;
                }
                candle.revision = known.revision + 1;
            }
            Some((running, known)) => {
                let mut over = running.clone();
                let mut candle = known.clone();
                candle.flags = CandleFlags::COMPLETE;
                // Of history, where both came in one frame, the running statement is not worth a record.
                if news.last().is_some_and(|last| last == running) {
                    news.pop();
                } else {
                    candle.revision += 1;
                }
                said.complete = Some(candle.start);
                // It is over since the next one is there: heard now, at the venue's time of this message.
                (over.ts_recv, over.ts_event) = (event.ts_recv, event.ts_event);
                let key = SmolStr::from(format!("ohlc {} {}", candle.interval_ns / MINUTE_NS, event.symbol));
                let value = SmolStr::from(candle.start.0.to_string());
                over.body = Body::Candle(Box::new(candle));
                let mut position = over.clone();
                position.body = Body::Position(Position { key, value });
                news.extend([over, position]);
            }
            None => {}
        }
        said.running = Some(event.clone());
        news.push(event);
    }
}

const MINUTE_NS: i64 = 60_000_000_000;

fn of(event: &Event) -> Option<&Candle> {
    match &event.body {
        Body::Candle(candle) => Some(candle),
        _ => None,
    }
}

/// Whether both say the same, whatever they are numbered.
fn same(a: &Candle, b: &Candle) -> bool {
    let prices = |c: &Candle| (c.open, c.high, c.low, c.close, c.vwap);
    prices(a) == prices(b) && a.trades == b.trades && a.volume == b.volume
}

#[cfg(test)]
mod tests {
    use super::super::message::{Ctx, Message};
    use super::super::parse::parse;
    use super::*;

    fn frame(items: &[(u32, &str, u32)]) -> Vec<Event> {
        let items: Vec<_> = items
            .iter()
            .map(|(minute, close, trades)| {
                format!(
                    r#"{{"symbol":"BTC/USD","open":1.0,"high":9.0,"low":1.0,"close":{close},"trades":{trades},"volume":1.5,"vwap":1.1,"interval_begin":"2026-07-19T10:{minute:02}:00.000000000Z","interval":1}}"#
                )
            })
            .collect();
        let text = format!(r#"{{"channel":"ohlc","type":"update","data":[{}]}}"#, items.join(","));
        let ctx = Ctx { source: "k".into(), venue: "kraken".into() };
        match parse(text.as_bytes(), UnixNanos(1), &ctx) {
            Ok(Message::Events(events)) => events,
            other => panic!("{other:?}"),
        }
    }

    /// (minute, close, revision, complete) of each candle; positions as their value.
    fn told(events: &[Event]) -> Vec<String> {
        let minute = |start: UnixNanos| start.0 / MINUTE_NS % 60;
        let tell = |event: &Event| match &event.body {
            Body::Candle(c) => {
                let state = if c.flags.contains(CandleFlags::COMPLETE) { "complete" } else { "running" };
                format!("{} {} r{} {state}", minute(c.start), c.close, c.revision)
            }
            Body::Position(p) => format!("at {}", minute(UnixNanos(p.value.parse().expect("a number")))),
            other => panic!("{other:?}"),
        };
        events.iter().map(tell).collect()
    }

    #[test]
    fn a_running_candle_is_revised_then_completed_and_never_repeated() {
        let mut candles = Candles::default();
        assert_eq!(told(&candles.news(frame(&[(0, "2.0", 1)]))), ["0 2.0 r0 running"]);
        assert!(candles.news(frame(&[(0, "2.0", 1)])).is_empty(), "the same again");
        assert_eq!(told(&candles.news(frame(&[(0, "3.0", 2)]))), ["0 3.0 r1 running"]);
        assert_eq!(told(&candles.news(frame(&[(1, "4.0", 1)]))), ["0 3.0 r2 complete", "at 0", "1 4.0 r0 running"]);
        assert!(candles.news(frame(&[(0, "5.0", 3)])).is_empty(), "a bucket that is over stays over");
    }

    #[test]
    fn history_fills_what_a_restart_missed_and_no_more() {
        let mut candles = Candles::default();
        let start = (UnixNanos::parse_rfc3339(b"2026-07-19T10:01:00Z").expect("a time")).0.to_string();
        candles.resume(&HashMap::from([("ohlc 1 BTC/USD".into(), start.into())]));
        let told = told(&candles.news(frame(&[(0, "1.0", 1), (1, "2.0", 1), (2, "3.0", 1), (3, "4.0", 1)])));
        assert_eq!(told, ["2 3.0 r0 complete", "at 2", "3 4.0 r0 running"]);
    }
}

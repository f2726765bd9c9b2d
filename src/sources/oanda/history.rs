//! OANDA's past: of prices nobody keeps the single ones, so candles of five seconds stand in for them.

use anyhow::Context as _;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Event, Flags, Price, SmolStr, UnixNanos};

use super::client::{Client, Gate};
use super::config::Config;
use super::line::{Ctx, instant};
use crate::sources::history::{History, Hole, Outlook, Page, Refused, fits, is_over};
use crate::sources::parsed::plain;

/// The shortest candles there are.
const LENGTH_NS: i64 = 5_000_000_000;
/// Candles of one answer; the venue refuses more.
const PAGE: i64 = 5_000;

pub(super) struct Candles {
    config: Config,
    gate: Gate,
    ctx: Ctx,
}

impl Candles {
    pub(super) fn new(config: Config, ctx: Ctx) -> Candles {
        Candles { config, gate: Gate::new(), ctx }
    }
}

#[async_trait]
impl History for Candles {
    fn outlook(&self, hole: &Hole) -> Outlook {
        match hole.gap.channel.as_str() {
            "quote" => Outlook::Fillable { with: "candles of 5 s, in place of single prices,", numbered: false },
            "book" => Outlook::Lost("OANDA keeps no past books"),
            _ => Outlook::Lost("missed transactions are fetched when the stream is opened"),
        }
    }

    async fn page(&mut self, hole: &Hole, at: Option<&str>) -> anyhow::Result<Page> {
        let (from, to) = hole.span();
        let from = match at {
            Some(at) => at.parse().context("where to go on is no time")?,
            None => from.0.div_euclid(LENGTH_NS) * LENGTH_NS,
        };
        let end = (to.0.div_euclid(LENGTH_NS) + 1) * LENGTH_NS;
        let until = end.min(from.saturating_add(PAGE * LENGTH_NS));
        is_over(UnixNanos(until))?;
        let client = Client::new(&self.config, &self.gate)?;
        let body = client.candles(&hole.symbol, UnixNanos(from), UnixNanos(until)).await?;
        let (events, refused) = candles(&body, &hole.symbol, UnixNanos::now(), &self.ctx)?;
        // The venue may send the one that begins with the end.
        let within = |event: &Event| event.ts_event.is_some_and(|start| (from..until).contains(&start.0));
        let events = events.into_iter().filter(within).collect();
        Ok(Page { events, refused, next: (until < end).then(|| SmolStr::from(until.to_string())) })
    }
}

/// Reads `{"candles":[{"complete":true,"volume":15,"time":"…","bid":{"o":"1.04577",…},"ask":{…}}]}`: an event for each side, and for the middle.
fn candles(body: &str, symbol: &SmolStr, ts_recv: UnixNanos, ctx: &Ctx) -> anyhow::Result<(Vec<Event>, Vec<Refused>)> {
    #[derive(Deserialize)]
    struct Four<'a> {
        #[serde(borrow)]
        o: &'a RawValue,
        #[serde(borrow)]
        h: &'a RawValue,
        #[serde(borrow)]
        l: &'a RawValue,
        #[serde(borrow)]
        c: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct One<'a> {
        complete: bool,
        volume: u64,
        #[serde(borrow)]
        time: &'a RawValue,
        #[serde(borrow)]
        bid: Option<Four<'a>>,
        #[serde(borrow)]
        ask: Option<Four<'a>>,
        #[serde(borrow)]
        mid: Option<Four<'a>>,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        candles: Vec<One<'a>>,
    }
    let answer: Answer<'_> = serde_json::from_str(body).context("reading candles")?;
    let (mut events, mut refused) = (Vec::with_capacity(3 * answer.candles.len()), Vec::new());
    for one in &answer.candles {
        let start = instant(plain(one.time).as_bytes()).context("a candle has no time")?;
        let whole = if one.complete { CandleFlags::COMPLETE } else { CandleFlags::PARTIAL };
        for (input, four) in [(CandleInput::Bid, &one.bid), (CandleInput::Ask, &one.ask), (CandleInput::Mid, &one.mid)]
        {
            let Some(four) = four else { continue };
            let four = [("open", four.o), ("high", four.h), ("low", four.l), ("close", four.c)];
            let row = || four.map(|(name, raw)| format!("{name} {raw}")).join(", ") + &format!(" of {}", one.time);
            let prices: Result<Vec<Price>, Refused> =
                four.iter().map(|(name, raw)| fits(name, plain(raw), &row).map(Price)).collect();
            let [open, high, low, close] = match prices.as_deref() {
                Ok(&[open, high, low, close]) => [open, high, low, close],
                _ => {
                    refused.extend(prices.err());
                    continue;
                }
            };
            let candle = Candle {
                interval_ns: LENGTH_NS,
                start,
                open,
                high,
                low,
                close,
                volume: None,
                vwap: None,
                trades: Some(one.volume),
                flags: CandleFlags(whole.0 | CandleFlags::BACKFILLED.0),
                revision: 0,
                input,
            };
            let body = Body::Candle(Box::new(candle));
            events.push(ctx.event(symbol.clone(), Some(start), ts_recv, Flags::BACKFILLED, body));
        }
    }
    Ok((events, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candle_is_two_events_with_exact_prices() {
        let ctx = Ctx { source: "o".into(), venue: "oanda".into() };
        let body = r#"{"instrument":"EUR_USD","granularity":"S5","candles":[
            {"complete":true,"volume":3,"time":"2014-05-01T12:00:05.000000000Z",
             "bid":{"o":"1.38700","h":"1.38710","l":"1.38690","c":"1.38695"},"ask":{"o":"1.38712","h":"1.38722","l":"1.38702","c":"1.38707"}},
            {"complete":false,"volume":1,"time":"1398945610","bid":{"o":"1.4","h":"1.4","l":"1.4","c":"1.4"}}]}"#;
        let (events, _) = candles(body, &"EUR_USD".into(), UnixNanos(1), &ctx).expect("candles");
        let told: Vec<(CandleInput, String, i64, bool)> = events
            .iter()
            .map(|event| {
                let Body::Candle(candle) = &event.body else { panic!("{event:?}") };
                let complete = candle.flags.contains(CandleFlags::COMPLETE);
                (candle.input, candle.close.to_string(), candle.start.0 / 1_000_000_000, complete)
            })
            .collect();
        let want = [
            (CandleInput::Bid, "1.38695".to_owned(), 1_398_945_605, true),
            (CandleInput::Ask, "1.38707".to_owned(), 1_398_945_605, true),
            (CandleInput::Bid, "1.4".to_owned(), 1_398_945_610, false),
        ];
        assert_eq!(told, want);
        let body = body.replace("1.38690", "12345678901234567890.5");
        let (events, refused) = candles(&body, &"EUR_USD".into(), UnixNanos(1), &ctx).expect("the others");
        assert_eq!((events.len(), refused.len(), refused[0].error.reason), (2, 1, "number refused"));
        assert!(
            refused[0].row.contains("12345678901234567890.5") && refused[0].row.contains("2014-05-01"),
            "{refused:?}"
        );
        assert!(candles(r#"{"candles":[{"complete":true}]}"#, &"A".into(), UnixNanos(1), &ctx).is_err());
    }
}

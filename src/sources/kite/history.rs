//! Kite's past: single ticks are kept by nobody, so candles of a minute stand in for them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Decimal, Event, Flags, Price, SmolStr, Sum, UnixNanos};
use tokio::time::{Instant, sleep_until};

use super::frame::Ctx;
use super::rest::Rest;
use super::text::IST_SECS;
use super::{Shared, list, symbols};
use crate::sources::history::{Gone, History, Hole, Outlook, Page, Refused, fits, is_over, sorted};

const MINUTE_NS: i64 = 60_000_000_000;
/// What the venue gives of minutes at once: 60 days.
const PAGE_NS: i64 = 60 * 86_400 * 1_000_000_000;
/// The venue allows three requests a second for the past.
const PACE: Duration = Duration::from_millis(350);

pub(super) struct Minutes {
    shared: Arc<Shared>,
    ctx: Ctx,
    next: Instant,
}

impl Minutes {
    pub(super) fn new(shared: Arc<Shared>, ctx: Ctx) -> Minutes {
        Minutes { shared, ctx, next: Instant::now() }
    }

    async fn token(&self, rest: &Rest, symbol: &str) -> anyhow::Result<u32> {
        let wanted = symbols::instrument(symbol, "")?;
        if let symbols::Instrument::Token(token) = wanted {
            return Ok(token);
        }
        let list = self.shared.cache.list(rest, UnixNanos::now()).await?;
        let resolved = tokio::task::spawn_blocking(move || list::resolve(&list, &[wanted])).await;
        let resolved = resolved.context("reading the list of instruments")??;
        let token = resolved.tokens.first().map(|(token, _)| *token);
        token.ok_or_else(|| Gone(format!("Kite lists no {symbol} any more")).into())
    }
}

#[async_trait]
impl History for Minutes {
    fn outlook(&self, hole: &Hole) -> Outlook {
        match hole.gap.channel.as_str() {
            "ticker" => Outlook::Fillable { with: "candles of a minute, in place of single ticks,", numbered: false },
            "orders" => Outlook::Lost("Kite sends what happens to orders once"),
            _ => Outlook::Lost("Kite keeps no past quotes and books"),
        }
    }

    async fn page(&mut self, hole: &Hole, at: Option<&str>) -> anyhow::Result<Page> {
        let (from, to) = hole.span();
        let from = match at {
            Some(at) => at.parse().context("where to go on is no time")?,
            None => from.0.div_euclid(MINUTE_NS) * MINUTE_NS,
        };
        let end = (to.0.div_euclid(MINUTE_NS) + 1) * MINUTE_NS;
        let until = end.min(from.saturating_add(PAGE_NS));
        is_over(UnixNanos(until))?;
        let session = self.shared.login.session(UnixNanos::now())?;
        let rest = Rest::new(self.shared.checked.config.rest_url())?;
        let token = self.token(&rest, &hole.symbol).await?;
        sleep_until(self.next).await;
        self.next = Instant::now() + PACE;
        // The venue's `to` is inside.
        let body = rest.minutes(&session, token, UnixNanos(from), UnixNanos(until - MINUTE_NS)).await?;
        let (events, refused) = candles(&body, &hole.symbol, UnixNanos::now(), &self.ctx)?;
        let within = |event: &Event| event.ts_event.is_some_and(|start| (from..until).contains(&start.0));
        let events = events.into_iter().filter(within).collect();
        Ok(Page { events, refused, next: (until < end).then(|| SmolStr::from(until.to_string())) })
    }
}

/// Reads `{"data":{"candles":[["2017-12-15T09:15:00+0530",1704.5,1705,1699.25,1702.8,2499,0],…]}}`.
fn candles(body: &[u8], symbol: &SmolStr, ts_recv: UnixNanos, ctx: &Ctx) -> anyhow::Result<(Vec<Event>, Vec<Refused>)> {
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        candles: Vec<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).context("reading candles")?;
    let one = |row: &Vec<&RawValue>| {
        let [time, open, high, low, close, volume, ..] = row.as_slice() else {
            anyhow::bail!("a candle has {} parts", row.len());
        };
        let start = start(time.get().trim_matches('"')).context("a candle has no time")?;
        let text = || format!("[{}]", row.iter().map(|part| part.get()).collect::<Vec<_>>().join(","));
        let numbers = [("open", open), ("high", high), ("low", low), ("close", close), ("volume", volume)];
        let numbers: Result<Vec<Decimal>, Refused> =
            numbers.iter().map(|(name, raw)| fits(name, raw.get(), &text)).collect();
        let [open, high, low, close, volume] = match numbers.as_deref() {
            Ok(&[open, high, low, close, volume]) => [open, high, low, close, volume],
            Ok(_) => anyhow::bail!("a candle has other parts"),
            Err(refused) => return Ok(Err(refused.clone())),
        };
        let candle = Candle {
            interval_ns: MINUTE_NS,
            start,
            open: Price(open),
            high: Price(high),
            low: Price(low),
            close: Price(close),
            volume: Some(Sum::from(volume)),
            vwap: None,
            trades: None,
            flags: CandleFlags(CandleFlags::COMPLETE.0 | CandleFlags::BACKFILLED.0),
            revision: 0,
            input: CandleInput::Venue,
        };
        let body = Body::Candle(Box::new(candle));
        Ok(Ok(ctx.event(symbol.clone(), Some(start), ts_recv, Flags::BACKFILLED, body)))
    };
    sorted(answer.data.candles.iter().map(one))
}

/// `2017-12-15T09:15:00+0530`, an offset that the standards write with a colon.
fn start(text: &str) -> Option<UnixNanos> {
    let (civil, offset) = text.split_at_checked(19)?;
    let secs = match offset {
        "+0530" | "+05:30" => IST_SECS,
        "Z" | "+0000" | "+00:00" => 0,
        _ => return None,
    };
    let utc = UnixNanos::parse_rfc3339(format!("{civil}Z").as_bytes())?;
    Some(UnixNanos(utc.0.checked_sub(secs.checked_mul(1_000_000_000)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candles_are_read_with_times_of_india_and_exact_prices() {
        let ctx = Ctx { source: "k".into(), venue: "kite".into() };
        let body =
            br#"{"status":"success","data":{"candles":[["2017-12-15T09:15:00+0530",1704.5,1705,1699.25,1702.8,2499,0],
            ["2017-12-15T09:16:00+0530",1702.80,1702.8,1702,1702.00,12]]}}"#;
        let (events, _) = candles(body, &"NSE:INFY".into(), UnixNanos(1), &ctx).expect("candles");
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].ts_event, UnixNanos::parse_rfc3339(b"2017-12-15T03:45:00Z"));
        let Body::Candle(candle) = &events[0].body else { panic!("{events:?}") };
        assert_eq!((candle.low.to_string(), candle.open.to_string()), ("1699.25".into(), "1704.5".into()));
        assert_eq!(candle.volume.map(|volume| volume.to_string()).as_deref(), Some("2499"));
        let body = br#"{"data":{"candles":[["2017-12-15T09:15:00+0530",1704.5,"NaN",1699.25,1702.8,2499],
            ["2017-12-15T09:16:00+0530",1702.80,1702.8,1702,1702.00,12]]}}"#;
        let (events, refused) = candles(body, &"NSE:INFY".into(), UnixNanos(1), &ctx).expect("the other one");
        assert_eq!((events.len(), refused.len(), refused[0].error.reason), (1, 1, "number refused"));
        for wrong in ["{}", r#"{"data":{"candles":[["x",1,1,1,1,1]]}}"#, r#"{"data":{"candles":[[1]]}}"#] {
            assert!(candles(wrong.as_bytes(), &"A".into(), UnixNanos(1), &ctx).is_err(), "{wrong}");
        }
    }
}

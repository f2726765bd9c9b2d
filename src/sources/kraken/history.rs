//! Kraken's past trades, by id: `Trades?pair=…&since=<ns>`, 1,000 a page, oldest first.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Event, Flags, Price, Side, Size, SmolStr, Trade, UnixNanos};
use tokio::time::{Instant, sleep_until};

use super::config::Config;
use super::message::Ctx;
use super::names::Names;
use super::parse::plain_text;
use super::rest::{self, Rest};
use super::v1::epoch;
use crate::sources::history::{Gone, History, Hole, Outlook, Page, Refused, fits, sorted};

/// What the venue gives at once.
const PAGE_TRADES: usize = 1_000;

pub(super) struct Trades {
    rest: Rest,
    names: Option<Names>,
    ctx: Ctx,
    /// Between two requests: the venue counts them against the address.
    pace: Duration,
    next: Instant,
}

/// A page of the venue: the trades, and the time to go on behind.
#[derive(Debug, PartialEq)]
struct Told {
    /// With their ids.
    trades: Vec<(u64, Event)>,
    refused: Vec<Refused>,
    last: i64,
}

impl Trades {
    pub(super) fn new(config: &Config, ctx: Ctx) -> anyhow::Result<Trades> {
        let rest = Rest::new(config.rest_url())?;
        Ok(Trades { rest, names: None, ctx, pace: config.repair_pace.0, next: Instant::now() })
    }

    /// The venue's own name of a pair.
    async fn name(&mut self, symbol: &str) -> anyhow::Result<SmolStr> {
        if self.names.is_none() {
            self.names = Some(self.rest.names().await?);
        }
        let aliases = self.names.as_ref().map(|names| names.aliases(symbol)).unwrap_or_default();
        let name = aliases.iter().find(|(scheme, _)| scheme == "altname").or(aliases.first());
        name.map(|(_, name)| name.clone()).ok_or_else(|| Gone(format!("Kraken lists no {symbol} any more")).into())
    }

    async fn turn(&mut self) {
        sleep_until(self.next).await;
        self.next = Instant::now() + self.pace;
    }
}

#[async_trait]
impl History for Trades {
    fn outlook(&self, hole: &Hole) -> Outlook {
        match hole.gap.channel.as_str() {
            "trade" => Outlook::Fillable { with: "trades", numbered: true },
            "book" => Outlook::Lost("Kraken keeps no past books"),
            "ticker" => Outlook::Lost("Kraken keeps no past tickers"),
            "ohlc" => Outlook::Lost("candles are made of the trades"),
            "executions" => Outlook::Lost("own orders come whole with the next session"),
            _ => Outlook::Lost("Kraken tells it anew with each session, and keeps no past of it"),
        }
    }

    async fn page(&mut self, hole: &Hole, at: Option<&str>) -> anyhow::Result<Page> {
        let (from, to) = hole.span();
        let (since, told_until) = match at {
            Some(at) => begins(at).context("where to go on is no time")?,
            None => (from.0.saturating_sub(1), 0),
        };
        let pair = self.name(&hole.symbol).await?;
        self.turn().await;
        let body = self.rest.trades(&pair, since).await?;
        let ts_recv = UnixNanos::now();
        let told = told(rest::result(&body)?, &hole.symbol, ts_recv, &self.ctx).context("reading Trades")?;
        // Ids tell more exactly than times, whose clock is another one.
        let beyond = |id: u64, event: &Event| match hole.between.1 {
            Some(before) => id >= before,
            None => event.ts_event.is_some_and(|ts| ts > to),
        };
        let whole = told.trades.len() + told.refused.len() < PAGE_TRADES || told.last <= since;
        let ended = whole || told.trades.last().is_some_and(|(id, event)| beyond(*id, event));
        // Trades of the page's last nanosecond may go on behind it.
        let again = told.last.saturating_sub(1).max(since.saturating_add(1));
        let until = told.trades.iter().map(|(id, _)| *id).fold(told_until, u64::max);
        let missing = |id: u64, event: &Event| id > told_until && hole.may_miss(id) && !beyond(id, event);
        let missing = told.trades.into_iter().filter(|(id, event)| missing(*id, event));
        let events = missing.map(|(_, event)| event).collect();
        Ok(Page { events, refused: told.refused, next: (!ended).then(|| SmolStr::from(format!("{again} {until}"))) })
    }
}

/// A time in ns, and the id up to which all was told: on the page of that time it comes again.
fn begins(at: &str) -> Option<(i64, u64)> {
    let (since, id) = at.split_once(' ')?;
    Some((since.parse().ok()?, id.parse().ok()?))
}

/// Reads `{"XXBTZUSD":[["30243.40","0.34",1688669597.8277369,"b","m","",61044952],…],"last":"1688671969993150842"}`.
fn told(result: &RawValue, symbol: &SmolStr, ts_recv: UnixNanos, ctx: &Ctx) -> anyhow::Result<Told> {
    let answer: std::collections::HashMap<&str, &RawValue> = serde_json::from_str(result.get())?;
    let last = answer.get("last").and_then(|last| plain_text(last).parse().ok()).context("it has no `last`")?;
    let rows = answer.iter().find(|(key, _)| **key != "last").context("it has no trades")?;
    let rows: Vec<Vec<&RawValue>> = serde_json::from_str(rows.1.get())?;
    let trade = |row: &Vec<&RawValue>| {
        let text = || format!("[{}]", row.iter().map(|part| part.get()).collect::<Vec<_>>().join(","));
        let [price, size, time, side, _, _, id, ..] = row.as_slice() else {
            return Err(anyhow!("a trade has {} parts", row.len()));
        };
        let number: u64 = id.get().parse().with_context(|| format!("a trade has the id {id}"))?;
        let side = match plain_text(side) {
            "b" => Some(Side::Buy),
            "s" => Some(Side::Sell),
            _ => None,
        };
        let at = Some(epoch(time).context("a trade has no time")?);
        let numbers =
            fits("price", plain_text(price), &text).and_then(|it| Ok((it, fits("size", plain_text(size), &text)?)));
        let (price, size) = match numbers {
            Ok((price, size)) => (Price(price), Size(size)),
            Err(refused) => return Ok(Err(refused)),
        };
        let body = Trade { price, size, side, id: Some(SmolStr::from(number.to_string())) };
        Ok(Ok((number, ctx.event(symbol.clone(), at, ts_recv, Flags::BACKFILLED, Body::Trade(body)))))
    };
    let (trades, refused) = sorted(rows.iter().map(trade))?;
    Ok(Told { trades, refused, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_ids_and_exact_times() {
        let ctx = Ctx { source: "k".into(), venue: "kraken".into() };
        let read = |text: &str| {
            let raw: Box<RawValue> = serde_json::from_str(text).expect("JSON");
            told(&raw, &"BTC/USD".into(), UnixNanos(1), &ctx)
        };
        let page = read(
            r#"{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],
                ["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],"last":"1688671969993150842"}"#,
        );
        let page = page.expect("a page");
        assert_eq!(page.last, 1_688_671_969_993_150_842);
        let ids: Vec<u64> = page.trades.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [61_044_952, 61_044_953]);
        let first = &page.trades[0].1;
        assert_eq!(first.ts_event, Some(UnixNanos(1_688_669_597_827_736_900)));
        assert!(first.flags.contains(Flags::BACKFILLED));
        let Body::Trade(trade) = &first.body else { panic!("{first:?}") };
        assert_eq!((trade.price.to_string(), trade.size.to_string()), ("30243.40000".into(), "0.34507674".into()));
        assert_eq!((trade.side, trade.id.as_deref()), (Some(Side::Buy), Some("61044952")));
        let page = read(
            r#"{"A":[["1","2",3.5,"b","m","",7],["1234567890123456789012.5","2",3.6,"b","m","",8],["1","NaN",3.7,"b","m","",9]],"last":"4"}"#,
        );
        let page = page.expect("one row is no reason to lose the others");
        let ids: Vec<u64> = page.trades.iter().map(|(id, _)| *id).collect();
        assert_eq!((ids, page.refused.len()), (vec![7], 2));
        assert!(page.refused[0].row.contains(",8]") && page.refused[0].error.reason == "number refused", "{page:?}");
        for wrong in ["{}", r#"{"last":"1"}"#, r#"{"A":[],"last":"x"}"#, r#"{"A":[["1","2",3]],"last":"1"}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

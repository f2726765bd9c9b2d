//! WebSocket v1, the array format: frozen at the venue, alive in everybody's recordings.
//!
//! ```text
//! [channelID, payload, "book-10", "XBT/USD"]        [channelID, {"a":…}, {"b":…,"c":"…"}, "book-10", "XBT/USD"]
//! book     {"as":[[price,size,time]…],"bs":[…]} once, then {"a":[[price,size,time,"r"?]…],"c":"checksum"}
//! trade    [[price,size,time,"b"|"s","m"|"l",misc]…]       spread  [bid,ask,time,bid size,ask size]
//! ticker   {"a":[price,whole lots,lots],"b":…,"c":[price,lots],"v":[today,24 h],"p":…,"t":…,"l":…,"h":…,"o":…}
//! ohlc-5   [time,end,open,high,low,close,vwap,volume,count]
//! {"event":"heartbeat"|"pong"|"systemStatus"|"subscriptionStatus",…}
//! ```
//!
//! What an array is, its last two items tell; the channel id is only a number. The two objects that an
//! update may have are one update: its checksum holds after both. `"r"` marks a level that the venue
//! repeats because it moved back into view: a level like any other. Symbols stay in the v1 spelling.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{
    Body, BookUpdate, Candle, CandleFlags, CandleInput, Decimal, Event, Flags, Level, Price, Quote, Side, Size,
    SmolStr, Status, Sum, Ticker, Trade, UnixNanos,
};

use super::message::{Ack, Ctx, Message, Method, ParseError, Refusal, reason};
use super::parse::{exact, lenient, plain_text, whole};

const MINUTE_NS: i64 = 60_000_000_000;

/// Reads one frame of the v1 feed that arrived at `ts_recv`.
///
/// # Errors
/// As [`parse`](super::parse::parse).
pub fn parse(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    if frame.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'[') {
        return event(frame, ts_recv, ctx);
    }
    let items: Vec<&RawValue> =
        serde_json::from_slice(frame).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let [_, payloads @ .., channel, pair] = items.as_slice() else {
        return Ok(Message::Unknown);
    };
    let (Ok(channel), Ok(pair)) = (read::<Cow<'_, str>>(channel), read::<Cow<'_, str>>(pair)) else {
        return Ok(Message::Unknown);
    };
    let (name, detail) = channel.split_once('-').map_or((channel.as_ref(), None), |(name, n)| (name, Some(n)));
    let at = Arrival { ts_recv, pair: &pair, ctx };
    match (name, payloads) {
        ("book", payloads) if !payloads.is_empty() => at.book(payloads, detail.and_then(|n| n.parse().ok())),
        ("ticker", [payload]) => at.ticker(payload),
        ("trade", [payload]) => at.trades(payload),
        ("spread", [payload]) => at.spread(payload),
        ("ohlc", [payload]) => at.ohlc(payload, detail.map_or(Some(1), |n| n.parse().ok())),
        _ => Ok(Message::Unknown),
    }
}

/// `{"event":…}`
fn event(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    let frame: EventItem<'_> =
        serde_json::from_slice(frame).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let req_id = frame.reqid.and_then(whole);
    Ok(match frame.event.as_deref() {
        Some("heartbeat") => Message::Heartbeat,
        Some("pong") => Message::Pong { req_id, time_out: None },
        Some("systemStatus") => {
            let detail = [("version", frame.version), ("connection_id", frame.connection_id)]
                .into_iter()
                .filter_map(|(key, raw)| raw.map(|raw| (SmolStr::new_static(key), SmolStr::new(plain_text(raw)))))
                .collect();
            let state = frame.status.as_deref().map(SmolStr::new).unwrap_or_default();
            let body = Body::Status(Status { topic: SmolStr::new_static("venue"), state, detail });
            Message::Events(vec![ctx.event(SmolStr::default(), None, ts_recv, Flags::NONE, body)])
        }
        Some("subscriptionStatus") => {
            let symbol = frame.pair.as_deref().map(SmolStr::new);
            let method =
                if frame.status.as_deref() == Some("unsubscribed") { Method::Unsubscribe } else { Method::Subscribe };
            if frame.status.as_deref() == Some("error") {
                let error = frame.error.as_deref().unwrap_or_default().to_owned();
                return Ok(Message::Refusal(Refusal { method, symbol, req_id, error }));
            }
            let channel = frame.channel_name.as_deref().unwrap_or_default();
            let (name, detail) = channel.split_once('-').unwrap_or((channel, ""));
            let number = detail.parse().ok();
            Message::Ack(Ack {
                method,
                channel: SmolStr::new(name),
                symbol,
                req_id,
                depth: number.filter(|_| name == "book"),
                interval: number.filter(|_| name == "ohlc"),
                warnings: Vec::new(),
                time_out: None,
            })
        }
        _ => Message::Unknown,
    })
}

#[derive(Deserialize)]
struct EventItem<'a> {
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reqid: Option<&'a RawValue>,
    status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "connectionID")]
    connection_id: Option<&'a RawValue>,
    pair: Option<Cow<'a, str>>,
    #[serde(rename = "channelName")]
    channel_name: Option<Cow<'a, str>>,
    #[serde(rename = "errorMessage")]
    error: Option<Cow<'a, str>>,
}

/// What the parts of one array share.
struct Arrival<'a> {
    ts_recv: UnixNanos,
    pair: &'a str,
    ctx: &'a Ctx,
}

/// `[price, size, time, "r"?]`
type LevelItem<'a> = Vec<&'a RawValue>;

#[derive(Default, Deserialize)]
struct BookItem<'a> {
    #[serde(borrow, rename = "as")]
    asks_all: Option<Vec<LevelItem<'a>>>,
    #[serde(borrow, rename = "bs")]
    bids_all: Option<Vec<LevelItem<'a>>>,
    #[serde(borrow, default, rename = "a")]
    asks: Vec<LevelItem<'a>>,
    #[serde(borrow, default, rename = "b")]
    bids: Vec<LevelItem<'a>>,
    /// Of ten levels a side, so the key that looks like a third side is the checksum.
    #[serde(borrow, rename = "c")]
    checksum: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TickerItem<'a> {
    #[serde(borrow, default)]
    a: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    b: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    c: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    v: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    p: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    t: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    l: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    h: Vec<&'a RawValue>,
    /// [today, 24 h] on the socket, one text over REST.
    #[serde(borrow)]
    o: Option<&'a RawValue>,
}

impl Arrival<'_> {
    fn event(&self, ts_event: Option<UnixNanos>, flags: Flags, body: Body) -> Event {
        self.ctx.event(SmolStr::new(self.pair), ts_event, self.ts_recv, flags, body)
    }

    fn book(&self, payloads: &[&RawValue], depth: Option<u32>) -> Result<Message, ParseError> {
        let mut update = BookUpdate { depth, ..BookUpdate::default() };
        let mut newest = None;
        for payload in payloads {
            let item: BookItem<'_> = read(payload)?;
            update.snapshot |= item.asks_all.is_some() || item.bids_all.is_some();
            for side in [item.asks_all.as_deref().unwrap_or_default(), &item.asks] {
                levels(side, &mut update.asks, &mut newest)?;
            }
            for side in [item.bids_all.as_deref().unwrap_or_default(), &item.bids] {
                levels(side, &mut update.bids, &mut newest)?;
            }
            if let Some(raw) = item.checksum {
                let checksum = whole(raw).and_then(|n| u32::try_from(n).ok());
                update.checksum = Some(checksum.ok_or_else(|| shape("checksum"))?);
            }
        }
        let flags = if update.snapshot { Flags::SNAPSHOT } else { Flags::NONE };
        Ok(Message::Events(vec![self.event(newest, flags, Body::Book(update))]))
    }

    fn ticker(&self, payload: &RawValue) -> Result<Message, ParseError> {
        let ticker = ticker(payload)?;
        Ok(Message::Events(vec![self.event(None, Flags::NONE, Body::Ticker(Box::new(ticker)))]))
    }

    fn trades(&self, payload: &RawValue) -> Result<Message, ParseError> {
        let items: Vec<Vec<&RawValue>> = read(payload)?;
        let trade = |item: &Vec<&RawValue>| {
            let [price, size, time, rest @ ..] = item.as_slice() else {
                return Err(shape("trade"));
            };
            let side = match rest.first().map(|raw| plain_text(raw)) {
                Some("b") => Some(Side::Buy),
                Some("s") => Some(Side::Sell),
                _ => None,
            };
            let trade =
                Trade { price: Price(exact("price", price)?), size: Size(exact("size", size)?), side, id: None };
            Ok(self.event(epoch(time), Flags::NONE, Body::Trade(trade)))
        };
        items.iter().map(trade).collect::<Result<_, _>>().map(Message::Events)
    }

    fn spread(&self, payload: &RawValue) -> Result<Message, ParseError> {
        let items: Vec<&RawValue> = read(payload)?;
        let [bid, ask, time, sizes @ ..] = items.as_slice() else {
            return Err(shape("spread"));
        };
        let size = |at: usize| sizes.get(at).map(|raw| exact("size", raw).map(Size)).transpose();
        let quote = Quote {
            bid: Some(Price(exact("bid", bid)?)),
            ask: Some(Price(exact("ask", ask)?)),
            bid_size: size(0)?,
            ask_size: size(1)?,
        };
        Ok(Message::Events(vec![self.event(epoch(time), Flags::NONE, Body::Quote(quote))]))
    }

    fn ohlc(&self, payload: &RawValue, minutes: Option<i64>) -> Result<Message, ParseError> {
        let items: Vec<&RawValue> = read(payload)?;
        let [time, end, open, high, low, close, vwap, volume, rest @ ..] = items.as_slice() else {
            return Err(shape("ohlc"));
        };
        let minutes =
            minutes.filter(|minutes| (1..=100_000).contains(minutes)).ok_or_else(|| shape("ohlc interval"))?;
        let end = epoch(end).ok_or_else(|| shape("ohlc end"))?;
        let interval_ns = minutes * MINUTE_NS;
        let candle = Candle {
            interval_ns,
            // The venue names the end, and in old recordings not the round one: the bucket that it lies in.
            start: UnixNanos(end.0.saturating_sub(1).div_euclid(interval_ns).saturating_mul(interval_ns)),
            open: Price(exact("open", open)?),
            high: Price(exact("high", high)?),
            low: Price(exact("low", low)?),
            close: Price(exact("close", close)?),
            volume: Some(Sum::from(exact("volume", volume)?)),
            vwap: Some(Price(exact("vwap", vwap)?)),
            trades: rest.first().and_then(|raw| whole(raw)),
            flags: CandleFlags::PARTIAL,
            revision: 0,
            input: CandleInput::Venue,
        };
        Ok(Message::Events(vec![self.event(epoch(time), Flags::NONE, Body::Candle(Box::new(candle)))]))
    }
}

/// The ticker object of v1 and REST: every statistic for today and for 24 hours.
///
/// # Errors
/// It is no such object. A number that does not fit is listed in `refused`.
pub(super) fn ticker(payload: &RawValue) -> Result<Ticker, ParseError> {
    let item: TickerItem<'_> = read(payload)?;
    let mut ticker = Ticker::default();
    let mut refused = Vec::new();
    let mut field = |name, list: &[&RawValue], at: usize| lenient(name, list.get(at).copied(), &mut refused);
    ticker.ask = field("ask", &item.a, 0).map(Price);
    ticker.ask_whole_lots = field("ask_whole_lots", &item.a, 1).map(Size);
    ticker.ask_size = field("ask_size", &item.a, 2).map(Size);
    ticker.bid = field("bid", &item.b, 0).map(Price);
    ticker.bid_whole_lots = field("bid_whole_lots", &item.b, 1).map(Size);
    ticker.bid_size = field("bid_size", &item.b, 2).map(Size);
    ticker.last = field("last", &item.c, 0).map(Price);
    ticker.last_size = field("last_size", &item.c, 1).map(Size);
    let open: Vec<&RawValue> = item.o.map(|raw| read(raw).unwrap_or_else(|_| vec![raw])).unwrap_or_default();
    for (at, stats) in [(0, &mut ticker.today), (1, &mut ticker.day)] {
        stats.volume = field("volume", &item.v, at).map(Size);
        stats.vwap = field("vwap", &item.p, at).map(Price);
        stats.low = field("low", &item.l, at).map(Price);
        stats.high = field("high", &item.h, at).map(Price);
        stats.open = field("open", &open, at).map(Price);
        stats.trades = item.t.get(at).and_then(|raw| whole(raw));
    }
    ticker.refused = refused;
    Ok(ticker)
}

fn levels(items: &[LevelItem<'_>], levels: &mut Vec<Level>, newest: &mut Option<UnixNanos>) -> Result<(), ParseError> {
    levels.reserve(items.len());
    for item in items {
        let [price, size, rest @ ..] = item.as_slice() else {
            return Err(shape("book level"));
        };
        let (price, size): (Decimal, Decimal) = (exact("price", price)?, exact("size", size)?);
        levels.push(Level { price: Price(price), size: Size(size), orders: None });
        *newest = (*newest).max(rest.first().and_then(|raw| epoch(raw)));
    }
    Ok(())
}

pub(super) fn epoch(raw: &RawValue) -> Option<UnixNanos> {
    UnixNanos::parse_epoch_secs(plain_text(raw).as_bytes())
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, ParseError> {
    serde_json::from_str(raw.get()).map_err(|error| ParseError::new(reason::SHAPE, error))
}

fn shape(what: &'static str) -> ParseError {
    ParseError::new(reason::SHAPE, what)
}

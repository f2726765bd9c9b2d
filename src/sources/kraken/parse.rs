//! WebSocket v2: one frame → one [`Message`].
//!
//! ```text
//! {"channel":"trade"|"ticker"|"book"|"ohlc"|"executions"|"status", "type":"snapshot"|"update", "data":[{…},…]}
//! {"channel":"instrument", "type":…, "data":{"assets":[…],"pairs":[…]}}
//! {"channel":"heartbeat"}
//! {"method":…, "success":true, "result":{"channel":…,"symbol":…}, "req_id":…, "time_in":…, "time_out":…}
//! {"method":…, "success":false, "error":…, "symbol"?:…, "req_id"?:…}      {"Error":"Exceeded msg rate"}
//! ```
//!
//! Invariants: no number passes through a float, every one is read from its own text; keys may come
//! in any order, unknown ones are skipped; any bytes give an answer, never a panic. `scan` reads the
//! three busy channels in the key order that the venue uses; whatever it does not know comes
//! here, and both agree on everything that both accept.
//!
//! Numbers that do not fit: of a ticker they are listed in `refused`, because a statistic less is no lost
//! event; of a trade or a book the frame is rejected, because half of it would be a lie. A venue time
//! that is no instant leaves the event without one: the trade happened all the same.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{
    Body, BookUpdate, Candle, CandleFlags, CandleInput, Decimal, Event, Flags, Instrument, Level, Price, Side, Size,
    SmolStr, Status, Sum, Ticker, Trade, UnixNanos,
};

use super::message::{Ack, Ctx, Message, Method, ParseError, Refusal, reason};
use super::{private, scan};

/// A text in `Ticker::refused` is cut here: it came from outside.
const REFUSED_TEXT_BYTES: usize = 64;
/// A longer trade id is none: Kraken's have ten digits.
pub(super) const TRADE_ID_BYTES: usize = 64;
const MINUTE_NS: i64 = 60_000_000_000;

/// Reads one frame of the v2 feed that arrived at `ts_recv`.
///
/// # Errors
/// The frame is not JSON, lacks what its channel always has, or holds a price or size that does not fit.
pub fn parse(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    match scan::scan(frame, ts_recv, ctx) {
        Some(message) => Ok(message),
        None => parse_any_order(frame, ts_recv, ctx),
    }
}

/// The general way: any key order, whitespace, escapes, exponents. The oracle of `scan`.
///
/// # Errors
/// As [`parse`].
pub fn parse_any_order(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    let frame: Envelope<'_> =
        serde_json::from_slice(frame).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let Some(channel) = &frame.channel else {
        return Ok(answer(&frame));
    };
    if channel == "heartbeat" {
        return Ok(Message::Heartbeat);
    }
    let Some(data) = frame.data else {
        return Ok(Message::Unknown);
    };
    let flags = if frame.kind.as_deref() == Some("snapshot") { Flags::SNAPSHOT } else { Flags::NONE };
    let at = Arrival { ts_recv, flags, ctx };
    match channel.as_ref() {
        "trade" => at.each(data, Arrival::trade),
        "ticker" => at.each(data, Arrival::ticker),
        "book" => at.each(data, Arrival::book),
        "ohlc" => {
            let sent = frame.timestamp.as_deref().and_then(instant);
            at.each(data, |at, item| at.ohlc(item, sent))
        }
        "instrument" => at.instruments(data),
        "status" => at.each(data, Arrival::status),
        "executions" => at.each(data, |at, item| private::execution(at.ctx, at.ts_recv, at.flags, item)),
        _ => Ok(Message::Unknown),
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    timestamp: Option<Cow<'a, str>>,
    method: Option<Cow<'a, str>>,
    success: Option<bool>,
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow)]
    req_id: Option<&'a RawValue>,
    time_out: Option<Cow<'a, str>>,
    #[serde(rename = "Error")]
    rate_error: Option<Cow<'a, str>>,
}

/// Answers to requests, and what has neither channel nor method.
fn answer(frame: &Envelope<'_>) -> Message {
    if frame.rate_error.is_some() {
        return Message::RateExceeded;
    }
    let Some(method) = frame.method.as_deref() else {
        return Message::Unknown;
    };
    let req_id = frame.req_id.and_then(whole);
    let time_out = frame.time_out.as_deref().and_then(instant);
    if method == "pong" {
        return Message::Pong { req_id, time_out };
    }
    let method = Method::from_name(method);
    if let Some(error) = &frame.error {
        if error.starts_with("Exceeded msg rate") && req_id.is_none() {
            return Message::RateExceeded;
        }
        let symbol = frame.symbol.as_deref().map(SmolStr::new);
        return Message::Refusal(Refusal { method, symbol, req_id, error: error.to_string() });
    }
    if frame.success != Some(true) {
        return Message::Unknown;
    }
    let granted: Granted<'_> =
        frame.result.and_then(|result| serde_json::from_str(result.get()).ok()).unwrap_or_default();
    let symbol = granted.symbol.as_deref().or(frame.symbol.as_deref()).map(SmolStr::new);
    let number = |raw: Option<&RawValue>| raw.and_then(whole).and_then(|n| u32::try_from(n).ok());
    Message::Ack(Ack {
        method,
        channel: granted.channel.as_deref().map(SmolStr::new).unwrap_or_default(),
        symbol,
        req_id,
        depth: number(granted.depth),
        interval: number(granted.interval),
        warnings: granted.warnings.unwrap_or_default(),
        time_out,
    })
}

#[derive(Default, Deserialize)]
struct Granted<'a> {
    channel: Option<Cow<'a, str>>,
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow)]
    depth: Option<&'a RawValue>,
    #[serde(borrow)]
    interval: Option<&'a RawValue>,
    warnings: Option<Vec<String>>,
}

/// What the items of one frame share.
struct Arrival<'c> {
    ts_recv: UnixNanos,
    flags: Flags,
    ctx: &'c Ctx,
}

impl Arrival<'_> {
    fn each<'a, T: Deserialize<'a>>(
        &self,
        data: &'a RawValue,
        event: impl Fn(&Self, &T) -> Result<Event, ParseError>,
    ) -> Result<Message, ParseError> {
        let items: Vec<T> = items(data)?;
        items.iter().map(|item| event(self, item)).collect::<Result<_, _>>().map(Message::Events)
    }

    fn event(&self, symbol: &str, ts_event: Option<UnixNanos>, body: Body) -> Event {
        self.ctx.event(SmolStr::new(symbol), ts_event, self.ts_recv, self.flags, body)
    }

    fn trade(&self, item: &TradeItem<'_>) -> Result<Event, ParseError> {
        let id = item.trade_id.map(plain_text);
        if let Some(id) = id.as_ref().filter(|id| id.len() > TRADE_ID_BYTES) {
            let detail = format!("trade_id of {} bytes, {TRADE_ID_BYTES} are the most", id.len());
            return Err(ParseError::new(reason::SHAPE, detail));
        }
        let trade = Trade {
            price: Price(exact("price", item.price)?),
            size: Size(exact("qty", item.qty)?),
            side: item.side.as_deref().and_then(side),
            id: id.map(SmolStr::new),
        };
        Ok(self.event(&item.symbol, item.timestamp.as_deref().and_then(instant), Body::Trade(trade)))
    }

    fn ticker(&self, item: &TickerItem<'_>) -> Result<Event, ParseError> {
        let mut ticker = Box::<Ticker>::default();
        let mut refused = Vec::new();
        let mut field = |name: &'static str, raw: Option<&RawValue>| lenient(name, raw, &mut refused);
        ticker.bid = field("bid", item.bid).map(Price);
        ticker.bid_size = field("bid_qty", item.bid_qty).map(Size);
        ticker.ask = field("ask", item.ask).map(Price);
        ticker.ask_size = field("ask_qty", item.ask_qty).map(Size);
        ticker.last = field("last", item.last).map(Price);
        ticker.day.volume = field("volume", item.volume).map(Size);
        ticker.day.vwap = field("vwap", item.vwap).map(Price);
        ticker.day.low = field("low", item.low).map(Price);
        ticker.day.high = field("high", item.high).map(Price);
        ticker.change = field("change", item.change);
        ticker.change_pct = field("change_pct", item.change_pct);
        ticker.refused = refused;
        Ok(self.event(&item.symbol, item.timestamp.as_deref().and_then(instant), Body::Ticker(ticker)))
    }

    fn book(&self, item: &BookItem<'_>) -> Result<Event, ParseError> {
        let update = BookUpdate {
            snapshot: self.flags.contains(Flags::SNAPSHOT),
            bids: levels(&item.bids)?,
            asks: levels(&item.asks)?,
            checksum: item.checksum.map(checksum).transpose()?,
            depth: None,
        };
        Ok(self.event(&item.symbol, item.timestamp.as_deref().and_then(instant), Body::Book(update)))
    }

    /// The venue sends the running candle again and again and never says that it is over: `PARTIAL`,
    /// until `candles` sees the next one.
    fn ohlc(&self, item: &OhlcItem<'_>, sent: Option<UnixNanos>) -> Result<Event, ParseError> {
        let shape = |what: &str| ParseError::new(reason::SHAPE, what);
        let minutes = whole(item.interval)
            .and_then(|minutes| i64::try_from(minutes).ok())
            .filter(|&minutes| (1..=100_000).contains(&minutes))
            .ok_or_else(|| shape("ohlc interval"))?;
        let candle = Candle {
            interval_ns: minutes * MINUTE_NS,
            start: instant(&item.interval_begin).ok_or_else(|| shape("interval_begin"))?,
            open: Price(exact("open", item.open)?),
            high: Price(exact("high", item.high)?),
            low: Price(exact("low", item.low)?),
            close: Price(exact("close", item.close)?),
            volume: item.volume.map(|raw| exact("volume", raw)).transpose()?.map(Sum::from),
            vwap: item.vwap.map(|raw| exact("vwap", raw)).transpose()?.map(Price),
            trades: item.trades.and_then(whole),
            flags: CandleFlags::PARTIAL,
            revision: 0,
            input: CandleInput::Venue,
        };
        Ok(self.event(&item.symbol, sent, Body::Candle(Box::new(candle))))
    }

    fn instruments(&self, data: &RawValue) -> Result<Message, ParseError> {
        let listing: Listing<'_> =
            serde_json::from_str(data.get()).map_err(|error| ParseError::new(reason::SHAPE, error))?;
        listing.pairs.iter().map(|pair| self.instrument(pair)).collect::<Result<_, _>>().map(Message::Events)
    }

    fn instrument(&self, raw: &RawValue) -> Result<Event, ParseError> {
        let pair: PairItem<'_> =
            serde_json::from_str(raw.get()).map_err(|error| ParseError::new(reason::SHAPE, error))?;
        let digits = |raw: Option<&RawValue>| raw.and_then(whole).and_then(|n| u8::try_from(n).ok());
        let number = |raw: Option<&RawValue>| raw.and_then(|raw| Decimal::parse(plain_text(raw).as_bytes()).ok());
        let instrument = Instrument {
            aliases: Vec::new(),
            base: pair.base.as_deref().map(SmolStr::new),
            quote: pair.quote.as_deref().map(SmolStr::new),
            status: pair.status.as_deref().map(SmolStr::new),
            price_precision: digits(pair.price_precision),
            price_increment: number(pair.price_increment),
            size_precision: digits(pair.qty_precision),
            size_increment: number(pair.qty_increment),
            size_min: number(pair.qty_min).map(Size),
            // A number that does not fit is absent above and still in here.
            raw: Some(SmolStr::new(raw.get())),
            ..Instrument::default()
        };
        Ok(self.event(&pair.symbol, None, Body::Instrument(Box::new(instrument))))
    }

    fn status(&self, item: &StatusItem<'_>) -> Result<Event, ParseError> {
        let detail =
            [("version", item.version), ("api_version", item.api_version), ("connection_id", item.connection_id)]
                .into_iter()
                // A connection id is above 2^53: its text, never a float.
                .filter_map(|(key, raw)| raw.map(|raw| (SmolStr::new_static(key), SmolStr::new(plain_text(raw)))))
                .collect();
        let status = Status { topic: SmolStr::new_static("venue"), state: SmolStr::new(&item.system), detail };
        Ok(self.event("", None, Body::Status(status)))
    }
}

#[derive(Deserialize)]
struct TradeItem<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    side: Option<Cow<'a, str>>,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
    #[serde(borrow)]
    trade_id: Option<&'a RawValue>,
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct TickerItem<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid: Option<&'a RawValue>,
    #[serde(borrow)]
    bid_qty: Option<&'a RawValue>,
    #[serde(borrow)]
    ask: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_qty: Option<&'a RawValue>,
    #[serde(borrow)]
    last: Option<&'a RawValue>,
    #[serde(borrow)]
    volume: Option<&'a RawValue>,
    #[serde(borrow)]
    vwap: Option<&'a RawValue>,
    #[serde(borrow)]
    low: Option<&'a RawValue>,
    #[serde(borrow)]
    high: Option<&'a RawValue>,
    #[serde(borrow)]
    change: Option<&'a RawValue>,
    #[serde(borrow)]
    change_pct: Option<&'a RawValue>,
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct BookItem<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow, default)]
    bids: Vec<LevelItem<'a>>,
    #[serde(borrow, default)]
    asks: Vec<LevelItem<'a>>,
    #[serde(borrow)]
    checksum: Option<&'a RawValue>,
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct LevelItem<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

#[derive(Deserialize)]
struct OhlcItem<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    interval_begin: Cow<'a, str>,
    #[serde(borrow)]
    interval: &'a RawValue,
    #[serde(borrow)]
    open: &'a RawValue,
    #[serde(borrow)]
    high: &'a RawValue,
    #[serde(borrow)]
    low: &'a RawValue,
    #[serde(borrow)]
    close: &'a RawValue,
    #[serde(borrow)]
    volume: Option<&'a RawValue>,
    #[serde(borrow)]
    vwap: Option<&'a RawValue>,
    #[serde(borrow)]
    trades: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow, default)]
    pairs: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PairItem<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    base: Option<Cow<'a, str>>,
    quote: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    price_precision: Option<&'a RawValue>,
    #[serde(borrow)]
    price_increment: Option<&'a RawValue>,
    #[serde(borrow)]
    qty_precision: Option<&'a RawValue>,
    #[serde(borrow)]
    qty_increment: Option<&'a RawValue>,
    #[serde(borrow)]
    qty_min: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StatusItem<'a> {
    #[serde(borrow)]
    system: Cow<'a, str>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    connection_id: Option<&'a RawValue>,
}

fn items<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<Vec<T>, ParseError> {
    serde_json::from_str(data.get()).map_err(|error| ParseError::new(reason::SHAPE, error))
}

fn levels(items: &[LevelItem<'_>]) -> Result<Vec<Level>, ParseError> {
    let level = |item: &LevelItem<'_>| {
        Ok(Level { price: Price(exact("price", item.price)?), size: Size(exact("qty", item.qty)?), orders: None })
    };
    items.iter().map(level).collect()
}

fn checksum(raw: &RawValue) -> Result<u32, ParseError> {
    whole(raw)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| ParseError::new(reason::SHAPE, format_args!("checksum {:.64}", raw.get())))
}

pub(super) fn side(name: &str) -> Option<Side> {
    match name {
        "buy" => Some(Side::Buy),
        "sell" => Some(Side::Sell),
        _ => None,
    }
}

pub(super) fn instant(text: &str) -> Option<UnixNanos> {
    UnixNanos::parse_rfc3339(text.as_bytes())
}

/// A number that must fit.
pub(super) fn exact(name: &str, raw: &RawValue) -> Result<Decimal, ParseError> {
    Decimal::parse(plain_text(raw).as_bytes())
        .map_err(|error| ParseError::new(reason::NUMBER, format_args!("{name}: {error}")))
}

/// A number that may be lost, but not silently: its text goes to `refused`.
pub(super) fn lenient(
    name: &'static str,
    raw: Option<&RawValue>,
    refused: &mut Vec<(SmolStr, SmolStr)>,
) -> Option<Decimal> {
    let text = plain_text(raw?);
    match Decimal::parse(text.as_bytes()) {
        Ok(decimal) => Some(decimal),
        Err(_) => {
            let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= REFUSED_TEXT_BYTES);
            let end = end.last().unwrap_or(0);
            refused.push((SmolStr::new_static(name), SmolStr::new(&text[..end])));
            None
        }
    }
}

/// The text of a number, whether the venue quoted it (v1, REST) or not (v2).
pub(super) fn plain_text(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

pub(super) fn whole(raw: &RawValue) -> Option<u64> {
    plain_text(raw).parse().ok()
}

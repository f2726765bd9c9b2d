//! The topics of the predecessors and of a deck's own bus, body by body.
//!
//! ```text
//! kraken_tick      20 fields (21 with a time before them) · {"result":{PAIR:[…]}} · {"result":{PAIR:{"a":…}}} · {bid, ask, …}
//! kr_depth         {"result":{PAIR:{"asks":[[p,v,t]…],"bids":…}}} · {instrument, bids, asks}
//! oanda_tick       instrument, time, bid, ask · the same without instrument on a topic of its name · {instrument, bid, ask, …}
//! kr_eurusd_tick   9 fields     kr_eurusd_depth   17 fields
//! trade.VENUE      {price, size, side, id}
//! ```
//!
//! Prices are what a message stands for: one that is no number rejects the message, or that pair of it. A statistic
//! that is no number is kept as text in `refused`.

use tapedeck_market::{
    Body, BookUpdate, Leg, Level, Price, Quote, Side, Size, SmolStr, Stats, Synthetic, Ticker, Trade, UnixNanos,
};

use super::value::{Unit, Val, shorten};
use super::{Made, Reject};
use crate::sources::kraken::names::modern;
use crate::synthetic::{DEPTH_SYMBOL, TICK_SYMBOL};

/// What a topic is known to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    KrakenTick,
    KrakenDepth,
    OandaTick,
    /// A map of bid, ask and statistics, of whatever venue.
    Tick,
    SyntheticTick,
    SyntheticDepth,
    Trade,
    /// Says only that somebody is there.
    Beat,
}

const KRAKEN: SmolStr = SmolStr::new_static("kraken");
const OANDA: SmolStr = SmolStr::new_static("oanda");
/// Levels of a side that are read: the largest book a venue sends.
const LEVELS: usize = 10_000;
/// Fields of a legacy Kraken tick.
const TICK_FIELDS: usize = 20;

impl Known {
    pub(super) fn of(topic: &str) -> Option<Known> {
        Some(match topic {
            "kraken_tick" => Known::KrakenTick,
            "kr_depth" | "kraken_depth" | "kr_order_book" => Known::KrakenDepth,
            "oanda_tick" | "oandav20_tick" => Known::OandaTick,
            "kite_tick" => Known::Tick,
            "kr_eurusd_tick" => Known::SyntheticTick,
            "kr_eurusd_depth" => Known::SyntheticDepth,
            "oanda_heartbit" | "oanda_heartbeat" | "heartbeat" => Known::Beat,
            _ if topic.strip_prefix("trade.").is_some_and(|venue| !venue.is_empty()) => Known::Trade,
            _ => return None,
        })
    }

    /// The venue that speaks on it.
    fn venue(self, topic: &str) -> SmolStr {
        match self {
            Known::OandaTick => OANDA,
            Known::Trade => SmolStr::new(topic.strip_prefix("trade.").unwrap_or_default()),
            Known::Tick => SmolStr::new_static("kite"),
            _ => KRAKEN,
        }
    }

    /// Reads a payload; what it holds of other pairs does not suffer from one that cannot be read.
    pub(super) fn read(self, topic: &str, payload: &Val) -> Vec<Result<Made, Reject>> {
        let venue = self.venue(topic);
        let one = |made: Result<(SmolStr, Option<UnixNanos>, Body), Reject>| {
            vec![made.map(|(symbol, ts_event, body)| Made { venue: venue.clone(), symbol, ts_event, body })]
        };
        match (self, payload) {
            (Known::Beat, _) => Vec::new(),
            (Known::KrakenTick, Val::List(fields)) => one(legacy_tick(fields)),
            (Known::KrakenTick | Known::KrakenDepth, Val::Map(_)) if payload.get("result").is_some() => {
                rest(payload, self, &venue)
            }
            (Known::KrakenTick | Known::KrakenDepth, Val::Map(_)) if has_errors(payload) => {
                one(Err(venue_error(payload)))
            }
            (Known::KrakenTick | Known::OandaTick | Known::Tick, Val::Map(_)) => one(map_tick(payload)),
            (Known::KrakenDepth, Val::Map(_)) => one(map_depth(payload)),
            (Known::OandaTick, Val::List(fields)) => one(oanda(fields)),
            (Known::SyntheticTick, Val::List(fields)) => one(synthetic_tick(fields)),
            (Known::SyntheticDepth, Val::List(fields)) => one(synthetic_depth(fields)),
            (Known::Trade, Val::Map(_)) => one(map_trade(payload)),
            (_, other) => {
                one(Err(Reject::new("shape", format!("{topic} carries no such payload: {}", describe(other)))))
            }
        }
    }
}

fn describe(value: &Val) -> String {
    match value {
        Val::List(items) => format!("{} fields", items.len()),
        Val::Map(entries) => {
            let names: Vec<&str> = entries.iter().take(5).map(|(name, _)| name.as_str()).collect();
            format!("a map of {}", shorten(&names.join(", ")))
        }
        other => other.kind().to_owned(),
    }
}

/// An instrument's tick on a topic of its own name: `EUR_USD`, with three fields or four.
pub(super) fn twin(topic: &str, payload: &Val) -> Option<Result<Made, Reject>> {
    let Val::List(fields) = payload else { return None };
    let is_pair = topic.len() == 7
        && topic.bytes().enumerate().all(|(at, b)| if at == 3 { b == b'_' } else { b.is_ascii_uppercase() });
    if !is_pair || !matches!(fields.len(), 3 | 4) {
        return None;
    }
    let read = match fields.as_slice() {
        [_, _, _] => {
            let all: Vec<Val> = std::iter::once(Val::Text(SmolStr::new(topic))).chain(fields.iter().cloned()).collect();
            oanda(&all)
        }
        _ => oanda(fields),
    };
    Some(read.map(|(symbol, ts_event, body)| Made { venue: OANDA, symbol, ts_event, body }))
}

type Read = (SmolStr, Option<UnixNanos>, Body);

fn symbol_of(value: &Val) -> Result<SmolStr, Reject> {
    const SYMBOL_BYTES: usize = 64;
    let text = value.text().unwrap_or_default();
    let plain = !text.is_empty() && text.len() <= SYMBOL_BYTES && !text.contains(char::is_control);
    if plain { Ok(text) } else { Err(Reject::new("symbol", format!("`{}` is no symbol", shorten(&text)))) }
}

/// Kraken's name as its own source spells it, so that both record one instrument.
fn kraken_symbol(value: &Val) -> Result<SmolStr, Reject> {
    symbol_of(value).map(|name| modern(&name).unwrap_or(name))
}

fn price(value: &Val) -> Result<Option<Price>, Reject> {
    if value.is_absent() { Ok(None) } else { value.decimal().map(|price| Some(Price(price))) }
}

fn size(value: &Val) -> Result<Option<Size>, Reject> {
    if value.is_absent() { Ok(None) } else { value.decimal().map(|size| Some(Size(size))) }
}

/// Reads statistics: what is no number is kept beside them as text.
struct Statistics {
    refused: Vec<(SmolStr, SmolStr)>,
}

impl Statistics {
    fn new() -> Statistics {
        Statistics { refused: Vec::new() }
    }

    fn price(&mut self, name: &'static str, value: Option<&Val>) -> Option<Price> {
        self.number(name, value).map(Price)
    }

    fn size(&mut self, name: &'static str, value: Option<&Val>) -> Option<Size> {
        self.number(name, value).map(Size)
    }

    fn number(&mut self, name: &'static str, value: Option<&Val>) -> Option<tapedeck_market::Decimal> {
        let value = value.filter(|value| !value.is_absent())?;
        value.decimal().map_err(|_| self.refuse(name, value)).ok()
    }

    fn count(&mut self, name: &'static str, value: Option<&Val>) -> Option<u64> {
        let value = value.filter(|value| !value.is_absent())?;
        let count = value.count();
        if count.is_none() {
            self.refuse(name, value);
        }
        count
    }

    fn refuse(&mut self, name: &'static str, value: &Val) {
        let text = value.text().unwrap_or_else(|| SmolStr::new_static(value.kind()));
        self.refused.push((SmolStr::new_static(name), SmolStr::new(shorten(&text))));
    }
}

/// `instrument ask whole lot bid whole lot last lot vol×2 vwap×2 trades×2 low×2 high×2 open`
fn legacy_tick(fields: &[Val]) -> Result<Read, Reject> {
    let (ts_event, fields) = match fields {
        [first, rest @ ..] if rest.len() == TICK_FIELDS => (Some(first.instant(Unit::Auto)?), rest),
        fields => (None, fields),
    };
    let [
        name,
        ask,
        ask_whole,
        ask_lot,
        bid,
        bid_whole,
        bid_lot,
        last,
        last_lot,
        volume_today,
        volume_day,
        vwap_today,
        vwap_day,
        trades_today,
        trades_day,
        low_today,
        low_day,
        high_today,
        high_day,
        open,
    ] = fields
    else {
        return Err(Reject::new("fields", format!("{} fields, where a tick has 20", fields.len())));
    };
    let mut other = Statistics::new();
    let mut ticker = Ticker {
        last: price(last)?,
        bid: price(bid)?,
        ask: price(ask)?,
        last_size: other.size("last_size", Some(last_lot)),
        bid_size: other.size("bid_size", Some(bid_lot)),
        bid_whole_lots: other.size("bid_whole_lots", Some(bid_whole)),
        ask_size: other.size("ask_size", Some(ask_lot)),
        ask_whole_lots: other.size("ask_whole_lots", Some(ask_whole)),
        today: Stats {
            open: other.price("today.open", Some(open)),
            high: other.price("today.high", Some(high_today)),
            low: other.price("today.low", Some(low_today)),
            volume: other.size("today.volume", Some(volume_today)),
            vwap: other.price("today.vwap", Some(vwap_today)),
            trades: other.count("today.trades", Some(trades_today)),
        },
        day: Stats {
            open: None,
            high: other.price("day.high", Some(high_day)),
            low: other.price("day.low", Some(low_day)),
            volume: other.size("day.volume", Some(volume_day)),
            vwap: other.price("day.vwap", Some(vwap_day)),
            trades: other.count("day.trades", Some(trades_day)),
        },
        ..Ticker::default()
    };
    ticker.refused = other.refused;
    Ok((kraken_symbol(name)?, ts_event, Body::Ticker(Box::new(ticker))))
}

fn has_errors(body: &Val) -> bool {
    matches!(body.get("error"), Some(Val::List(errors)) if !errors.is_empty())
}

fn venue_error(body: &Val) -> Reject {
    let text = match body.get("error") {
        Some(Val::List(errors)) => errors.iter().filter_map(Val::text).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    Reject::new("venue error", format!("the venue says {}", shorten(&text)))
}

/// `{"error":[],"result":{PAIR:…}}`: each pair for itself.
fn rest(body: &Val, known: Known, venue: &SmolStr) -> Vec<Result<Made, Reject>> {
    if has_errors(body) {
        return vec![Err(venue_error(body))];
    }
    let Some(Val::Map(pairs)) = body.get("result") else {
        return vec![Err(Reject::new("shape", "`result` is no map of pairs"))];
    };
    let read = |(name, value): &(SmolStr, Val)| {
        let body = match known {
            Known::KrakenDepth => depth(value).map(Body::Book),
            _ => rest_ticker(value).map(|ticker| Body::Ticker(Box::new(ticker))),
        };
        let body = body.map_err(|reject| reject.of(name))?;
        let symbol = kraken_symbol(&Val::Text(name.clone()))?;
        Ok(Made { venue: venue.clone(), symbol, ts_event: None, body })
    };
    pairs.iter().map(read).collect()
}

/// A ticker of REST: a map with keys `a` to `o`, or the same as a list in that order.
fn rest_ticker(value: &Val) -> Result<Ticker, Reject> {
    const KEYS: [&str; 9] = ["a", "b", "c", "v", "p", "t", "l", "h", "o"];
    let part = |at: usize| match value {
        Val::List(parts) => parts.get(at),
        map => map.get(KEYS[at]),
    };
    match value {
        Val::List(parts) if parts.len() >= KEYS.len() => {}
        Val::Map(_) if part(0).is_some() && part(1).is_some() => {}
        other => return Err(Reject::new("fields", format!("no ticker: {}", describe(other)))),
    }
    let item = |of: usize, at: usize| match part(of) {
        Some(Val::List(items)) => items.get(at),
        _ => None,
    };
    let required = |name: &str, of: usize| item(of, 0).ok_or_else(|| Reject::new("fields", format!("no {name}")));
    let mut other = Statistics::new();
    let mut stats = |name: [&'static str; 5], at: usize, open: Option<&Val>, open_name: &'static str| Stats {
        open: other.price(open_name, open),
        high: other.price(name[0], item(7, at)),
        low: other.price(name[1], item(6, at)),
        volume: other.size(name[2], item(3, at)),
        vwap: other.price(name[3], item(4, at)),
        trades: other.count(name[4], item(5, at)),
    };
    let open = match part(8) {
        // Some publishers wrap it like the others.
        Some(Val::List(items)) => items.first(),
        open => open,
    };
    let today = stats(["today.high", "today.low", "today.volume", "today.vwap", "today.trades"], 0, open, "today.open");
    let day = stats(["day.high", "day.low", "day.volume", "day.vwap", "day.trades"], 1, None, "day.open");
    let mut ticker = Ticker {
        ask: price(required("ask", 0)?)?,
        bid: price(required("bid", 1)?)?,
        last: item(2, 0).map_or(Ok(None), price)?,
        ask_whole_lots: other.size("ask_whole_lots", item(0, 1)),
        ask_size: other.size("ask_size", item(0, 2)),
        bid_whole_lots: other.size("bid_whole_lots", item(1, 1)),
        bid_size: other.size("bid_size", item(1, 2)),
        last_size: other.size("last_size", item(2, 1)),
        today,
        day,
        ..Ticker::default()
    };
    ticker.refused = other.refused;
    Ok(ticker)
}

/// `{"asks":[[price, volume, time]…],"bids":…}`: all that was asked for, so a snapshot.
fn depth(value: &Val) -> Result<BookUpdate, Reject> {
    let (bids, asks) = (levels(value, "bids")?, levels(value, "asks")?);
    let depth = u32::try_from(bids.len().max(asks.len())).ok();
    Ok(BookUpdate { snapshot: true, bids, asks, checksum: None, depth })
}

fn levels(value: &Val, side: &str) -> Result<Vec<Level>, Reject> {
    let refuse = |what: &str| Reject::new("fields", format!("{side}: {what}"));
    let Some(Val::List(levels)) = value.get(side) else {
        return Err(refuse("no list of levels"));
    };
    if levels.len() > LEVELS {
        return Err(refuse("more levels than any book has"));
    }
    let level = |level: &Val| match level {
        Val::List(items) if items.len() >= 2 => {
            Ok(Level { price: Price(items[0].decimal()?), size: Size(items[1].decimal()?), orders: None })
        }
        _ => Err(refuse("a level is no list of price and volume")),
    };
    levels.iter().map(level).collect()
}

/// instrument, time, bid, ask
fn oanda(fields: &[Val]) -> Result<Read, Reject> {
    let [instrument, time, bid, ask] = fields else {
        return Err(Reject::new("fields", format!("{} fields, where a tick has 4", fields.len())));
    };
    let ts_event = time.instant(Unit::Auto)?;
    let quote = Quote { bid: price(bid)?, ask: price(ask)?, ..Quote::default() };
    Ok((symbol_of(instrument)?, Some(ts_event), Body::Quote(quote)))
}

/// instrument, BID, ASK of both legs, and the spreads.
fn synthetic_tick(fields: &[Val]) -> Result<Read, Reject> {
    let [name0, bid0, ask0, name1, bid1, ask1, spreads @ ..] = fields else {
        return Err(Reject::new("fields", format!("{} fields, where a synthetic tick has 9", fields.len())));
    };
    let leg = |name: &Val, bid: &Val, ask: &Val| {
        Ok(Leg { instrument: kraken_symbol(name)?, bid: price(bid)?, ask: price(ask)?, ..Leg::default() })
    };
    synthetic(TICK_SYMBOL, vec![leg(name0, bid0, ask0)?, leg(name1, bid1, ask1)?], spreads)
}

/// The same with the top of book of each leg.
fn synthetic_depth(fields: &[Val]) -> Result<Read, Reject> {
    if fields.len() != 17 {
        return Err(Reject::new("fields", format!("{} fields, where a synthetic depth has 17", fields.len())));
    }
    let leg = |f: &[Val]| {
        Ok(Leg {
            instrument: kraken_symbol(&f[0])?,
            bid: price(&f[1])?,
            ask: price(&f[2])?,
            leg_bid: price(&f[3])?,
            leg_bid_size: size(&f[4])?,
            leg_ask: price(&f[5])?,
            leg_ask_size: size(&f[6])?,
        })
    };
    synthetic(DEPTH_SYMBOL, vec![leg(&fields[..7])?, leg(&fields[7..14])?], &fields[14..])
}

fn synthetic(symbol: &'static str, legs: Vec<Leg>, spreads: &[Val]) -> Result<Read, Reject> {
    let [spread, spread_bid, spread_ask] = spreads else {
        return Err(Reject::new("fields", format!("{} spreads, where there are 3", spreads.len())));
    };
    let (spread, spread_bid, spread_ask) = (price(spread)?, price(spread_bid)?, price(spread_ask)?);
    let body = Body::Synthetic(Box::new(Synthetic { legs, spread, spread_bid, spread_ask }));
    Ok((SmolStr::new_static(symbol), None, body))
}

/// The instrument of a map.
pub(super) fn map_symbol(map: &Val) -> Option<&Val> {
    ["instrument", "symbol", "pair"].into_iter().find_map(|key| map.get(key))
}

/// The venue's time in a map: a deck's own key, or what publishers of their own call it.
fn map_time(map: &Val) -> Result<Option<UnixNanos>, Reject> {
    if let Some(ns) = map.get("ts_event").filter(|value| !value.is_absent()) {
        return ns.instant(Unit::Ns).map(Some);
    }
    // A deck's `timestamp` repeats the time in seconds, which must not stand for the venue's.
    if map.get("ts_recv").is_some() {
        return Ok(None);
    }
    let told = ["timestamp", "time", "ts"].into_iter().find_map(|key| map.get(key));
    told.filter(|value| !value.is_absent()).map(|value| value.instant(Unit::Auto)).transpose()
}

fn map_head(map: &Val) -> Result<(SmolStr, Option<UnixNanos>), Reject> {
    let symbol = map_symbol(map).ok_or_else(|| Reject::new("symbol", "no `instrument`"))?;
    Ok((symbol_of(symbol)?, map_time(map)?))
}

/// `{instrument, bid, ask, …}`: a quote, or with statistics a ticker.
fn map_tick(map: &Val) -> Result<Read, Reject> {
    let (symbol, ts_event) = map_head(map)?;
    let of = |key: &str| map.get(key).map_or(Ok(None), price);
    let (bid, ask, last) = (of("bid")?, of("ask")?, of("last")?);
    if bid.is_none() && ask.is_none() && last.is_none() {
        return Err(Reject::new("fields", "neither bid, nor ask, nor last"));
    }
    let mut other = Statistics::new();
    let mut stats = |suffix: &'static str| {
        let key = |name: &str| map.get(&format!("{name}{suffix}"));
        Stats {
            open: other.price("open", key("open")),
            high: other.price("high", key("high")),
            low: other.price("low", key("low")),
            volume: other.size("volume", key("volume")),
            vwap: other.price("vwap", key("vwap")),
            trades: other.count("trades", key("trades")),
        }
    };
    let (day, today) = (stats(""), stats("_today"));
    let (bid_size, ask_size) =
        (other.size("bid_size", map.get("bid_size")), other.size("ask_size", map.get("ask_size")));
    let oi = other.size("oi", map.get("oi"));
    let avg_price = other.price("avg_price", map.get("avg_price"));
    let plain = last.is_none() && oi.is_none() && avg_price.is_none() && other.refused.is_empty();
    if plain && day == Stats::default() && today == Stats::default() {
        return Ok((symbol, ts_event, Body::Quote(Quote { bid, bid_size, ask, ask_size })));
    }
    let last_size = other.size("last_size", map.get("last_size"));
    let ticker = Ticker {
        last,
        last_size,
        bid,
        bid_size,
        ask,
        ask_size,
        today,
        day,
        avg_price,
        oi,
        refused: other.refused,
        ..Ticker::default()
    };
    Ok((symbol, ts_event, Body::Ticker(Box::new(ticker))))
}

fn map_depth(map: &Val) -> Result<Read, Reject> {
    let (symbol, ts_event) = map_head(map)?;
    Ok((symbol, ts_event, Body::Book(depth(map)?)))
}

fn map_trade(map: &Val) -> Result<Read, Reject> {
    let (symbol, ts_event) = map_head(map)?;
    Ok((symbol, ts_event, Body::Trade(trade(map)?)))
}

/// `{price, size, side?, id?}`
pub(super) fn trade(map: &Val) -> Result<Trade, Reject> {
    let number = |key: &str| map.get(key).ok_or_else(|| Reject::new("fields", format!("no `{key}`")))?.decimal();
    let side = match map.get("side").and_then(Val::text).as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("buy" | "b" | "bid") => Some(Side::Buy),
        Some("sell" | "s" | "ask") => Some(Side::Sell),
        _ => None,
    };
    let id = map.get("id").filter(|id| !id.is_absent()).and_then(Val::text);
    Ok(Trade { price: Price(number("price")?), size: Size(number("size")?), side, id })
}

/// `{bid?, bid_size?, ask?, ask_size?}`
pub(super) fn quote(map: &Val) -> Result<Quote, Reject> {
    let price_of = |key: &str| map.get(key).map_or(Ok(None), price);
    let size_of = |key: &str| map.get(key).map_or(Ok(None), size);
    let quote = Quote {
        bid: price_of("bid")?,
        bid_size: size_of("bid_size")?,
        ask: price_of("ask")?,
        ask_size: size_of("ask_size")?,
    };
    if quote.bid.is_none() && quote.ask.is_none() {
        return Err(Reject::new("fields", "neither bid nor ask"));
    }
    Ok(quote)
}

/// As [`map_tick`], and always a ticker.
pub(super) fn ticker(map: &Val) -> Result<Ticker, Reject> {
    match map_tick_body(map)? {
        Body::Ticker(ticker) => Ok(*ticker),
        Body::Quote(quote) => Ok(Ticker {
            bid: quote.bid,
            bid_size: quote.bid_size,
            ask: quote.ask,
            ask_size: quote.ask_size,
            ..Ticker::default()
        }),
        _ => Err(Reject::new("fields", "no ticker")),
    }
}

fn map_tick_body(map: &Val) -> Result<Body, Reject> {
    // The instrument and the time are the mapping's business.
    let mut entries = match map {
        Val::Map(entries) => entries.clone(),
        _ => Vec::new(),
    };
    entries.retain(|(key, _)| {
        !matches!(key.as_str(), "instrument" | "symbol" | "pair" | "ts_event" | "timestamp" | "time" | "ts")
    });
    entries.push(("instrument".into(), Val::Text("-".into())));
    map_tick(&Val::Map(entries)).map(|(_, _, body)| body)
}

//! Events as frames of Kraken's WebSocket v2.

use serde::Deserialize;
use serde_json::json;
use tapedeck_market::{Body, BookUpdate, Decimal, Event, Flags, Instrument, Level, Side, Ticker, Trade, UnixNanos};

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Trade,
    Ticker,
    Book,
    Instrument,
}

impl Channel {
    const ALL: [Channel; 4] = [Channel::Trade, Channel::Ticker, Channel::Book, Channel::Instrument];

    pub(super) fn name(self) -> &'static str {
        match self {
            Channel::Trade => "trade",
            Channel::Ticker => "ticker",
            Channel::Book => "book",
            Channel::Instrument => "instrument",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Channel> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }

    /// The channel that an event of the venue came by.
    pub(super) fn of(body: &Body) -> Option<Channel> {
        match body {
            Body::Trade(_) => Some(Channel::Trade),
            Body::Ticker(_) => Some(Channel::Ticker),
            Body::Book(_) => Some(Channel::Book),
            Body::Instrument(_) => Some(Channel::Instrument),
            _ => None,
        }
    }
}

/// The frame of an event, if it came by a channel that is played.
pub(super) fn frame(event: &Event) -> Option<String> {
    let mut item = Item::of(&event.symbol);
    match &event.body {
        Body::Trade(trade) => item.trade(trade, event.ts_event),
        Body::Ticker(ticker) => item.ticker(ticker, event.ts_event),
        Body::Book(update) => item.book(update, update.checksum, event.ts_event),
        Body::Instrument(instrument) => return Some(instruments("update", [pair(&event.symbol, instrument)])),
        _ => return None,
    }
    let snapshot = match &event.body {
        Body::Book(update) => update.snapshot,
        _ => event.flags.contains(Flags::SNAPSHOT),
    };
    let kind = if snapshot { "snapshot" } else { "update" };
    Channel::of(&event.body).map(|channel| data(channel, kind, &item.end()))
}

/// The whole of a book, as a subscription begins.
pub(super) fn book_snapshot(symbol: &str, update: &BookUpdate, checksum: u32, at: Option<UnixNanos>) -> String {
    let mut item = Item::of(symbol);
    item.book(update, Some(checksum), at);
    data(Channel::Book, "snapshot", &item.end())
}

pub(super) fn instruments(kind: &str, pairs: impl IntoIterator<Item = String>) -> String {
    let pairs: Vec<String> = pairs.into_iter().collect();
    let pairs = pairs.join(",");
    format!("{{\"channel\":\"instrument\",\"type\":\"{kind}\",\"data\":{{\"assets\":[],\"pairs\":[{pairs}]}}}}")
}

/// What the venue lists: its own words where they were kept.
pub(super) fn pair(symbol: &str, instrument: &Instrument) -> String {
    if let Some(raw) = &instrument.raw {
        return raw.to_string();
    }
    let (base, quote) = symbol.split_once('/').unwrap_or((symbol, ""));
    let or = |told: &Option<tapedeck_market::SmolStr>, else_: &str| {
        told.as_ref().map_or_else(|| else_.to_owned(), ToString::to_string)
    };
    json!({
        "symbol": symbol,
        "base": or(&instrument.base, base),
        "quote": or(&instrument.quote, quote),
        "status": or(&instrument.status, "online"),
    })
    .to_string()
}

fn data(channel: Channel, kind: &str, item: &str) -> String {
    format!("{{\"channel\":\"{}\",\"type\":\"{kind}\",\"data\":[{item}]}}", channel.name())
}

/// One data item, field by field; numbers are written with the digits they came with.
struct Item(String);

impl Item {
    fn of(symbol: &str) -> Item {
        Item(format!("{{\"symbol\":{}", json!(symbol)))
    }

    fn end(self) -> String {
        self.0 + "}"
    }

    fn raw(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0 += &format!(",\"{name}\":{value}");
    }

    fn number(&mut self, name: &str, value: Option<Decimal>) {
        if let Some(value) = value {
            self.raw(name, value);
        }
    }

    fn time(&mut self, at: Option<UnixNanos>) {
        if let Some(at) = at {
            self.raw("timestamp", json!(at.to_string()));
        }
    }

    fn trade(&mut self, trade: &Trade, at: Option<UnixNanos>) {
        if let Some(side) = trade.side {
            self.raw("side", json!(if side == Side::Buy { "buy" } else { "sell" }));
        }
        self.number("price", Some(trade.price.0));
        self.number("qty", Some(trade.size.0));
        if let Some(id) = &trade.id {
            // Kraken's ids are numbers; another venue's may be words.
            let is_number = !id.is_empty() && id.len() < 19 && id.bytes().all(|b| b.is_ascii_digit());
            self.raw("trade_id", if is_number { id.to_string() } else { json!(id).to_string() });
        }
        self.time(at);
    }

    fn ticker(&mut self, ticker: &Ticker, at: Option<UnixNanos>) {
        let day = &ticker.day;
        for (name, value) in [
            ("bid", ticker.bid.map(|price| price.0)),
            ("bid_qty", ticker.bid_size.map(|size| size.0)),
            ("ask", ticker.ask.map(|price| price.0)),
            ("ask_qty", ticker.ask_size.map(|size| size.0)),
            ("last", ticker.last.map(|price| price.0)),
            ("volume", day.volume.map(|size| size.0)),
            ("vwap", day.vwap.map(|price| price.0)),
            ("low", day.low.map(|price| price.0)),
            ("high", day.high.map(|price| price.0)),
            ("change", ticker.change),
            ("change_pct", ticker.change_pct),
        ] {
            self.number(name, value);
        }
        // What did not fit into a decimal goes out as the text that came in.
        for (name, text) in &ticker.refused {
            self.raw(name, text);
        }
        self.time(at);
    }

    fn book(&mut self, update: &BookUpdate, checksum: Option<u32>, at: Option<UnixNanos>) {
        for (name, levels) in [("bids", &update.bids), ("asks", &update.asks)] {
            let levels: Vec<String> = levels.iter().map(level).collect();
            self.raw(name, format!("[{}]", levels.join(",")));
        }
        if let Some(checksum) = checksum {
            self.raw("checksum", checksum);
        }
        self.time(at);
    }
}

fn level(level: &Level) -> String {
    format!("{{\"price\":{},\"qty\":{}}}", level.price, level.size)
}

/// What clients ask.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Params,
    pub(super) req_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Params {
    #[serde(default)]
    pub(super) channel: String,
    #[serde(default)]
    pub(super) symbol: Vec<String>,
    pub(super) depth: Option<u32>,
    pub(super) snapshot: Option<bool>,
}

pub(super) fn ack(method: &str, result: serde_json::Value, req_id: Option<i64>) -> String {
    let now = UnixNanos::now().to_string();
    let mut ack = json!({ "method": method, "result": result, "success": true, "time_in": now, "time_out": now });
    if let Some(req_id) = req_id {
        ack["req_id"] = req_id.into();
    }
    ack.to_string()
}

pub(super) fn refusal(method: &str, symbol: &str, error: &str, req_id: Option<i64>) -> String {
    let now = UnixNanos::now().to_string();
    let mut refusal = json!({ "method": method, "error": error, "success": false, "time_in": now, "time_out": now });
    if !symbol.is_empty() {
        refusal["symbol"] = symbol.into();
    }
    if let Some(req_id) = req_id {
        refusal["req_id"] = req_id.into();
    }
    refusal.to_string()
}

pub(super) fn pong(req_id: Option<i64>) -> String {
    let now = UnixNanos::now().to_string();
    let mut pong = json!({ "method": "pong", "time_in": now, "time_out": now });
    if let Some(req_id) = req_id {
        pong["req_id"] = req_id.into();
    }
    pong.to_string()
}

pub(super) fn status(connection: u64) -> String {
    json!({
        "channel": "status", "type": "update",
        "data": [{ "version": "2.0.0", "system": "online", "api_version": "v2", "connection_id": connection }],
    })
    .to_string()
}

pub(super) const HEARTBEAT: &str = r#"{"channel":"heartbeat"}"#;

#[cfg(test)]
mod tests {
    use tapedeck_market::SmolStr;

    use super::*;
    use crate::sources::kraken::message::{Ctx, Message};
    use crate::sources::kraken::parse;

    /// The frame is read by the source's own parser: the same event comes out.
    fn round_trip(frame: &str) {
        let ctx = Ctx { source: SmolStr::new_static("k"), venue: SmolStr::new_static("kraken") };
        let at = UnixNanos(1_784_483_680_000_000_000);
        let read = |frame: &str| match parse::parse(frame.as_bytes(), at, &ctx) {
            Ok(Message::Events(events)) => events,
            other => panic!("{frame}: {other:?}"),
        };
        let events = read(frame);
        for event in events {
            let again = read(&self::frame(&event).unwrap());
            assert_eq!(format!("{again:?}"), format!("{:?}", [event]), "{frame}");
        }
    }

    #[test]
    fn what_the_source_reads_is_written_as_the_venue_wrote_it_to_the_digit() {
        for frame in [
            r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":62807.0,"qty":0.00100000,"ord_type":"limit","trade_id":4711,"timestamp":"2026-07-19T17:54:39.753424Z"},{"symbol":"ETH/USD","side":"buy","price":1845.27,"qty":1e-08,"ord_type":"market","trade_id":1,"timestamp":"2026-07-19T17:54:40Z"}]}"#,
            r#"{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD","side":"sell","price":62807.0,"qty":0.5,"ord_type":"limit","trade_id":4710,"timestamp":"2026-07-19T17:54:39.7Z"}]}"#,
            r#"{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":62807.0,"bid_qty":0.10000000,"ask":62807.1,"ask_qty":3.50000000,"last":62807.1,"volume":1812.41234567,"vwap":63001.2,"low":62001.0,"high":64000.9,"change":-120.5,"change_pct":-0.19}]}"#,
            r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":62807.0,"qty":0.10000000}],"asks":[{"price":62807.1,"qty":0.00000000},{"price":62807.2,"qty":5.0}],"checksum":123456789,"timestamp":"2026-07-19T17:54:39.753424Z"}]}"#,
            r#"{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[],"asks":[],"checksum":0,"timestamp":"2026-07-19T17:54:39.753424Z"}]}"#,
        ] {
            round_trip(frame);
        }
    }
}

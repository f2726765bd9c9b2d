//! The venue's messages as text, and the WebSocket frames that carry them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::book::Level;
use super::market::{Candle, Pair, Trade};
use super::text::{fixed, push_fixed, push_int, push_time, time};
use crate::ws::{self, Opcode};

/// Channels of the protocol, as they are named in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Instrument,
    Ticker,
    Trade,
    Book,
    Ohlc,
    Executions,
    Status,
}

impl Channel {
    pub(crate) const ALL: [Channel; 7] = [
        Channel::Instrument,
        Channel::Ticker,
        Channel::Trade,
        Channel::Book,
        Channel::Ohlc,
        Channel::Executions,
        Channel::Status,
    ];

    /// As the protocol spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Channel::Instrument => "instrument",
            Channel::Ticker => "ticker",
            Channel::Trade => "trade",
            Channel::Book => "book",
            Channel::Ohlc => "ohlc",
            Channel::Executions => "executions",
            Channel::Status => "status",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Channel> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// What identifies a data item beyond its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    Trade(u64),
    Checksum(u32),
}

/// One data item of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) symbol: Arc<str>,
    pub(crate) key: Key,
    /// Where its text stands in the payload.
    pub(crate) at: Range<usize>,
}

/// A message, ready for the socket, with what the log must know of it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Header and payload.
    pub(crate) wire: Bytes,
    header_len: usize,
    pub(crate) channel: Channel,
    /// `snapshot`, `update`, `ack` or `refusal`.
    pub(crate) kind: &'static str,
    pub(crate) items: Vec<Item>,
}

impl Frame {
    pub(crate) fn new(channel: Channel, kind: &'static str, payload: &[u8], items: Vec<Item>) -> Self {
        let wire = ws::frame(Opcode::Text, payload);
        Frame { header_len: wire.len() - payload.len(), wire: wire.into(), channel, kind, items }
    }

    /// A message about one symbol whose whole text is the item.
    pub(crate) fn whole(channel: Channel, kind: &'static str, symbol: &str, payload: &[u8]) -> Self {
        let item = Item { symbol: symbol.into(), key: Key::None, at: 0..payload.len() };
        Frame::new(channel, kind, payload, vec![item])
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.wire[self.header_len..]
    }

    /// Symbol of the first item; empty when there is none.
    pub(crate) fn symbol(&self) -> &str {
        self.items.first().map_or("", |item| &item.symbol)
    }
}

/// Builds `{"channel":…,"type":…,"data":[item,item]}`.
struct DataFrame {
    text: Vec<u8>,
    channel: Channel,
    kind: &'static str,
    items: Vec<Item>,
}

impl DataFrame {
    fn new(channel: Channel, kind: &'static str) -> Self {
        let mut text = Vec::with_capacity(320);
        text.extend_from_slice(b"{\"channel\":\"");
        text.extend_from_slice(channel.name().as_bytes());
        text.extend_from_slice(b"\",\"type\":\"");
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(b"\",\"data\":[");
        DataFrame { text, channel, kind, items: Vec::new() }
    }

    fn item(&mut self, symbol: &Arc<str>, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.items.is_empty() {
            self.text.push(b',');
        }
        let from = self.text.len();
        self.text.extend_from_slice(b"{\"symbol\":\"");
        self.text.extend_from_slice(symbol.as_bytes());
        self.text.push(b'"');
        write(&mut self.text);
        self.text.push(b'}');
        self.items.push(Item { symbol: Arc::clone(symbol), key, at: from..self.text.len() });
    }

    fn end(mut self) -> Frame {
        self.text.extend_from_slice(b"]}");
        Frame::new(self.channel, self.kind, &self.text, self.items)
    }
}

fn number(out: &mut Vec<u8>, name: &str, units: i64, decimals: u8) {
    key(out, name);
    push_fixed(out, units, decimals);
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn stamp(out: &mut Vec<u8>, name: &str, ts_ns: i64) {
    key(out, name);
    out.push(b'"');
    push_time(out, ts_ns);
    out.push(b'"');
}

/// The levels of a book message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
}

pub(crate) fn book(pair: &Pair, kind: &'static str, levels: &Levels, checksum: u32, ts_ns: i64) -> Frame {
    let mut frame = DataFrame::new(Channel::Book, kind);
    frame.item(&pair.symbol, Key::Checksum(checksum), |out| {
        for (name, levels) in [("bids", &levels.bids), ("asks", &levels.asks)] {
            key(out, name);
            out.push(b'[');
            for (n, level) in levels.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b"{\"price\":" } else { b",{\"price\":" });
                push_fixed(out, level.ticks, pair.price_decimals);
                number(out, "qty", level.units, pair.qty_decimals);
                out.push(b'}');
            }
            out.push(b']');
        }
        key(out, "checksum");
        push_int(out, u64::from(checksum));
        stamp(out, "timestamp", ts_ns);
    });
    frame.end()
}

/// Trades of one pair, or a history that mixes several.
pub(crate) fn trades<'a>(kind: &'static str, trades: impl IntoIterator<Item = (&'a Pair, &'a Trade)>) -> Frame {
    let mut frame = DataFrame::new(Channel::Trade, kind);
    for (pair, trade) in trades {
        frame.item(&pair.symbol, Key::Trade(trade.id), |out| {
            out.extend_from_slice(if trade.buy { b",\"side\":\"buy\"" } else { b",\"side\":\"sell\"" });
            number(out, "price", trade.ticks, pair.price_decimals);
            number(out, "qty", trade.units, pair.qty_decimals);
            out.extend_from_slice(if trade.limit { b",\"ord_type\":\"limit\"" } else { b",\"ord_type\":\"market\"" });
            key(out, "trade_id");
            push_int(out, trade.id);
            stamp(out, "timestamp", trade.ts_ns);
        });
    }
    frame.end()
}

pub(crate) fn ticker(pair: &Pair, kind: &'static str, ts_ns: i64) -> Frame {
    let mut frame = DataFrame::new(Channel::Ticker, kind);
    let (price, qty) = (pair.price_decimals, pair.qty_decimals);
    let none = Level { ticks: 0, units: 0 };
    let bid = pair.book.bids.first().copied().unwrap_or(none);
    let ask = pair.book.asks.first().copied().unwrap_or(none);
    let change = pair.last.ticks - pair.day.open;
    let change_bp = i128::from(change) * 10_000 / i128::from(pair.day.open.max(1));
    frame.item(&pair.symbol, Key::None, |out| {
        number(out, "bid", bid.ticks, price);
        number(out, "bid_qty", bid.units, qty);
        number(out, "ask", ask.ticks, price);
        number(out, "ask_qty", ask.units, qty);
        number(out, "last", pair.last.ticks, price);
        number(out, "volume", pair.day.volume_units, qty);
        number(out, "vwap", pair.day.vwap(), price);
        number(out, "low", pair.day.low, price);
        number(out, "high", pair.day.high, price);
        number(out, "change", change, price);
        number(out, "change_pct", i64::try_from(change_bp).unwrap_or(0), 2);
        stamp(out, "timestamp", ts_ns);
    });
    frame.end()
}

pub(crate) fn ohlc<'a>(
    kind: &'static str,
    pair: &Pair,
    interval_min: u32,
    candles: impl IntoIterator<Item = &'a Candle>,
    ts_ns: i64,
) -> Frame {
    let mut frame = DataFrame::new(Channel::Ohlc, kind);
    for candle in candles {
        frame.item(&pair.symbol, Key::None, |out| {
            let price = pair.price_decimals;
            number(out, "open", candle.stats.open, price);
            number(out, "high", candle.stats.high, price);
            number(out, "low", candle.stats.low, price);
            number(out, "close", candle.close, price);
            key(out, "trades");
            push_int(out, candle.stats.trades);
            number(out, "volume", candle.stats.volume_units, pair.qty_decimals);
            number(out, "vwap", candle.stats.vwap(), price);
            // The candle channel alone prints nanoseconds.
            key(out, "interval_begin");
            out.push(b'"');
            push_time(out, candle.begin_ns);
            out.pop();
            out.extend_from_slice(b"000Z\"");
            key(out, "interval");
            push_int(out, u64::from(interval_min));
            stamp(out, "timestamp", ts_ns);
        });
    }
    frame.end()
}

/// Assets and pairs. Increments are printed as the venue prints them: `0.1`, but `1e-08`.
pub(crate) fn instruments(pairs: &[&Pair], kind: &'static str, status: &str) -> Frame {
    let mut assets: Vec<&str> = pairs.iter().flat_map(|pair| pair.symbol.split('/')).collect();
    assets.sort_unstable();
    assets.dedup();
    let assets: Vec<String> = assets
        .iter()
        .map(|asset| {
            format!(
                r#"{{"id":"{asset}","status":"enabled","precision":10,"precision_display":5,"borrowable":false,"collateral_value":0.00}}"#
            )
        })
        .collect();
    let rows: Vec<String> = pairs.iter().map(|pair| instrument(pair, status)).collect();
    let text = format!(
        r#"{{"channel":"instrument","type":"{kind}","data":{{"assets":[{}],"pairs":[{}]}}}}"#,
        assets.join(","),
        rows.join(",")
    );
    let mut frame = Frame::new(Channel::Instrument, kind, text.as_bytes(), Vec::new());
    let mut at = text.find("\"pairs\":[").map_or(0, |at| at + 9);
    for (pair, row) in pairs.iter().zip(&rows) {
        frame.items.push(Item { symbol: Arc::clone(&pair.symbol), key: Key::None, at: at..at + row.len() });
        at += row.len() + 1;
    }
    frame
}

fn instrument(pair: &Pair, status: &str) -> String {
    let (base, quote) = pair.symbol.split_once('/').unwrap_or((&pair.symbol, ""));
    let (symbol, price, qty) = (&pair.symbol, pair.price_decimals, pair.qty_decimals);
    let status = if pair.delisted { "delisted" } else { status };
    let (price_step, qty_step) = (increment(price), increment(qty));
    let qty_min = fixed(50_000_000, 8);
    format!(
        r#"{{"symbol":"{symbol}","base":"{base}","quote":"{quote}","status":"{status}","qty_precision":{qty},"qty_increment":{qty_step},"price_precision":{price},"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.50,"tick_size":{price_step},"price_increment":{price_step},"qty_min":{qty_min}}}"#
    )
}

/// `10^-decimals` as a Python program prints that float, which is what the venue does.
fn increment(decimals: u8) -> String {
    if decimals > 4 { format!("1e-{decimals:02}") } else { fixed(1, decimals) }
}

/// The first frame of a connection.
pub(crate) fn status(system: &str, connection_id: u64) -> Frame {
    let text = format!(
        r#"{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"{system}","api_version":"v2","connection_id":{connection_id}}}]}}"#
    );
    Frame::whole(Channel::Status, "update", "", text.as_bytes())
}

/// What answers a request: `method`, the result's fields as JSON, the request's id.
pub(crate) fn ack(
    channel: Channel,
    method: &str,
    symbol: &str,
    result: &str,
    req_id: Option<i64>,
    now_ns: i64,
) -> Frame {
    let (id, at) = (req_id.map_or(String::new(), |id| format!(r#""req_id":{id},"#)), time(now_ns));
    let text = format!(
        r#"{{"method":"{method}",{id}"result":{{{result}}},"success":true,"time_in":"{at}","time_out":"{at}"}}"#
    );
    Frame::whole(channel, "ack", symbol, text.as_bytes())
}

/// An ack as it was recorded, with the id of the request that it answers now.
pub(crate) fn recorded_ack(channel: Channel, symbol: &str, text: &str, req_id: Option<i64>) -> Frame {
    let method = r#""method":"subscribe","#;
    let text = match req_id {
        Some(id) => text.replacen(method, &format!(r#"{method}"req_id":{id},"#), 1),
        None => text.to_owned(),
    };
    Frame::whole(channel, "ack", symbol, text.as_bytes())
}

/// What refuses one. There is no `result`, so that without a `req_id` nobody can tell what was refused.
pub(crate) fn refusal(
    channel: Channel,
    method: &str,
    symbol: &str,
    error: &str,
    req_id: Option<i64>,
    now_ns: i64,
) -> Frame {
    let (id, at) = (req_id.map_or(String::new(), |id| format!(r#""req_id":{id},"#)), time(now_ns));
    let error = serde_json::Value::from(error);
    let text =
        format!(r#"{{"error":{error},"method":"{method}",{id}"success":false,"time_in":"{at}","time_out":"{at}"}}"#);
    Frame::whole(channel, "refusal", symbol, text.as_bytes())
}

pub(crate) fn pong(req_id: Option<i64>, now_ns: i64) -> Vec<u8> {
    let (id, at) = (req_id.map_or(String::new(), |id| format!(r#""req_id":{id},"#)), time(now_ns));
    let text = format!(r#"{{"method":"pong",{id}"time_in":"{at}","time_out":"{at}"}}"#);
    ws::frame(Opcode::Text, text.as_bytes())
}

/// An answer of the venue's gateway in its own shape: capital letter, no method.
pub(crate) fn rate_exceeded() -> Vec<u8> {
    ws::frame(Opcode::Text, br#"{"Error":"Exceeded msg rate"}"#)
}

pub(crate) fn heartbeat() -> Vec<u8> {
    ws::frame(Opcode::Text, br#"{"channel":"heartbeat"}"#)
}

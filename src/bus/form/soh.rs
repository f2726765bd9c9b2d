//! The predecessors' text: one frame of topic, space, and fields joined by 0x01, in their order, unknown ones empty.
//!
//! Prices are the venue's digits, as theirs were. Topics that they had no publisher for print the fields of the map in its
//! order behind instrument and time.

use std::fmt::Write as _;

use tapedeck_market::{Body, Leg, Level, Stats, Synthetic, Ticker};

use super::super::engine::{Content, Message};
use super::{Fields, Val, fields, json};

const SEPARATOR: char = '\u{1}';

pub(super) fn put(message: &Message, topic: &str, out: &mut Vec<u8>) {
    let mut line = Line { text: format!("{topic} "), empty: true };
    match &message.content {
        Content::Tick(ticker) if message.venue == "kraken" => kraken_tick(message, ticker, &mut line),
        Content::Tick(ticker) if message.venue == "oanda" => {
            line.put(&message.symbol);
            line.put(message.ts_event.unwrap_or(message.ts_recv));
            line.some(ticker.bid);
            line.some(ticker.ask);
        }
        Content::Depth { bids, asks } => depth(message, bids, asks, &mut line),
        Content::Body(body) => match &**body {
            Body::Synthetic(synthetic) if topic.contains("depth") => derived_depth(message, synthetic, &mut line),
            Body::Synthetic(synthetic) => derived_tick(message, synthetic, &mut line),
            _ => named(message, &mut line),
        },
        Content::Tick(_) => named(message, &mut line),
    }
    out.extend_from_slice(line.text.as_bytes());
}

struct Line {
    text: String,
    empty: bool,
}

impl Line {
    /// A field; a separator in it would be two fields.
    fn put(&mut self, value: impl std::fmt::Display) {
        if !std::mem::take(&mut self.empty) {
            self.text.push(SEPARATOR);
        }
        let start = self.text.len();
        // Writing into a text does not fail.
        let _ = write!(self.text, "{value}");
        if self.text[start..].contains(SEPARATOR) {
            let clean = self.text.split_off(start).replace(SEPARATOR, " ");
            self.text.push_str(&clean);
        }
    }

    fn some(&mut self, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.put(value),
            None => self.put(""),
        }
    }
}

/// The twenty fields, without a time.
fn kraken_tick(message: &Message, ticker: &Ticker, line: &mut Line) {
    line.put(&message.old_name);
    line.some(ticker.ask);
    line.some(ticker.ask_whole_lots);
    line.some(ticker.ask_size);
    line.some(ticker.bid);
    line.some(ticker.bid_whole_lots);
    line.some(ticker.bid_size);
    line.some(ticker.last);
    line.some(ticker.last_size);
    let Stats { open, high, low, volume, vwap, trades } = &ticker.today;
    let day = &ticker.day;
    line.some(*volume);
    line.some(day.volume);
    line.some(*vwap);
    line.some(day.vwap);
    line.some(*trades);
    line.some(day.trades);
    line.some(*low);
    line.some(day.low);
    line.some(*high);
    line.some(day.high);
    line.some(open.or(day.open));
}

/// Kraken's REST answer for `count=1`, without a blank: subscribers split there.
fn depth(message: &Message, bids: &[Level], asks: &[Level], line: &mut Line) {
    const NS: i64 = 1_000_000_000;
    let seconds = message.ts_event.unwrap_or(message.ts_recv).0.div_euclid(NS);
    let best = |levels: &[Level]| {
        levels.first().map_or_else(String::new, |level| format!("[\"{}\",\"{}\",{seconds}]", level.price, level.size))
    };
    let mut name = Vec::new();
    json::put(&Val::from(&message.old_name), true, &mut name);
    let name = String::from_utf8_lossy(&name).replace(' ', "_");
    line.put(format_args!(
        "{{\"error\":[],\"result\":{{{name}:{{\"asks\":[{}],\"bids\":[{}]}}}}}}",
        best(asks),
        best(bids)
    ));
}

fn derived_tick(message: &Message, synthetic: &Synthetic, line: &mut Line) {
    let none = Leg::default();
    for at in 0..2 {
        let leg = synthetic.legs.get(at).unwrap_or(&none);
        line.put(message.old_legs.get(at).unwrap_or(&leg.instrument));
        line.some(leg.bid);
        line.some(leg.ask);
    }
    spreads(synthetic, line);
}

fn derived_depth(message: &Message, synthetic: &Synthetic, line: &mut Line) {
    let none = Leg::default();
    for at in 0..2 {
        let leg = synthetic.legs.get(at).unwrap_or(&none);
        line.put(message.old_legs.get(at).unwrap_or(&leg.instrument));
        line.some(leg.bid);
        line.some(leg.ask);
        line.some(leg.leg_bid);
        line.some(leg.leg_bid_size);
        line.some(leg.leg_ask);
        line.some(leg.leg_ask_size);
    }
    spreads(synthetic, line);
}

fn spreads(synthetic: &Synthetic, line: &mut Line) {
    line.some(synthetic.spread);
    line.some(synthetic.spread_bid);
    line.some(synthetic.spread_ask);
}

/// Instrument, time, and the values of the map in its order; lists and maps as JSON.
fn named(message: &Message, line: &mut Line) {
    line.put(&message.symbol);
    line.put(message.ts_event.unwrap_or(message.ts_recv));
    let mut named = Fields::default();
    fields::content(message, &mut named);
    for (_, value) in named.all() {
        match value {
            Val::Text(text) => line.put(text),
            Val::Dec(value) => line.put(value),
            Val::Sum(value) => line.put(value),
            other => {
                let mut json = Vec::new();
                json::put(other, false, &mut json);
                line.put(String::from_utf8_lossy(&json));
            }
        }
    }
}

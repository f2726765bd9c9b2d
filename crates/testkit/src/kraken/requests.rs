//! What clients ask, and what they are answered.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::frames::{self, Channel};
use super::hub::{DEPTHS, Hub, Out, Sub};
use super::market::{INTERVALS, SNAPSHOT_TRADES};
use super::replay::Answer;

/// Pairs whose history shares one snapshot frame: the venue mixes symbols there.
const MIXED_PAIRS: usize = 4;
/// Finished candles in the snapshot of a candle subscription.
const SNAPSHOT_CANDLES: usize = 10;

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    method: String,
    #[serde(default)]
    pub(crate) params: Params,
    #[serde(default)]
    pub(crate) req_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    pub(crate) symbol: Vec<String>,
    #[serde(default)]
    depth: Option<u32>,
    #[serde(default)]
    interval: Option<u32>,
    #[serde(default)]
    pub(crate) snapshot: Option<bool>,
    #[serde(default)]
    pub(crate) token: Option<String>,
    #[serde(default)]
    pub(crate) snap_orders: Option<bool>,
    #[serde(default)]
    pub(crate) snap_trades: Option<bool>,
}

impl Hub {
    /// Answers one message of a client.
    pub(crate) fn request(&mut self, conn: u64, text: &[u8]) {
        if self.is_too_fast(conn) {
            return self.send(conn, Out::Raw(frames::rate_exceeded().into()));
        }
        let now_ns = self.now_ns();
        let request: Request = match serde_json::from_slice(text) {
            Ok(request) => request,
            Err(error) => {
                let error = format!("Malformed request: {error}");
                return self.tell(conn, frames::refusal(Channel::Status, "", "", &error, None, now_ns));
            }
        };
        match request.method.as_str() {
            "ping" => self.send(conn, Out::Raw(frames::pong(request.req_id, now_ns).into())),
            "subscribe" => self.subscribe(conn, &request),
            "unsubscribe" => self.unsubscribe(conn, &request),
            other => {
                let refusal = frames::refusal(Channel::Status, other, "", "Unsupported method", request.req_id, now_ns);
                self.tell(conn, refusal);
            }
        }
    }

    fn is_too_fast(&mut self, conn: u64) -> bool {
        let (Some(limit), Some(conn)) = (self.active.rate_limit, self.conns.get_mut(&conn)) else { return false };
        let now = Instant::now();
        if now.duration_since(conn.requests.0) >= Duration::from_secs(1) {
            conn.requests = (now, 0);
        }
        conn.requests.1 += 1;
        conn.requests.1 > limit
    }

    pub(crate) fn refuse(&mut self, conn: u64, channel: Channel, symbol: &str, error: &str, request: &Request) {
        let now_ns = self.now_ns();
        self.tell(conn, frames::refusal(channel, &request.method, symbol, error, request.req_id, now_ns));
    }

    fn subscribe(&mut self, conn: u64, request: &Request) {
        let Some(channel) = Channel::from_name(&request.params.channel) else {
            return self.refuse(conn, Channel::Status, "", "Channel is not supported", request);
        };
        match channel {
            Channel::Status => self.refuse(conn, channel, "", "Channel is not supported", request),
            Channel::Instrument => self.subscribe_instrument(conn, request),
            Channel::Executions => self.subscribe_executions(conn, request),
            Channel::Ticker | Channel::Trade | Channel::Book | Channel::Ohlc => {
                self.subscribe_pairs(conn, channel, request)
            }
        }
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.subscribed = true;
            self.first_subscription.notify_one();
        }
    }

    fn subscribe_pairs(&mut self, conn: u64, channel: Channel, request: &Request) {
        let argument = match channel {
            Channel::Book => request.params.depth.unwrap_or(10),
            Channel::Ohlc => request.params.interval.unwrap_or(1),
            _ => 0,
        };
        if channel == Channel::Book && !DEPTHS.contains(&argument) {
            return self.refuse(conn, channel, "", "Subscription depth not supported", request);
        }
        if channel == Channel::Ohlc && !INTERVALS.contains(&argument) {
            return self.refuse(conn, channel, "", "Subscription ohlc interval not supported", request);
        }
        // One ack per symbol, each told before the first snapshot of the request.
        let mut accepted = Vec::new();
        for symbol in &request.params.symbol {
            let Some(pair) = self.market.find(symbol).filter(|&pair| !self.market.pairs[pair].delisted) else {
                self.refuse(conn, channel, symbol, &format!("Currency pair not supported {symbol}"), request);
                continue;
            };
            if let Some(reason) = self.active.refuses(channel, symbol) {
                self.refuse(conn, channel, symbol, &reason, request);
                continue;
            }
            let recorded = match self.ask_recording(conn, channel, symbol, argument) {
                Answer::Refused => {
                    self.refuse(conn, channel, symbol, "Subscription depth not supported", request);
                    continue;
                }
                Answer::Ack { text, again: false } => text,
                Answer::Ack { again: true, .. } | Answer::Unknown => None,
            };
            let silenced = self.active.silences(channel, symbol);
            let Some(subs) = self.routes[pair].of(channel) else { continue };
            // Asked twice, it is told anew: where the venue refuses, this keeps a client's repeat simple to test.
            subs.retain(|sub| !(sub.conn == conn && (channel != Channel::Ohlc || sub.argument == argument)));
            subs.push(Sub { conn, argument, silenced });
            let now_ns = self.now_ns();
            let ack = recorded.map(|ack| frames::recorded_ack(channel, symbol, &ack, request.req_id));
            let result = result_of(channel, symbol, argument, request.params.snapshot);
            let ack = ack.unwrap_or_else(|| frames::ack(channel, "subscribe", symbol, &result, request.req_id, now_ns));
            self.tell(conn, ack);
            if !silenced {
                accepted.push(pair);
            }
        }
        if self.recording.is_some() {
            self.play(conn);
        } else if request.params.snapshot != Some(false) {
            self.snapshots(conn, channel, argument, &accepted);
        }
    }

    fn snapshots(&mut self, conn: u64, channel: Channel, argument: u32, pairs: &[usize]) {
        let now_ns = self.now_ns();
        if channel == Channel::Trade {
            for mixed in pairs.chunks(MIXED_PAIRS) {
                let pairs = mixed.iter().map(|&pair| &self.market.pairs[pair]);
                let mut trades: Vec<_> = pairs
                    .flat_map(|pair| {
                        let skip = pair.history.len().saturating_sub(SNAPSHOT_TRADES);
                        pair.history.iter().skip(skip).map(move |trade| (pair, trade))
                    })
                    .collect();
                // Stable: trades of one pair keep the order of their ids.
                trades.sort_by_key(|(_, trade)| trade.ts_ns);
                let frame = frames::trades("snapshot", trades);
                self.tell(conn, frame);
            }
            return;
        }
        for &at in pairs {
            let pair = &mut self.market.pairs[at];
            let frame = match channel {
                Channel::Book => {
                    pair.deepen(argument as usize);
                    let levels = self.levels(at, argument);
                    let pair = &self.market.pairs[at];
                    frames::book(pair, "snapshot", &levels, pair.book.checksum(), now_ns)
                }
                Channel::Ohlc => {
                    pair.candles(argument);
                    let pair = &self.market.pairs[at];
                    let kept = pair.candles.iter().find(|kept| kept.interval_min == argument);
                    let candles = kept.into_iter().flat_map(|kept| {
                        kept.candles.iter().skip(kept.candles.len().saturating_sub(SNAPSHOT_CANDLES + 1))
                    });
                    frames::ohlc("snapshot", pair, argument, candles, now_ns)
                }
                _ => frames::ticker(pair, "snapshot", now_ns),
            };
            self.tell(conn, frame);
        }
    }

    fn subscribe_instrument(&mut self, conn: u64, request: &Request) {
        if let Some(reason) = self.active.refuses(Channel::Instrument, "") {
            return self.refuse(conn, Channel::Instrument, "", &reason, request);
        }
        let silenced = self.active.silences(Channel::Instrument, "");
        self.instrument.retain(|sub| sub.conn != conn);
        self.instrument.push(Sub { conn, argument: 0, silenced });
        let now_ns = self.now_ns();
        let result =
            r#""channel":"instrument","snapshot":true,"warnings":["tick_size is deprecated, use price_increment"]"#;
        self.tell(conn, frames::ack(Channel::Instrument, "subscribe", "", result, request.req_id, now_ns));
        if !silenced && request.params.snapshot != Some(false) {
            let pairs: Vec<_> = self.market.pairs.iter().collect();
            let frame = frames::instruments(&pairs, "snapshot", self.active.system.as_str());
            self.tell(conn, frame);
        }
    }

    fn unsubscribe(&mut self, conn: u64, request: &Request) {
        let Some(channel) = Channel::from_name(&request.params.channel) else {
            return self.refuse(conn, Channel::Status, "", "Channel is not supported", request);
        };
        if channel == Channel::Instrument {
            self.instrument.retain(|sub| sub.conn != conn);
            return self.acknowledge_end(conn, channel, "", r#""channel":"instrument""#, request);
        }
        if channel == Channel::Executions {
            self.account.followers.retain(|follower| follower.conn != conn);
            return self.acknowledge_end(conn, channel, "", r#""channel":"executions""#, request);
        }
        for symbol in &request.params.symbol {
            let Some(subs) = self.market.find(symbol).and_then(|pair| self.routes[pair].of(channel)) else {
                self.refuse(conn, channel, symbol, &format!("Currency pair not supported {symbol}"), request);
                continue;
            };
            let argument = request.params.interval.filter(|_| channel == Channel::Ohlc);
            let before = subs.len();
            subs.retain(|sub| sub.conn != conn || argument.is_some_and(|argument| argument != sub.argument));
            if subs.len() == before {
                self.refuse(conn, channel, symbol, "Subscription Not Found", request);
            } else {
                let result = format!(r#""channel":"{}","symbol":"{symbol}""#, channel.name());
                self.acknowledge_end(conn, channel, symbol, &result, request);
            }
        }
    }

    fn acknowledge_end(&mut self, conn: u64, channel: Channel, symbol: &str, result: &str, request: &Request) {
        let now_ns = self.now_ns();
        let mut frame = frames::ack(channel, "unsubscribe", symbol, result, request.req_id, now_ns);
        frame.kind = "unsubscribed";
        self.tell(conn, frame);
    }
}

fn result_of(channel: Channel, symbol: &str, argument: u32, snapshot: Option<bool>) -> String {
    let name = channel.name();
    let argument = match channel {
        Channel::Book => format!(r#""depth":{argument},"#),
        Channel::Ohlc => format!(r#""interval":{argument},"#),
        Channel::Ticker => r#""event_trigger":"trades","#.into(),
        _ => String::new(),
    };
    let snapshot = snapshot.unwrap_or(true);
    format!(r#""channel":"{name}",{argument}"snapshot":{snapshot},"symbol":"{symbol}""#)
}

//! What a frame of Kraken says, in our words.

use std::fmt;

use tapedeck_market::{Body, Event, Flags, SmolStr, UnixNanos, is_absurd};

/// What every event of a session has in common.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// Name of the config table.
    pub source: SmolStr,
    pub venue: SmolStr,
}

impl Ctx {
    /// An event of the session; a venue time that must move no candle is flagged here.
    #[must_use]
    pub fn event(
        &self,
        symbol: SmolStr,
        ts_event: Option<UnixNanos>,
        ts_recv: UnixNanos,
        flags: Flags,
        body: Body,
    ) -> Event {
        let absurd = ts_event.is_some_and(|ts| is_absurd(ts, ts_recv));
        let flags = if absurd { flags.with(Flags::ABSURD_TIME) } else { flags };
        Event {
            source: self.source.clone(),
            venue: self.venue.clone(),
            symbol,
            ts_event,
            ts_recv,
            flags,
            origin: None,
            body,
        }
    }
}

/// One frame, understood.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// Data, in the order of the frame.
    Events(Vec<Event>),
    /// A request was granted, for one symbol.
    Ack(Ack),
    /// A request was refused, for one symbol or for all of them.
    Refusal(Refusal),
    Heartbeat,
    Pong {
        req_id: Option<u64>,
        /// The venue's clock when it answered.
        time_out: Option<UnixNanos>,
    },
    /// We ask too often: `{"Error":"Exceeded msg rate"}`, which names no request.
    RateExceeded,
    /// A message of a later protocol: data that is kept as it came, not an error.
    Unknown,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Subscribe,
    Unsubscribe,
    Other,
}

impl Method {
    pub(super) fn from_name(name: &str) -> Method {
        match name {
            "subscribe" => Method::Subscribe,
            "unsubscribe" => Method::Unsubscribe,
            _ => Method::Other,
        }
    }
}

/// A granted request. One `subscribe` of many symbols is acked once a symbol.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    pub method: Method,
    pub channel: SmolStr,
    /// Absent for channels without one (`instrument`, `executions`).
    pub symbol: Option<SmolStr>,
    pub req_id: Option<u64>,
    /// Levels a side that were granted, for `book`.
    pub depth: Option<u32>,
    /// Minutes, for `ohlc`.
    pub interval: Option<u32>,
    /// What the venue wants us to know, such as a coming change of a field.
    pub warnings: Vec<String>,
    /// The venue's clock when it answered.
    pub time_out: Option<UnixNanos>,
}

/// A refused request. Without `symbol` only `req_id` tells what it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub method: Method,
    pub symbol: Option<SmolStr>,
    pub req_id: Option<u64>,
    /// The venue's words.
    pub error: String,
}

/// Why a frame was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// A few words of ours, the same for every frame with this fault: counted by them.
    pub reason: &'static str,
    /// What exactly, with the offending text.
    pub detail: String,
}

impl ParseError {
    pub(super) fn new(reason: &'static str, detail: impl fmt::Display) -> ParseError {
        ParseError { reason, detail: detail.to_string() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for ParseError {}

/// What a frame is rejected for.
pub(super) mod reason {
    pub(in super::super) const NOT_JSON: &str = "not a message";
    pub(in super::super) const SHAPE: &str = "unexpected shape";
    pub(in super::super) const NUMBER: &str = "number refused";
}

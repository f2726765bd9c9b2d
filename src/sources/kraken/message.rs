//! What a frame of Kraken says, in our words.

use tapedeck_market::{Event, SmolStr, UnixNanos};

pub(super) use crate::sources::parsed::reason;
pub use crate::sources::parsed::{Ctx, ParseError};

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

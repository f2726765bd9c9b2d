//! What the parsers of all venues have in common: how an event is begun, and why a frame is refused.

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
